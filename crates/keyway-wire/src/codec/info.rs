//! The information structures (docs/wire.md, section 4): members in the order of the C declaration.

use crate::cursor::{Reader, Writer};
use crate::error::WireError;
use crate::table::Kind;
use crate::value::{Info, MechanismInfo, ModuleInfo, SessionInfo, SlotInfo, TokenInfo};

/// Appends the members of a structure.
pub(super) fn put_info(w: &mut Writer<'_>, value: &Info) {
    match value {
        Info::Module(info) => {
            w.bytes(&info.cryptoki_version);
            w.bytes(&info.manufacturer_id);
            w.u64(info.flags);
            w.bytes(&info.library_description);
            w.bytes(&info.library_version);
        }
        Info::Slot(info) => {
            w.bytes(&info.slot_description);
            w.bytes(&info.manufacturer_id);
            w.u64(info.flags);
            w.bytes(&info.hardware_version);
            w.bytes(&info.firmware_version);
        }
        Info::Token(info) => put_token_info(w, info),
        Info::Session(info) => w.numbers(&[info.slot, info.state, info.flags, info.device_error]),
        Info::Mechanism(info) => w.numbers(&[info.min_key_size, info.max_key_size, info.flags]),
    }
}

/// Takes the members of the structure of this kind of argument.
pub(super) fn info(r: &mut Reader<'_>, kind: Kind) -> Result<Info, WireError> {
    Ok(match kind {
        Kind::InfoOut => Info::Module(ModuleInfo {
            cryptoki_version: *r.array()?,
            manufacturer_id: *r.array()?,
            flags: r.u64()?,
            library_description: *r.array()?,
            library_version: *r.array()?,
        }),
        Kind::SlotInfoOut => Info::Slot(SlotInfo {
            slot_description: *r.array()?,
            manufacturer_id: *r.array()?,
            flags: r.u64()?,
            hardware_version: *r.array()?,
            firmware_version: *r.array()?,
        }),
        Kind::TokenInfoOut => Info::Token(Box::new(token_info(r)?)),
        Kind::SessionInfoOut => Info::Session(SessionInfo {
            slot: r.u64()?,
            state: r.u64()?,
            flags: r.u64()?,
            device_error: r.u64()?,
        }),
        Kind::MechanismInfoOut => Info::Mechanism(MechanismInfo {
            min_key_size: r.u64()?,
            max_key_size: r.u64()?,
            flags: r.u64()?,
        }),
        _ => return Err(WireError::Mismatch),
    })
}

/// Whether a structure is that of this kind of argument.
pub(super) fn matches(kind: Kind, value: &Info) -> bool {
    matches!(
        (kind, value),
        (Kind::InfoOut, Info::Module(_))
            | (Kind::SlotInfoOut, Info::Slot(_))
            | (Kind::TokenInfoOut, Info::Token(_))
            | (Kind::SessionInfoOut, Info::Session(_))
            | (Kind::MechanismInfoOut, Info::Mechanism(_))
    )
}

fn put_token_info(w: &mut Writer<'_>, info: &TokenInfo) {
    w.bytes(&info.label);
    w.bytes(&info.manufacturer_id);
    w.bytes(&info.model);
    w.bytes(&info.serial_number);
    w.numbers(&[
        info.flags,
        info.max_session_count,
        info.session_count,
        info.max_rw_session_count,
        info.rw_session_count,
        info.max_pin_len,
        info.min_pin_len,
        info.total_public_memory,
        info.free_public_memory,
        info.total_private_memory,
        info.free_private_memory,
    ]);
    w.bytes(&info.hardware_version);
    w.bytes(&info.firmware_version);
    w.bytes(&info.utc_time);
}

fn token_info(r: &mut Reader<'_>) -> Result<TokenInfo, WireError> {
    Ok(TokenInfo {
        label: *r.array()?,
        manufacturer_id: *r.array()?,
        model: *r.array()?,
        serial_number: *r.array()?,
        flags: r.u64()?,
        max_session_count: r.u64()?,
        session_count: r.u64()?,
        max_rw_session_count: r.u64()?,
        rw_session_count: r.u64()?,
        max_pin_len: r.u64()?,
        min_pin_len: r.u64()?,
        total_public_memory: r.u64()?,
        free_public_memory: r.u64()?,
        total_private_memory: r.u64()?,
        free_private_memory: r.u64()?,
        hardware_version: *r.array()?,
        firmware_version: *r.array()?,
        utc_time: *r.array()?,
    })
}
