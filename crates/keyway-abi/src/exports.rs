//! The functions of a Cryptoki library that are not calls to a token: initialisation, function lists and interfaces.
#![allow(non_snake_case)] // the standard's names

use crate::ctypes::{CK_C_INITIALIZE_ARGS, CK_FUNCTION_LIST, CK_INTERFACE, CK_RV, CK_ULONG, CK_VERSION};
use crate::generated_exports::{FUNCTION_LIST, FUNCTION_LIST_3_0, FUNCTION_LIST_3_2};
use crate::guard::guarded;
use crate::memory;
use crate::ulong::{narrow, widen};
use core::ffi::{c_void, CStr};
use core::ptr::addr_of;
use keyway_wire::generated::rv::{
    CKR_ARGUMENTS_BAD, CKR_BUFFER_TOO_SMALL, CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_FUNCTION_FAILED, CKR_OK,
};
use keyway_wire::value::Bytes;

/// CKF_OS_LOCKING_OK of CK_C_INITIALIZE_ARGS.
const CKF_OS_LOCKING_OK: u64 = 2;
/// Longest pReserved text that is looked at, in bytes.
const MAX_RESERVED: usize = 65_536;

/// The name of the standard's interfaces.
static NAME: &CStr = c"PKCS 11";

#[repr(transparent)]
struct Interfaces([CK_INTERFACE; 3]);

// SAFETY: the pointers in it point to statics that nobody writes.
unsafe impl Sync for Interfaces {}

/// All interfaces. C_GetInterface answers with the first that fits, so an application that names no version gets 2.40: it
/// may take a list of version 3 for a token that has the functions of version 3 (SunPKCS11 takes C_SessionCancel for
/// granted then), and what the token behind a gateway has is not known before C_Initialize. Who names a version gets it.
static INTERFACES: Interfaces = Interfaces([
    interface(addr_of!(FUNCTION_LIST).cast()),
    interface(addr_of!(FUNCTION_LIST_3_0).cast()),
    interface(addr_of!(FUNCTION_LIST_3_2).cast()),
]);

/// The flag tells that the parent goes on after a fork.
const fn interface(list: *const c_void) -> CK_INTERFACE {
    const CKF_INTERFACE_FORK_SAFE: CK_ULONG = 1;
    CK_INTERFACE {
        pInterfaceName: NAME.as_ptr().cast(),
        pFunctionList: list,
        flags: CKF_INTERFACE_FORK_SAFE,
    }
}

/// C_Initialize.
///
/// # Safety
/// As the standard says: NULL or a CK_C_INITIALIZE_ARGS. A pReserved that is not NULL is a text.
pub unsafe extern "C" fn C_Initialize(pInitArgs: *mut c_void) -> CK_RV {
    guarded(|library| {
        if library.ready().is_ok() {
            return Err(CKR_CRYPTOKI_ALREADY_INITIALIZED);
        }
        if pInitArgs.is_null() {
            return Ok(library.initialize(0, Bytes::Null(0)));
        }
        // SAFETY: the pointer is not NULL and points to this structure.
        let args = unsafe { pInitArgs.cast::<CK_C_INITIALIZE_ARGS>().read_unaligned() };
        let callbacks = [
            args.CreateMutex.is_some(),
            args.DestroyMutex.is_some(),
            args.LockMutex.is_some(),
            args.UnlockMutex.is_some(),
        ];
        if callbacks.contains(&true) && callbacks.contains(&false) {
            return Err(CKR_ARGUMENTS_BAD);
        }
        // Callbacks stay in this process; an application that has some calls from several threads, so its module is
        // to lock, with what it has.
        let locking = if callbacks[0] { CKF_OS_LOCKING_OK } else { 0 };
        // SAFETY: pReserved is NULL or a text.
        let reserved = unsafe { text(args.pReserved.cast()) };
        Ok(library.initialize(widen(args.flags) | locking, reserved))
    })
}

unsafe fn text<'a>(pointer: *const u8) -> Bytes<'a> {
    if pointer.is_null() {
        return Bytes::Null(0);
    }
    // SAFETY: every byte up to the zero can be read, and none behind it is.
    let length = (0..MAX_RESERVED)
        .find(|index| unsafe { *pointer.add(*index) } == 0)
        .unwrap_or(MAX_RESERVED);
    // SAFETY: these are the bytes just seen.
    Bytes::Data(unsafe { core::slice::from_raw_parts(pointer, length) })
}

/// C_Finalize.
///
/// # Safety
/// None beyond the ABI; the pointer is not followed.
pub unsafe extern "C" fn C_Finalize(pReserved: *mut c_void) -> CK_RV {
    guarded(|library| {
        library.ready()?;
        if pReserved.is_null() {
            Ok(library.finalize())
        } else {
            Err(CKR_ARGUMENTS_BAD)
        }
    })
}

