//! C arguments to request values, and reply values to where the C arguments point (docs/wire.md, section 4).
//!
//! The C arguments come as words, one for each; the call's row tells what they are.

use crate::ctypes::{CK_ATTRIBUTE, CK_MECHANISM, CK_ULONG};
use crate::ulong::widen;
use crate::{attributes, information, memory, parameter};
use core::ffi::{c_void, CStr};
use keyway_wire::generated::call::{
    C_MESSAGEDECRYPTINIT, C_MESSAGEENCRYPTINIT, C_MESSAGESIGNINIT, C_MESSAGEVERIFYINIT, C_UNWRAPKEYAUTHENTICATED,
    C_WRAPKEYAUTHENTICATED,
};
use keyway_wire::generated::message_shapes_of;
use keyway_wire::generated::rv::CKR_ARGUMENTS_BAD;
use keyway_wire::table::{Call, Kind};
use keyway_wire::value::{Bytes, Mechanism, Numbers, ObjectsRoom, Output, Room, Value};

/// How many C arguments an argument of this kind stands for.
const fn width(kind: Kind) -> usize {
    match kind {
        Kind::Bytes
        | Kind::Pin
        | Kind::Parameter
        | Kind::Template
        | Kind::TemplateOut
        | Kind::Buffer
        | Kind::Fill
        | Kind::UlongsOut => 2,
        Kind::ObjectsOut => 3,
        _ => 1,
    }
}

/// Each argument of the row with its words.
fn arguments<'w>(call: &'static Call, words: &'w [*mut c_void]) -> impl Iterator<Item = (Kind, &'w [*mut c_void])> {
    let mut rest = words;
    call.args.iter().map(move |kind| {
        let (own, behind) = rest.split_at(width(*kind));
        rest = behind;
        (*kind, own)
    })
}

fn ulong(word: *mut c_void) -> CK_ULONG {
    word as usize as CK_ULONG
}

/// Reads the request values.
///
/// `message` tells the mechanism of the active message operation; only message functions ask.
///
/// # Errors
/// CKR_HOST_MEMORY: something is larger than a frame can be.
///
/// # Safety
/// `words` are the C arguments of `call` and point to what the standard says; nobody writes it while the result lives.
pub unsafe fn read<'a>(
    call: &'static Call,
    words: &[*mut c_void],
    message: impl Fn() -> Option<u64>,
) -> Result<Vec<Value<'a>>, u64> {
    let mut values = Vec::with_capacity(call.args.len());
    for (kind, words) in arguments(call, words) {
        if kind != Kind::Ignored {
            // SAFETY: as above.
            values.push(unsafe { read_one(call, kind, words, &message) }?);
        }
    }
    Ok(values)
}

unsafe fn read_one<'a>(
    call: &Call,
    kind: Kind,
    words: &[*mut c_void],
    message: &impl Fn() -> Option<u64>,
) -> Result<Value<'a>, u64> {
    let pointer = words[0];
    // SAFETY: the row tells what each word is, the caller vouches for what it points to.
    Ok(unsafe {
        match kind {
            Kind::Ulong | Kind::Object => Value::Ulong(widen(ulong(pointer))),
            // A CK_BBOOL is the lowest byte of its word.
            Kind::Bool => Value::Bool(pointer as usize as u8),
            Kind::Bytes | Kind::Pin => Value::Bytes(memory::bytes(pointer.cast(), ulong(words[1]))?),
            Kind::Name if pointer.is_null() => Value::Bytes(Bytes::Null(0)),
            Kind::Name => Value::Bytes(Bytes::Data(CStr::from_ptr(pointer.cast()).to_bytes())),
            Kind::Label => Value::Label(pointer.cast::<[u8; 32]>().as_ref()),
            Kind::Mechanism => Value::Mechanism(mechanism(call, pointer.cast())?),
            Kind::Parameter => Value::Parameter(parameter::read_message(message(), pointer, ulong(words[1]))?),
            Kind::Template => Value::Template(attributes::read_template(pointer.cast(), ulong(words[1]))?),
            Kind::TemplateOut => Value::Template(attributes::read_query(pointer.cast(), ulong(words[1]))?),
            Kind::Buffer | Kind::UlongsOut => Value::Room(Room {
                length: memory::cell(words[1].cast()),
                buffer: !pointer.is_null(),
            }),
            Kind::ObjectsOut => Value::ObjectsRoom(ObjectsRoom {
                maximum: widen(ulong(words[1])),
                count: !words[2].is_null(),
                buffer: !pointer.is_null(),
            }),
            Kind::Fill => Value::Fill {
                buffer: !pointer.is_null(),
                length: widen(ulong(words[1])),
            },
            Kind::UlongOut | Kind::ObjectOut | Kind::SessionOut => Value::Cell(memory::cell(pointer.cast())),
            Kind::InfoOut
            | Kind::SlotInfoOut
            | Kind::TokenInfoOut
            | Kind::SessionInfoOut
            | Kind::MechanismInfoOut
            | Kind::AsyncDataOut
            | Kind::Reserved => Value::Pointer(!pointer.is_null()),
            // These have no request value, and only C_Initialize, which does not come here, has bytes_out.
            Kind::Ignored | Kind::BytesOut => return Err(CKR_ARGUMENTS_BAD),
        }
    })
}

