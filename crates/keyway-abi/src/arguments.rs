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
use keyway_wire::generated::rv::{CKR_ARGUMENTS_BAD, CKR_GENERAL_ERROR};
use keyway_wire::table::{Call, Kind};
use keyway_wire::value::{Bytes, Mechanism, Numbers, ObjectsRoom, Output, Parameter, Room, Value};

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
/// CKR_GENERAL_ERROR: a number does not fit a CK_ULONG of this machine, or a buffer that is to be filled was not.
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
            // The caller's count does not travel and the host starts from 0: a module that fails has left it alone.
            (Some(Value::ObjectsRoom(_)), Value::Numbers(Numbers { count: Some(0), .. })) if !success => Ok(()),
            (Some(Value::ObjectsRoom(room)), Value::Numbers(numbers)) => {
                write_numbers(pointer, words[2].cast(), room.maximum, numbers)
            }
            (Some(Value::Fill { buffer: true, length }), Value::Bytes(filled)) if success => match filled {
                Bytes::Data(data) if data.len() as u64 == *length => {
                    memory::copy(data, pointer.cast());
                    Ok(())
                }
                // Nobody is to take what was in the buffer before for random numbers.
                _ => Err(CKR_GENERAL_ERROR),
            },
            (Some(Value::Cell(Some(_))), Value::Cell(Some(number))) => memory::set_cell(pointer.cast(), *number),
            (Some(Value::Template(_)), Value::Template(answer)) => {
                attributes::write_answer(pointer.cast::<CK_ATTRIBUTE>(), ulong(words[1]), answer)
            }
            (Some(Value::Mechanism(Some(sent))), Value::Parameter(reply)) if is_answer(&sent.parameter, reply) => {
                let mechanism = pointer.cast::<CK_MECHANISM>().read_unaligned();
                parameter::write_back(mechanism.pParameter, mechanism.ulParameterLen, reply)
            }
            (Some(Value::Parameter(sent)), Value::Parameter(reply)) if is_answer(sent, reply) => {
                parameter::write_back(pointer, ulong(words[1]), reply)
            }
            // A module that fails leaves the caller's structure alone, and so do we.
            (Some(Value::Pointer(true)), Value::Info(Some(info))) if success => information::write(pointer, info),
            _ => Ok(()),
        }
    }
}

