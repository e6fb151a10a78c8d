//! A vendor module: loaded, asked for its functions, and called.

use super::arguments::Arguments;
use crate::ctypes::{
    C_GetFunctionList, C_GetInterface, CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_FUNCTION_LIST_3_2, CK_INTERFACE,
    CK_RV, CK_VERSION,
};
use crate::generated_dispatch;
use crate::ulong::{narrow, widen};
use core::ffi::{c_void, CStr};
use core::mem::{size_of, MaybeUninit};
use core::ptr::{null, null_mut};
use keyway_wire::generated::rv::{CKR_FUNCTION_NOT_SUPPORTED, CKR_GENERAL_ERROR, CKR_OK};
use keyway_wire::table::Call;
use std::ffi::CString;
use std::fmt;
use std::path::Path;

/// The versions to ask C_GetInterface for, best first.
const WANTED: [CK_VERSION; 2] = [CK_VERSION { major: 3, minor: 2 }, CK_VERSION { major: 3, minor: 0 }];

/// Why a file can't serve as a vendor module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// The loader refused it; its own words.
    Open(String),
    /// It has no C_GetFunctionList: it is no Cryptoki module.
    NotCryptoki,
    /// C_GetFunctionList failed with this RV.
    Refused(u64),
    /// C_GetFunctionList succeeded but gave no list.
    NoList,
    /// The list is of a version that is not known: major, minor.
    Version(u8, u8),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(reason) => write!(f, "can't be loaded: {reason}"),
            Self::NotCryptoki => f.write_str("is no Cryptoki module: it has no C_GetFunctionList"),
            Self::Refused(rv) => write!(f, "C_GetFunctionList failed with 0x{rv:x}"),
            Self::NoList => f.write_str("C_GetFunctionList gave no function list"),
            Self::Version(major, minor) => write!(f, "its function list has the unknown version {major}.{minor}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// A vendor module, which stays loaded.
pub struct Library {
    /// A copy, so that a function which the module's list is too short for is None like one that is NULL there.
    list: CK_FUNCTION_LIST_3_2,
}

impl Library {
    /// Loads the module and gets its functions; it is not initialised by that.
    ///
    /// # Errors
    /// The file is no usable module.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let name =
            CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| LoadError::Open("zero byte".into()))?;
        // SAFETY: the name is a text. That loading runs the module's own code is what this process is for.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(LoadError::Open(loader_error()));
        }
        // SAFETY: the handle is open and is never closed.
        let list = match unsafe { interface(handle) } {
            Some(list) => list,
            // SAFETY: as above.
            None => unsafe { function_list(handle) }?,
        };
        // SAFETY: the module says that its function list is there.
        let list = unsafe { copy_list(list) }?;
        Ok(Self { list })
    }

    /// The version of the function list that is in use: major, minor.
    #[must_use]
    pub fn version(&self) -> (u8, u8) {
        (self.list.version.major, self.list.version.minor)
    }

    /// C_Initialize with these flags and this pReserved, and no callbacks. Returns the RV.
    #[must_use]
    pub fn initialize(&self, flags: u64, reserved: Option<&[u8]>) -> u64 {
        let Some(function) = self.list.C_Initialize else {
            return CKR_FUNCTION_NOT_SUPPORTED;
        };
        let (Some(number), Ok(text)) = (narrow(flags), reserved.map(CString::new).transpose()) else {
            return CKR_GENERAL_ERROR;
        };
        let mut args = CK_C_INITIALIZE_ARGS {
            CreateMutex: None,
            DestroyMutex: None,
            LockMutex: None,
            UnlockMutex: None,
            flags: number,
            pReserved: text.as_ref().map_or(null_mut(), |text| text.as_ptr().cast_mut().cast()),
        };
        let plain = flags == 0 && text.is_none();
        let pointer = if plain {
            null_mut()
        } else {
            core::ptr::from_mut(&mut args).cast::<c_void>()
        };
        // SAFETY: the argument is NULL or the structure that the standard says.
        widen(unsafe { function(pointer) })
    }

    /// C_Finalize. Returns the RV.
    #[must_use]
    pub fn finalize(&self) -> u64 {
        let Some(function) = self.list.C_Finalize else {
            return CKR_FUNCTION_NOT_SUPPORTED;
        };
        // SAFETY: the argument is NULL as the standard says.
        widen(unsafe { function(null_mut()) })
    }

    /// Makes a call with these arguments, which were built for it. Returns the RV.
    #[must_use]
    pub fn call(&self, call: &Call, target: u64, arguments: &Arguments<'_>) -> u64 {
        let Some(target) = narrow(target) else {
            return CKR_GENERAL_ERROR;
        };
        // SAFETY: the functions are the module's, and the words were built from the row of this call.
        let rv = unsafe { generated_dispatch::call(&self.list, call.number, target, arguments.words()) };
        rv.map_or(CKR_FUNCTION_NOT_SUPPORTED, widen)
    }
}

