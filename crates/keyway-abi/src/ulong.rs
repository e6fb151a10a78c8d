//! CK_ULONG to 64 bits and back (docs/wire.md, introduction).

use crate::ctypes::CK_ULONG;

/// CK_UNAVAILABLE_INFORMATION of this machine.
pub const UNAVAILABLE: CK_ULONG = CK_ULONG::MAX;

/// A CK_ULONG as it travels: all ones stay all ones.
#[must_use]
#[allow(clippy::useless_conversion)] // CK_ULONG has 32 bits on some machines
pub fn widen(number: CK_ULONG) -> u64 {
    if number == UNAVAILABLE {
        u64::MAX
    } else {
        u64::from(number)
    }
}

/// A number that travelled as a CK_ULONG; None if it does not fit.
#[must_use]
#[allow(clippy::unnecessary_fallible_conversions)] // as above
pub fn narrow(number: u64) -> Option<CK_ULONG> {
    if number == u64::MAX {
        Some(UNAVAILABLE)
    } else {
        CK_ULONG::try_from(number).ok()
    }
}
