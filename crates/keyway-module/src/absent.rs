//! What calls answer while there is no daemon: a module without slots.

use keyway_abi::guard::Answer;
use keyway_wire::generated::call::{C_GETINFO, C_GETSLOTLIST, C_WAITFORSLOTEVENT};
use keyway_wire::generated::rv::{
    CKR_ARGUMENTS_BAD, CKR_DEVICE_ERROR, CKR_FUNCTION_NOT_SUPPORTED, CKR_NO_EVENT, CKR_OK, CKR_SESSION_HANDLE_INVALID,
    CKR_SLOT_ID_INVALID, CKR_TOKEN_NOT_PRESENT,
};
use keyway_wire::table::{Call, Target};
use keyway_wire::value::{Info, ModuleInfo, Numbers, Room, Value};

/// CKF_DONT_BLOCK of C_WaitForSlotEvent.
const CKF_DONT_BLOCK: u64 = 1;

/// Answers a call. `known` tells that there has been a daemon since C_Initialize, so its slots may be known to the application.
///
/// # Errors
/// What `answer` returns.
pub fn answer(call: &Call, args: &[Value<'_>], known: bool, answer: &mut Answer<'_>) -> Result<u64, u64> {
    match (call.number, args) {
        (C_GETINFO, [Value::Pointer(true)]) => {
            answer(CKR_OK, &[Value::Info(Some(Info::Module(information())))])?;
            Ok(CKR_OK)
        }
        (C_GETSLOTLIST, [_, Value::Room(Room { length: Some(_), .. })]) => {
            answer(
                CKR_OK,
                &[Value::Numbers(Numbers {
                    count: Some(0),
                    data: None,
                })],
            )?;
            Ok(CKR_OK)
        }
        (C_GETINFO | C_GETSLOTLIST, _) => Ok(CKR_ARGUMENTS_BAD),
        (C_WAITFORSLOTEVENT, [Value::Ulong(flags), ..]) if flags & CKF_DONT_BLOCK != 0 => Ok(CKR_NO_EVENT),
        // Waiting would not end; an application that asks in a loop is told that there is nothing to ask for.
        (C_WAITFORSLOTEVENT, _) => Ok(CKR_FUNCTION_NOT_SUPPORTED),
        _ => Ok(match call.target {
            Target::Session => CKR_SESSION_HANDLE_INVALID,
            Target::Slot if known => CKR_TOKEN_NOT_PRESENT,
            Target::Slot => CKR_SLOT_ID_INVALID,
            Target::None => CKR_DEVICE_ERROR,
        }),
    }
}

fn information() -> ModuleInfo {
    ModuleInfo {
        cryptoki_version: [2, 40],
        manufacturer_id: padded(b"Keyway"),
        flags: 0,
        library_description: padded(b"Keyway, no gateway there"),
        library_version: [0, 1],
    }
}

/// A text in a field of fixed width.
fn padded(text: &[u8]) -> [u8; 32] {
    let mut field = [b' '; 32];
    field[..text.len()].copy_from_slice(text);
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_wire::call;
    use keyway_wire::generated::call::{C_GETTOKENINFO, C_SIGN};

    fn rv(number: u16, args: &[Value<'_>], known: bool) -> u64 {
        let call = call(number).expect("a call");
        answer(call, args, known, &mut |_, _| Ok(())).expect("an RV")
    }

    #[test]
    fn there_are_no_slots() {
        let call = call(C_GETSLOTLIST).expect("a call");
        let mut count = None;
        let args = [
            Value::Bool(1),
            Value::Room(Room {
                length: Some(7),
                buffer: true,
            }),
        ];
        let mut receive = |_: u64, values: &[Value<'_>]| {
            if let [Value::Numbers(numbers)] = values {
                count = numbers.count;
            }
            Ok(())
        };
        assert_eq!(answer(call, &args, false, &mut receive), Ok(CKR_OK));
        assert_eq!(count, Some(0));
        assert_eq!(
            rv(
                C_GETSLOTLIST,
                &[
                    Value::Bool(1),
                    Value::Room(Room {
                        length: None,
                        buffer: true
                    })
                ],
                false
            ),
            CKR_ARGUMENTS_BAD
        );
    }

    #[test]
    fn nothing_waits_for_ever() {
        let args = |flags| [Value::Ulong(flags), Value::Cell(Some(0)), Value::Pointer(false)];
        assert_eq!(rv(C_WAITFORSLOTEVENT, &args(0), false), CKR_FUNCTION_NOT_SUPPORTED);
        assert_eq!(rv(C_WAITFORSLOTEVENT, &args(CKF_DONT_BLOCK), false), CKR_NO_EVENT);
    }

    #[test]
    fn a_slot_that_was_there_has_no_token_now() {
        assert_eq!(rv(C_GETTOKENINFO, &[Value::Pointer(true)], true), CKR_TOKEN_NOT_PRESENT);
        assert_eq!(rv(C_GETTOKENINFO, &[Value::Pointer(true)], false), CKR_SLOT_ID_INVALID);
        assert_eq!(rv(C_SIGN, &[], true), CKR_SESSION_HANDLE_INVALID);
    }
}