fn loader_error() -> String {
    // SAFETY: the loader's text, if there is one, is there until the thread's next call of the loader.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "unknown reason".into();
    }
    // SAFETY: it is a text.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The function list of the module's best interface, if it has interfaces.
///
/// # Safety
/// The handle is open.
unsafe fn interface(handle: *mut c_void) -> Option<*const c_void> {
    // SAFETY: the handle is open and the name a text.
    let symbol = unsafe { libc::dlsym(handle, c"C_GetInterface".as_ptr()) };
    if symbol.is_null() {
        return None;
    }
    // SAFETY: a Cryptoki module's function of that name has this type.
    let function = unsafe { core::mem::transmute::<*mut c_void, C_GetInterface>(symbol) };
    for mut version in WANTED {
        let mut interface: *const CK_INTERFACE = null();
        let name = c"PKCS 11".as_ptr().cast_mut().cast();
        // SAFETY: the arguments are what the standard says.
        let rv = unsafe { function(name, &mut version, &mut interface, 0) };
        if widen(rv) == CKR_OK && !interface.is_null() {
            // SAFETY: the module says that its interface is there.
            let list = unsafe { (*interface).pFunctionList };
            if !list.is_null() {
                return Some(list);
            }
        }
    }
    None
}

/// The function list of version 2.
///
/// # Safety
/// The handle is open.
unsafe fn function_list(handle: *mut c_void) -> Result<*const c_void, LoadError> {
    // SAFETY: the handle is open and the name a text.
    let symbol = unsafe { libc::dlsym(handle, c"C_GetFunctionList".as_ptr()) };
    if symbol.is_null() {
        return Err(LoadError::NotCryptoki);
    }
    // SAFETY: a Cryptoki module's function of that name has this type.
    let function = unsafe { core::mem::transmute::<*mut c_void, C_GetFunctionList>(symbol) };
    let mut list: *const CK_FUNCTION_LIST = null();
    // SAFETY: the argument is what the standard says.
    let rv: CK_RV = unsafe { function(&mut list) };
    match widen(rv) {
        CKR_OK if list.is_null() => Err(LoadError::NoList),
        CKR_OK => Ok(list.cast()),
        rv => Err(LoadError::Refused(rv)),
    }
}

/// How many functions a list of this version has.
fn functions_of(version: CK_VERSION) -> Option<usize> {
    match (version.major, version.minor) {
        (2, _) => Some(68),
        (3, 0..=1) => Some(92),
        (3, _) => Some(104),
        _ => None,
    }
}

/// Copies as much of a module's list as its version says that there is.
///
/// # Safety
/// `list` points to a function list whose length is that of its version.
unsafe fn copy_list(list: *const c_void) -> Result<CK_FUNCTION_LIST_3_2, LoadError> {
    // SAFETY: every list starts with its version.
    let version = unsafe { list.cast::<CK_VERSION>().read() };
    let functions = functions_of(version).ok_or(LoadError::Version(version.major, version.minor))?;
    let all = size_of::<CK_FUNCTION_LIST_3_2>();
    // The version takes the room of one pointer; all newer lists continue the older ones.
    let length = all - (104 - functions) * size_of::<*const c_void>();
    let mut copy = MaybeUninit::<CK_FUNCTION_LIST_3_2>::zeroed();
    // SAFETY: the module's list has `length` bytes and the copy no fewer; zeroes are no version and no functions.
    unsafe {
        core::ptr::copy_nonoverlapping(list.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), length);
        Ok(copy.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_long_as_its_version_says() {
        let functions = |major, minor| functions_of(CK_VERSION { major, minor });
        assert_eq!(functions(2, 40), Some(68));
        assert_eq!(functions(2, 1), Some(68));
        assert_eq!(functions(3, 1), Some(92));
        assert_eq!(functions(3, 2), Some(104));
        assert_eq!(functions(0, 0), None);
        assert_eq!(size_of::<CK_FUNCTION_LIST_3_2>(), 105 * size_of::<*const c_void>());
        assert_eq!(size_of::<CK_FUNCTION_LIST>(), 69 * size_of::<*const c_void>());
    }

    #[test]
    fn what_is_no_module_is_refused_with_a_reason() {
        assert!(matches!(
            Library::load(Path::new("/nonexistent/module.so")),
            Err(LoadError::Open(_))
        ));
        assert!(matches!(
            Library::load(Path::new("libc.so.6")),
            Err(LoadError::NotCryptoki)
        ));
    }
}
