//! The guard that every exported function goes through.

use crate::arguments;
use crate::ctypes::{CK_RV, CK_ULONG};
use crate::ulong::{narrow, widen};
use core::ffi::c_void;
use keyway_wire::generated::rv::{CKR_CRYPTOKI_NOT_INITIALIZED, CKR_GENERAL_ERROR, CKR_OK};
use keyway_wire::table::Call;
use keyway_wire::value::{Bytes, Value};
use std::panic::{catch_unwind, AssertUnwindSafe, RefUnwindSafe};
use std::sync::OnceLock;

/// Receives the reply of a call: its RV and its reply values.
pub type Answer<'a> = dyn FnMut(u64, &[Value<'_>]) -> Result<(), u64> + 'a;

/// What a Cryptoki library does behind its C functions.
pub trait Cryptoki: Sync + RefUnwindSafe {
    /// Whether calls may be made now, in this process.
    ///
    /// # Errors
    /// CKR_CRYPTOKI_NOT_INITIALIZED.
    fn ready(&'static self) -> Result<(), u64>;

    /// C_Initialize with the flags of CK_C_INITIALIZE_ARGS and pReserved. Returns the RV.
    fn initialize(&'static self, flags: u64, reserved: Bytes<'_>) -> u64;

    /// C_Finalize. Returns the RV.
    fn finalize(&'static self) -> u64;

    /// The library goes, or the process ends: what it holds of the system is to be given back, as far as nobody uses it.
    fn unload(&'static self);

    /// The mechanism of the session's active message operation to which `call` belongs.
    fn message_mechanism(&'static self, session: u64, call: &'static Call) -> Option<u64>;

    /// Makes a call that goes to the token. Returns the RV.
    ///
    /// `answer` is called at most once, with the reply values in the order of the call's row, or none;
    /// C_OpenSession answers with the new session as a cell.
    ///
    /// # Errors
    /// What `answer` returns is the RV instead, as is an error of the gateway's own.
    fn invoke(
        &'static self,
        call: &'static Call,
        target: u64,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<u64, u64>;
}

static LIBRARY: OnceLock<&'static dyn Cryptoki> = OnceLock::new();

/// Says what serves the C functions; the first word counts.
pub fn bind(library: &'static dyn Cryptoki) {
    LIBRARY.get_or_init(|| library);
}

/// Runs what stands behind a C function; neither a panic nor a number too large for a CK_RV leaves it.
pub fn guarded(body: impl FnOnce(&'static dyn Cryptoki) -> Result<u64, u64>) -> CK_RV {
    let Some(library) = LIBRARY.get() else {
        // Nobody has a function list before the first bind.
        return CKR_CRYPTOKI_NOT_INITIALIZED as CK_RV;
    };
    let rv = match catch_unwind(AssertUnwindSafe(|| body(*library))) {
        Ok(Ok(rv) | Err(rv)) => rv,
        Err(_) => CKR_GENERAL_ERROR,
    };
    narrow(rv).unwrap_or(CKR_GENERAL_ERROR as CK_RV)
}

/// Runs when the library is unloaded, or the process ends.
pub extern "C" fn unloaded() {
    if let Some(library) = LIBRARY.get() {
        // There is nobody left to tell.
        let _ = catch_unwind(|| library.unload());
    }
}

/// Makes the call of a generated function.
///
/// # Safety
/// `words` are the C arguments of the call's row after the target, and the application keeps to the standard: what it
/// points to has the length that it says, and nobody else writes it during the call.
pub(crate) unsafe fn enter(call: &'static Call, target: CK_ULONG, words: &[*mut c_void]) -> CK_RV {
    guarded(|library| {
        library.ready()?;
        let target = widen(target);
        let message = || library.message_mechanism(target, call);
        // SAFETY: as above.
        let args = unsafe { arguments::read(call, words, message) }?;
        let mut answer = |rv: u64, values: &[Value<'_>]| {
            // SAFETY: as above; the values in `values` are not those in `args`.
            unsafe { arguments::write(call, words, &args, rv == CKR_OK, values) }
        };
        library.invoke(call, target, &args, &mut answer)
    })
}

/// A number among the C arguments; what is in a word is known by the call's row.
pub(crate) fn word(number: CK_ULONG) -> *mut c_void {
    number as usize as *mut c_void
}