/// Whether the mechanism of this call has its `message` shape, if there is one.
pub(crate) const fn takes_message_shape(call: &Call) -> bool {
    matches!(
        call.number,
        C_MESSAGEENCRYPTINIT
            | C_MESSAGEDECRYPTINIT
            | C_MESSAGESIGNINIT
            | C_MESSAGEVERIFYINIT
            | C_WRAPKEYAUTHENTICATED
            | C_UNWRAPKEYAUTHENTICATED
    )
}

unsafe fn mechanism<'a>(call: &Call, pointer: *const CK_MECHANISM) -> Result<Option<Mechanism<'a>>, u64> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the pointer is not NULL and the caller vouches for the rest.
    unsafe {
        let raw = pointer.read_unaligned();
        let mechanism = widen(raw.mechanism);
        let parameter = if takes_message_shape(call) && !message_shapes_of(mechanism).is_empty() {
            parameter::read_message(Some(mechanism), raw.pParameter, raw.ulParameterLen)?
        } else {
            parameter::read(mechanism, raw.pParameter, raw.ulParameterLen)?
        };
        Ok(Some(Mechanism { mechanism, parameter }))
    }
}

/// Writes the reply values to where the C arguments point; without values nothing is written.
///
/// Data beyond the room that the request told is left out: only a faulty peer sends such.
///
/// # Errors
/// CKR_GENERAL_ERROR: a number does not fit a CK_ULONG of this machine.
///
/// # Safety
/// `args` was read from these `words`, and what they point to can be written to where the standard says so.
pub unsafe fn write(
    call: &'static Call,
    words: &[*mut c_void],
    args: &[Value<'_>],
    success: bool,
    values: &[Value<'_>],
) -> Result<(), u64> {
    let mut values = values.iter();
    let mut args = args.iter();
    for (kind, words) in arguments(call, words) {
        let arg = if kind == Kind::Ignored { None } else { args.next() };
        if kind.in_reply() || kind == Kind::SessionOut {
            let Some(value) = values.next() else { break };
            // SAFETY: as above.
            unsafe { write_one(words, arg, success, value) }?;
        }
    }
    Ok(())
}

unsafe fn write_one(
    words: &[*mut c_void],
    arg: Option<&Value<'_>>,
    success: bool,
    value: &Value<'_>,
) -> Result<(), u64> {
    let pointer = words[0];
    // SAFETY: the kind of the reply value follows from the row, as does what the words are; what is copied to a buffer is
    // not longer than the room that was read from there.
    unsafe {
        match (arg, value) {
            (Some(Value::Room(room)), Value::Output(output)) => write_output(pointer, words[1].cast(), *room, *output),
            (Some(Value::Room(room)), Value::Numbers(numbers)) => {
                write_numbers(pointer, words[1].cast(), room.length.unwrap_or(0), numbers)
            }
            (Some(Value::ObjectsRoom(room)), Value::Numbers(numbers)) => {
                write_numbers(pointer, words[2].cast(), room.maximum, numbers)
            }
            (Some(Value::Fill { length, .. }), Value::Bytes(Bytes::Data(data))) => {
                if data.len() as u64 <= *length {
                    memory::copy(data, pointer.cast());
                }
                Ok(())
            }
            (Some(Value::Cell(Some(_))), Value::Cell(Some(number))) => memory::set_cell(pointer.cast(), *number),
            (Some(Value::Template(_)), Value::Template(answer)) => {
                attributes::write_answer(pointer.cast::<CK_ATTRIBUTE>(), ulong(words[1]), answer)
            }
            (Some(Value::Mechanism(Some(_))), Value::Parameter(reply)) => {
                let mechanism = pointer.cast::<CK_MECHANISM>().read_unaligned();
                parameter::write_back(mechanism.pParameter, mechanism.ulParameterLen, reply)
            }
            (Some(Value::Parameter(_)), Value::Parameter(reply)) => {
                parameter::write_back(pointer, ulong(words[1]), reply)
            }
            // A module that fails leaves the caller's structure alone, and so do we.
            (Some(Value::Pointer(true)), Value::Info(Some(info))) if success => information::write(pointer, info),
            _ => Ok(()),
        }
    }
}

unsafe fn write_output(buffer: *mut c_void, length: *mut CK_ULONG, room: Room, output: Output<'_>) -> Result<(), u64> {
    if let Some(data) = output
        .data
        .filter(|data| room.buffer && data.len() as u64 <= room.length.unwrap_or(0))
    {
        // SAFETY: the caller vouches for as many bytes as it told, and that is enough.
        unsafe { memory::copy(data, buffer.cast()) };
    }
    // SAFETY: the pointer to the length is NULL or can be written to.
    output
        .length
        .map_or(Ok(()), |number| unsafe { memory::set_cell(length, number) })
}

unsafe fn write_numbers(array: *mut c_void, count: *mut CK_ULONG, capacity: u64, numbers: &Numbers) -> Result<(), u64> {
    if let Some(data) = numbers.data.as_ref().filter(|data| data.len() as u64 <= capacity) {
        // SAFETY: the caller vouches for as many numbers as it told, and that is enough.
        unsafe { memory::copy_numbers(data, array.cast()) }?;
    }
    // SAFETY: the pointer to the count is NULL or can be written to.
    numbers
        .count
        .map_or(Ok(()), |number| unsafe { memory::set_cell(count, number) })
}
