//! The information structures: from values to the caller's memory.

use crate::ctypes::{CK_INFO, CK_MECHANISM_INFO, CK_SESSION_INFO, CK_SLOT_INFO, CK_TOKEN_INFO, CK_ULONG, CK_VERSION};
use crate::ulong::narrow;
use core::ffi::c_void;
use keyway_wire::generated::rv::CKR_GENERAL_ERROR;
use keyway_wire::value::{Info, MechanismInfo, ModuleInfo, SessionInfo, SlotInfo, TokenInfo};

/// Writes `info` to the structure that it is about.
///
/// # Errors
/// CKR_GENERAL_ERROR: a number does not fit a CK_ULONG of this machine.
///
/// # Safety
/// A pointer that is not NULL points to a structure of the kind of `info`.
pub unsafe fn write(pointer: *mut c_void, info: &Info) -> Result<(), u64> {
    if pointer.is_null() {
        return Ok(());
    }
    // SAFETY: the caller vouches for the kind of the structure; alignment is not taken for granted.
    unsafe {
        match info {
            Info::Module(info) => pointer.cast::<CK_INFO>().write_unaligned(module(info)?),
            Info::Slot(info) => pointer.cast::<CK_SLOT_INFO>().write_unaligned(slot(info)?),
            Info::Token(info) => pointer.cast::<CK_TOKEN_INFO>().write_unaligned(token(info)?),
            Info::Session(info) => pointer.cast::<CK_SESSION_INFO>().write_unaligned(session(info)?),
            Info::Mechanism(info) => pointer.cast::<CK_MECHANISM_INFO>().write_unaligned(mechanism(info)?),
        }
    }
    Ok(())
}

fn number(number: u64) -> Result<CK_ULONG, u64> {
    narrow(number).ok_or(CKR_GENERAL_ERROR)
}

fn version([major, minor]: [u8; 2]) -> CK_VERSION {
    CK_VERSION { major, minor }
}

fn module(info: &ModuleInfo) -> Result<CK_INFO, u64> {
    Ok(CK_INFO {
        cryptokiVersion: version(info.cryptoki_version),
        manufacturerID: info.manufacturer_id,
        flags: number(info.flags)?,
        libraryDescription: info.library_description,
        libraryVersion: version(info.library_version),
    })
}

fn slot(info: &SlotInfo) -> Result<CK_SLOT_INFO, u64> {
    Ok(CK_SLOT_INFO {
        slotDescription: info.slot_description,
        manufacturerID: info.manufacturer_id,
        flags: number(info.flags)?,
        hardwareVersion: version(info.hardware_version),
        firmwareVersion: version(info.firmware_version),
    })
}

fn token(info: &TokenInfo) -> Result<CK_TOKEN_INFO, u64> {
    Ok(CK_TOKEN_INFO {
        label: info.label,
        manufacturerID: info.manufacturer_id,
        model: info.model,
        serialNumber: info.serial_number,
        flags: number(info.flags)?,
        ulMaxSessionCount: number(info.max_session_count)?,
        ulSessionCount: number(info.session_count)?,
        ulMaxRwSessionCount: number(info.max_rw_session_count)?,
        ulRwSessionCount: number(info.rw_session_count)?,
        ulMaxPinLen: number(info.max_pin_len)?,
        ulMinPinLen: number(info.min_pin_len)?,
        ulTotalPublicMemory: number(info.total_public_memory)?,
        ulFreePublicMemory: number(info.free_public_memory)?,
        ulTotalPrivateMemory: number(info.total_private_memory)?,
        ulFreePrivateMemory: number(info.free_private_memory)?,
        hardwareVersion: version(info.hardware_version),
        firmwareVersion: version(info.firmware_version),
        utcTime: info.utc_time,
    })
}

fn session(info: &SessionInfo) -> Result<CK_SESSION_INFO, u64> {
    Ok(CK_SESSION_INFO {
        slotID: number(info.slot)?,
        state: number(info.state)?,
        flags: number(info.flags)?,
        ulDeviceError: number(info.device_error)?,
    })
}

fn mechanism(info: &MechanismInfo) -> Result<CK_MECHANISM_INFO, u64> {
    Ok(CK_MECHANISM_INFO {
        ulMinKeySize: number(info.min_key_size)?,
        ulMaxKeySize: number(info.max_key_size)?,
        flags: number(info.flags)?,
    })
}
