//! The information structures as a vendor module filled them in.

use crate::ctypes::{CK_INFO, CK_MECHANISM_INFO, CK_SESSION_INFO, CK_SLOT_INFO, CK_TOKEN_INFO, CK_VERSION};
use crate::ulong::widen;
use core::mem::size_of;
use keyway_wire::table::Kind;
use keyway_wire::value::{Info, MechanismInfo, ModuleInfo, SessionInfo, SlotInfo, TokenInfo};

/// The size of the structure of an argument of this kind; 0 for other kinds.
pub(super) const fn size(kind: Kind) -> usize {
    match kind {
        Kind::InfoOut => size_of::<CK_INFO>(),
        Kind::SlotInfoOut => size_of::<CK_SLOT_INFO>(),
        Kind::TokenInfoOut => size_of::<CK_TOKEN_INFO>(),
        Kind::SessionInfoOut => size_of::<CK_SESSION_INFO>(),
        Kind::MechanismInfoOut => size_of::<CK_MECHANISM_INFO>(),
        _ => 0,
    }
}

/// Reads the structure of an argument of this kind.
///
/// # Safety
/// `pointer` points to that structure, aligned.
pub(super) unsafe fn read(kind: Kind, pointer: *const u8) -> Option<Info> {
    // SAFETY: as above; every pattern of bytes is a value of these structures.
    unsafe {
        match kind {
            Kind::InfoOut => Some(module(&pointer.cast::<CK_INFO>().read())),
            Kind::SlotInfoOut => Some(slot(&pointer.cast::<CK_SLOT_INFO>().read())),
            Kind::TokenInfoOut => Some(token(&pointer.cast::<CK_TOKEN_INFO>().read())),
            Kind::SessionInfoOut => Some(session(&pointer.cast::<CK_SESSION_INFO>().read())),
            Kind::MechanismInfoOut => Some(mechanism(&pointer.cast::<CK_MECHANISM_INFO>().read())),
            _ => None,
        }
    }
}

fn version(version: CK_VERSION) -> [u8; 2] {
    [version.major, version.minor]
}

fn module(info: &CK_INFO) -> Info {
    Info::Module(ModuleInfo {
        cryptoki_version: version(info.cryptokiVersion),
        manufacturer_id: info.manufacturerID,
        flags: widen(info.flags),
        library_description: info.libraryDescription,
        library_version: version(info.libraryVersion),
    })
}

fn slot(info: &CK_SLOT_INFO) -> Info {
    Info::Slot(SlotInfo {
        slot_description: info.slotDescription,
        manufacturer_id: info.manufacturerID,
        flags: widen(info.flags),
        hardware_version: version(info.hardwareVersion),
        firmware_version: version(info.firmwareVersion),
    })
}

fn token(info: &CK_TOKEN_INFO) -> Info {
    Info::Token(Box::new(TokenInfo {
        label: info.label,
        manufacturer_id: info.manufacturerID,
        model: info.model,
        serial_number: info.serialNumber,
        flags: widen(info.flags),
        max_session_count: widen(info.ulMaxSessionCount),
        session_count: widen(info.ulSessionCount),
        max_rw_session_count: widen(info.ulMaxRwSessionCount),
        rw_session_count: widen(info.ulRwSessionCount),
        max_pin_len: widen(info.ulMaxPinLen),
        min_pin_len: widen(info.ulMinPinLen),
        total_public_memory: widen(info.ulTotalPublicMemory),
        free_public_memory: widen(info.ulFreePublicMemory),
        total_private_memory: widen(info.ulTotalPrivateMemory),
        free_private_memory: widen(info.ulFreePrivateMemory),
        hardware_version: version(info.hardwareVersion),
        firmware_version: version(info.firmwareVersion),
        utc_time: info.utcTime,
    }))
}

fn session(info: &CK_SESSION_INFO) -> Info {
    Info::Session(SessionInfo {
        slot: widen(info.slotID),
        state: widen(info.state),
        flags: widen(info.flags),
        device_error: widen(info.ulDeviceError),
    })
}

fn mechanism(info: &CK_MECHANISM_INFO) -> Info {
    Info::Mechanism(MechanismInfo {
        min_key_size: widen(info.ulMinKeySize),
        max_key_size: widen(info.ulMaxKeySize),
        flags: widen(info.flags),
    })
}