/// C_GetFunctionList: the list of version 2.40.
///
/// # Safety
/// As the standard says: NULL or where to put the pointer.
pub unsafe extern "C" fn C_GetFunctionList(ppFunctionList: *mut *const CK_FUNCTION_LIST) -> CK_RV {
    if ppFunctionList.is_null() {
        return CKR_ARGUMENTS_BAD as CK_RV;
    }
    // SAFETY: the pointer is not NULL.
    unsafe { ppFunctionList.write_unaligned(&FUNCTION_LIST) };
    CKR_OK as CK_RV
}

/// C_GetInterfaceList: the interfaces of versions 3.2, 3.0 and 2.40.
///
/// # Safety
/// As the standard says: NULL or room for as many interfaces as `pulCount` points to.
pub unsafe extern "C" fn C_GetInterfaceList(pInterfacesList: *mut CK_INTERFACE, pulCount: *mut CK_ULONG) -> CK_RV {
    let count = INTERFACES.0.len();
    // SAFETY: the pointer is NULL or can be read from and written to.
    let (capacity, rv) = unsafe {
        let Some(capacity) = memory::cell(pulCount) else {
            return CKR_ARGUMENTS_BAD as CK_RV;
        };
        (capacity, memory::set_cell(pulCount, count as u64))
    };
    let rv = match rv {
        Err(rv) => rv,
        Ok(()) if pInterfacesList.is_null() => CKR_OK,
        Ok(()) if capacity < count as u64 => CKR_BUFFER_TOO_SMALL,
        Ok(()) => {
            for (index, interface) in INTERFACES.0.iter().enumerate() {
                // SAFETY: the caller says that there is room for them all.
                unsafe { pInterfacesList.add(index).write_unaligned(*interface) };
            }
            CKR_OK
        }
    };
    narrow(rv).unwrap_or(CKR_FUNCTION_FAILED as CK_RV)
}

/// C_GetInterface: the oldest interface that has the name, the version and the flags asked for.
///
/// # Safety
/// As the standard says: NULL or a text, NULL or a version, NULL or where to put the pointer.
pub unsafe extern "C" fn C_GetInterface(
    pInterfaceName: *mut u8,
    pVersion: *mut CK_VERSION,
    ppInterface: *mut *const CK_INTERFACE,
    flags: CK_ULONG,
) -> CK_RV {
    if ppInterface.is_null() {
        return CKR_ARGUMENTS_BAD as CK_RV;
    }
    // SAFETY: the pointer is NULL or a text.
    let name = (!pInterfaceName.is_null()).then(|| unsafe { CStr::from_ptr(pInterfaceName.cast()) });
    // SAFETY: the pointer is NULL or a version.
    let version = (!pVersion.is_null()).then(|| unsafe { pVersion.read_unaligned() });
    let found = INTERFACES.0.iter().find(|interface| {
        // SAFETY: every function list begins with its version.
        let offered = unsafe { interface.pFunctionList.cast::<CK_VERSION>().read() };
        name.map_or(true, |name| name == NAME)
            && version.map_or(true, |version| version == offered)
            && interface.flags & flags == flags
    });
    match found {
        Some(interface) => {
            // SAFETY: the pointer is not NULL.
            unsafe { ppInterface.write_unaligned(interface) };
            CKR_OK as CK_RV
        }
        None => CKR_FUNCTION_FAILED as CK_RV,
    }
}

/// Exports the three functions by which applications find a library, served by `$library`, a `&'static dyn Cryptoki`, and has
/// it told when it is unloaded.
#[macro_export]
macro_rules! export {
    ($library:expr) => {
        #[used]
        #[link_section = ".fini_array"]
        static UNLOADED: extern "C" fn() = $crate::guard::unloaded;

        /// C_GetFunctionList.
        ///
        /// # Safety
        /// As the standard says.
        #[no_mangle]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn C_GetFunctionList(
            list: *mut *const $crate::ctypes::CK_FUNCTION_LIST,
        ) -> $crate::ctypes::CK_RV {
            $crate::guard::bind($library);
            // SAFETY: the same contract.
            unsafe { $crate::exports::C_GetFunctionList(list) }
        }

        /// C_GetInterfaceList.
        ///
        /// # Safety
        /// As the standard says.
        #[no_mangle]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn C_GetInterfaceList(
            list: *mut $crate::ctypes::CK_INTERFACE,
            count: *mut $crate::ctypes::CK_ULONG,
        ) -> $crate::ctypes::CK_RV {
            $crate::guard::bind($library);
            // SAFETY: the same contract.
            unsafe { $crate::exports::C_GetInterfaceList(list, count) }
        }

        /// C_GetInterface.
        ///
        /// # Safety
        /// As the standard says.
        #[no_mangle]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn C_GetInterface(
            name: *mut u8,
            version: *mut $crate::ctypes::CK_VERSION,
            interface: *mut *const $crate::ctypes::CK_INTERFACE,
            flags: $crate::ctypes::CK_ULONG,
        ) -> $crate::ctypes::CK_RV {
            $crate::guard::bind($library);
            // SAFETY: the same contract.
            unsafe { $crate::exports::C_GetInterface(name, version, interface, flags) }
        }
    };
}