/// Whether the reply has the shape of what was sent: bytes of the same size could be taken for a structure with pointers.
fn is_answer(sent: &Parameter<'_>, reply: &Parameter<'_>) -> bool {
    matches!((sent, reply), (Parameter::Structured(sent, _), Parameter::Structured(told, _)) if sent == told)
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

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::null_mut;
    use keyway_wire::call;
    use keyway_wire::generated::call::{
        C_ENCRYPTINIT, C_FINDOBJECTS, C_GENERATERANDOM, C_GETSESSIONINFO, C_OPENSESSION, C_SIGN, C_WAITFORSLOTEVENT,
    };
    use keyway_wire::generated::mechanism::CKM_AES_CTR;
    use keyway_wire::generated::rv::CKR_HOST_MEMORY;
    use keyway_wire::limits::MAX_BODY;
    use keyway_wire::value::{Info, Member, SessionInfo};

    fn word(number: usize) -> *mut c_void {
        number as *mut c_void
    }

    fn pointer<T>(place: &mut T) -> *mut c_void {
        core::ptr::from_mut(place).cast()
    }

    fn row(number: u16) -> &'static Call {
        call(number).expect("a call")
    }

    fn read_all<'a>(number: u16, words: &[*mut c_void]) -> Result<Vec<Value<'a>>, u64> {
        // SAFETY: the tests pass words that fit the row.
        unsafe { read(row(number), words, || None) }
    }

    fn write_all(number: u16, words: &[*mut c_void], success: bool, reply: &[Value<'_>]) -> Result<(), u64> {
        let args = read_all(number, words)?;
        // SAFETY: as above.
        unsafe { write(row(number), words, &args, success, reply) }
    }

    #[test]
    fn null_empty_and_present_are_different_requests() {
        let (mut data, mut length) = ([7_u8; 3], 64 as CK_ULONG);
        let mut buffer = [0_u8; 64];
        let room = |length, buffer| Value::Room(Room { length, buffer });
        let data_at = pointer(&mut data);
        for (words, bytes, out) in [
            (
                [data_at, word(3), pointer(&mut buffer), pointer(&mut length)],
                Bytes::Data(&[7; 3]),
                room(Some(64), true),
            ),
            (
                [data_at, word(0), null_mut(), pointer(&mut length)],
                Bytes::Data(&[]),
                room(Some(64), false),
            ),
            (
                [null_mut(), word(5), pointer(&mut buffer), null_mut()],
                Bytes::Null(5),
                room(None, true),
            ),
        ] {
            assert_eq!(read_all(C_SIGN, &words), Ok(vec![Value::Bytes(bytes), out]));
        }
        assert_eq!(
            read_all(C_SIGN, &[data_at, word(MAX_BODY + 1), null_mut(), null_mut()]),
            Err(CKR_HOST_MEMORY)
        );
        assert_eq!(
            read_all(C_SIGN, &[data_at, word(usize::MAX), null_mut(), null_mut()]),
            Err(CKR_HOST_MEMORY)
        );
    }

    #[test]
    fn a_reply_never_writes_beyond_the_room_that_was_told() {
        let (mut buffer, mut length) = ([0_u8; 8], 4 as CK_ULONG);
        let mut reply = |told: u64, data: &'static [u8]| {
            (buffer, length) = ([0; 8], 4);
            let words = [null_mut(), word(0), pointer(&mut buffer), pointer(&mut length)];
            let output = Output {
                length: Some(told),
                data: Some(data),
            };
            assert_eq!(write_all(C_SIGN, &words, true, &[Value::Output(output)]), Ok(()));
            (buffer, length)
        };
        assert_eq!(reply(4, b"abcd"), (*b"abcd\0\0\0\0", 4));
        assert_eq!(reply(2, b"ab"), (*b"ab\0\0\0\0\0\0", 2));
        assert_eq!(reply(5, b"abcde"), ([0; 8], 5));
        // Not even if the reply's length belies its data.
        assert_eq!(reply(1, b"abcdefgh"), ([0; 8], 1));
    }

    #[test]
    fn a_reply_never_has_more_numbers_than_there_is_room_for() {
        let (mut array, mut count) = ([0 as CK_ULONG; 3], 9 as CK_ULONG);
        let mut reply = |numbers: Vec<u64>| {
            (array, count) = ([0; 3], 9);
            let words = [pointer(&mut array), word(2), pointer(&mut count)];
            let numbers = Numbers {
                count: Some(numbers.len() as u64),
                data: Some(numbers),
            };
            assert_eq!(
                write_all(C_FINDOBJECTS, &words, true, &[Value::Numbers(numbers)]),
                Ok(())
            );
            (array, count)
        };
        assert_eq!(reply(vec![5, 6]), ([5, 6, 0], 2));
        assert_eq!(reply(vec![5, 6, 7]), ([0; 3], 3));
        let words = [null_mut(), word(2), null_mut()];
        let room = ObjectsRoom {
            maximum: 2,
            count: false,
            buffer: false,
        };
        assert_eq!(read_all(C_FINDOBJECTS, &words), Ok(vec![Value::ObjectsRoom(room)]));
    }

    #[test]
    fn a_search_that_fails_leaves_the_count_alone() {
        let (mut array, mut count) = ([7 as CK_ULONG; 2], 9 as CK_ULONG);
        let words = [pointer(&mut array), word(2), pointer(&mut count)];
        let reply = |told| {
            [Value::Numbers(Numbers {
                count: Some(told),
                data: None,
            })]
        };
        assert_eq!(write_all(C_FINDOBJECTS, &words, false, &reply(0)), Ok(()));
        assert_eq!(count, 9);
        assert_eq!(write_all(C_FINDOBJECTS, &words, false, &reply(5)), Ok(()));
        assert_eq!(count, 5);
        assert_eq!(write_all(C_FINDOBJECTS, &words, true, &reply(0)), Ok(()));
        assert_eq!((count, array), (0, [7; 2]));
    }

    #[test]
    fn a_buffer_is_filled_or_the_call_failed() {
        let mut buffer = [0_u8; 4];
        let words = [pointer(&mut buffer), word(4)];
        let reply = |bytes| write_all(C_GENERATERANDOM, &words, true, &[Value::Bytes(bytes)]);
        assert_eq!(reply(Bytes::Data(b"abc")), Err(CKR_GENERAL_ERROR));
        assert_eq!(reply(Bytes::Data(b"abcde")), Err(CKR_GENERAL_ERROR));
        assert_eq!(reply(Bytes::Null(4)), Err(CKR_GENERAL_ERROR));
        assert_eq!(buffer, [0; 4]);
        assert_eq!(reply(Bytes::Data(b"abcd")), Ok(()));
        assert_eq!(buffer, *b"abcd");
    }

    #[test]
    fn cells_are_written_and_null_is_left_alone() {
        let mut slot = 7 as CK_ULONG;
        let words = [word(1), pointer(&mut slot), null_mut()];
        let args = read_all(C_WAITFORSLOTEVENT, &words);
        assert_eq!(
            args,
            Ok(vec![Value::Ulong(1), Value::Cell(Some(7)), Value::Pointer(false)])
        );
        assert_eq!(
            write_all(C_WAITFORSLOTEVENT, &words, false, &[Value::Cell(Some(u64::MAX))]),
            Ok(())
        );
        assert_eq!(slot, CK_ULONG::MAX);
        let nowhere = [word(1), null_mut(), null_mut()];
        assert_eq!(
            write_all(C_WAITFORSLOTEVENT, &nowhere, true, &[Value::Cell(Some(3))]),
            Ok(())
        );
        // The arguments that have no request value count as C arguments all the same.
        let mut session = 0 as CK_ULONG;
        let words = [word(6), word(1), word(1), pointer(&mut session)];
        assert_eq!(
            read_all(C_OPENSESSION, &words),
            Ok(vec![Value::Ulong(6), Value::Cell(Some(0))])
        );
        assert_eq!(write_all(C_OPENSESSION, &words, true, &[Value::Cell(Some(12))]), Ok(()));
        assert_eq!(session, 12);
    }

    #[test]
    fn a_reply_can_not_make_a_structure_of_another_one() {
        // A counter block whose last bytes could be taken for CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS's pTag.
        const TAGGED: u16 = 73;
        let mut elsewhere = [7_u8; 16];
        let mut parameter = [0_u64, 0, 0];
        parameter[2] = elsewhere.as_mut_ptr() as u64;
        let mut mechanism = CK_MECHANISM {
            mechanism: CKM_AES_CTR as CK_ULONG,
            pParameter: pointer(&mut parameter),
            ulParameterLen: 24,
        };
        let words = [pointer(&mut mechanism), word(1)];
        let members = vec![
            Member::String(Bytes::Data(b"")),
            Member::String(Bytes::Data(b"sixteen bytes at")),
        ];
        let reply = [Value::Parameter(Parameter::Structured(TAGGED, members))];
        assert_eq!(write_all(C_ENCRYPTINIT, &words, true, &reply), Ok(()));
        assert_eq!(elsewhere, [7; 16]);
    }

    #[test]
    fn a_structure_is_left_alone_when_the_call_failed() {
        let mut info = crate::ctypes::CK_SESSION_INFO {
            slotID: 1,
            state: 1,
            flags: 1,
            ulDeviceError: 1,
        };
        let words = [pointer(&mut info)];
        let told = SessionInfo {
            slot: 2,
            state: 3,
            flags: 4,
            device_error: u64::MAX,
        };
        let reply = [Value::Info(Some(Info::Session(told)))];
        assert_eq!(write_all(C_GETSESSIONINFO, &words, false, &reply), Ok(()));
        assert_eq!((info.slotID, info.ulDeviceError), (1, 1));
        assert_eq!(write_all(C_GETSESSIONINFO, &words, true, &reply), Ok(()));
        assert_eq!(
            (info.slotID, info.state, info.flags, info.ulDeviceError),
            (2, 3, 4, CK_ULONG::MAX)
        );
    }
}
