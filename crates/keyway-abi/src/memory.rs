//! The caller's memory: the smallest steps through raw pointers, on which the rest of the client half stands.
//!
//! Nothing here trusts alignment: applications do pass CK_ULONGs in unaligned buffers.

use crate::ctypes::CK_ULONG;
use crate::ulong::{narrow, widen};
use keyway_wire::generated::rv::{CKR_GENERAL_ERROR, CKR_HOST_MEMORY};
use keyway_wire::limits::MAX_BODY;
use keyway_wire::value::Bytes;

/// The bytes at `pointer`, or NULL with the length that came with it.
///
/// # Errors
/// CKR_HOST_MEMORY: there are more of them than a frame can carry.
///
/// # Safety
/// A pointer that is not NULL points to `length` readable bytes that nobody writes while the result lives.
pub unsafe fn bytes<'a>(pointer: *const u8, length: CK_ULONG) -> Result<Bytes<'a>, u64> {
    if pointer.is_null() {
        return Ok(Bytes::Null(widen(length)));
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_BODY)
        .ok_or(CKR_HOST_MEMORY)?;
    // SAFETY: the pointer is not NULL, the caller vouches for the bytes, and the length is far below isize::MAX.
    Ok(Bytes::Data(unsafe { core::slice::from_raw_parts(pointer, length) }))
}

/// The value of a cell; None for a NULL pointer.
///
/// # Safety
/// A pointer that is not NULL can be read from.
pub unsafe fn cell(pointer: *const CK_ULONG) -> Option<u64> {
    // SAFETY: as above.
    (!pointer.is_null()).then(|| widen(unsafe { pointer.read_unaligned() }))
}

/// Writes a number into a cell; a NULL pointer is left alone.
///
/// # Errors
/// CKR_GENERAL_ERROR: the number does not fit a CK_ULONG of this machine.
///
/// # Safety
/// A pointer that is not NULL can be written to.
pub unsafe fn set_cell(pointer: *mut CK_ULONG, number: u64) -> Result<(), u64> {
    let number = narrow(number).ok_or(CKR_GENERAL_ERROR)?;
    if !pointer.is_null() {
        // SAFETY: as above.
        unsafe { pointer.write_unaligned(number) };
    }
    Ok(())
}

/// Copies `data` to `pointer`.
///
/// # Safety
/// A pointer that is not NULL points to at least that many writable bytes.
pub unsafe fn copy(data: &[u8], pointer: *mut u8) {
    if !pointer.is_null() {
        // SAFETY: the caller vouches for the room; the data came off the wire and does not overlap it.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), pointer, data.len()) };
    }
}

/// Copies numbers to an array of CK_ULONG.
///
/// # Errors
/// As [`set_cell`].
///
/// # Safety
/// A pointer that is not NULL points to room for at least that many.
pub unsafe fn copy_numbers(numbers: &[u64], pointer: *mut CK_ULONG) -> Result<(), u64> {
    for (index, number) in numbers.iter().enumerate() {
        if !pointer.is_null() {
            // SAFETY: the index is below the number of elements that there is room for.
            unsafe { set_cell(pointer.add(index), *number) }?;
        }
    }
    Ok(())
}
