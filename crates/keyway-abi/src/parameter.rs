//! Mechanism parameters in the caller's memory.

use crate::ctypes::CK_ULONG;
use crate::memory;
use core::ffi::c_void;
use keyway_wire::value::{Bytes, Parameter};

pub unsafe fn read<'a>(_mechanism: u64, pointer: *const c_void, length: CK_ULONG) -> Result<Parameter<'a>, u64> {
    // SAFETY: the caller's word.
    Ok(match unsafe { memory::bytes(pointer.cast(), length) }? {
        Bytes::Null(length) => Parameter::Null(length),
        Bytes::Data(data) => Parameter::Flat(data),
    })
}

pub unsafe fn read_message<'a>(
    _mechanism: Option<u64>,
    pointer: *const c_void,
    length: CK_ULONG,
) -> Result<Parameter<'a>, u64> {
    // SAFETY: the caller's word.
    unsafe { read(0, pointer, length) }
}

pub unsafe fn write_back(_pointer: *mut c_void, _length: CK_ULONG, _reply: &Parameter<'_>) -> Result<(), u64> {
    Ok(())
}
