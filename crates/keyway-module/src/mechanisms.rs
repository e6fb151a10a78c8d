//! What a token has told of its mechanisms, to answer the same questions again. Pure decisions; docs/architecture.md tells what they
//! rest on.

use keyway_wire::generated::call::{C_GETMECHANISMINFO, C_GETMECHANISMLIST};
use keyway_wire::generated::rv::{CKR_BUFFER_TOO_SMALL, CKR_OK};
use keyway_wire::table::Call;
use keyway_wire::value::{Info, MechanismInfo, Numbers, Room, Value};
use std::collections::HashMap;

/// How many mechanisms are remembered of a token.
const CAPACITY: usize = 1_024;

/// What a token has answered.
#[derive(Debug, Default)]
pub struct Mechanisms {
    /// How long its list is, as it said without giving the list; that may be more than it gives.
    count: Option<u64>,
    list: Option<Vec<u64>>,
    infos: HashMap<u64, MechanismInfo>,
}

/// Whether this is a call that asks for mechanisms.
#[must_use]
pub const fn asks(call: &Call) -> bool {
    matches!(call.number, C_GETMECHANISMLIST | C_GETMECHANISMINFO)
}

impl Mechanisms {
    /// The RV and the reply that the token would give; None if it has to be asked. A pointer that must not be NULL and is NULL is
    /// the token's business.
    #[must_use]
    pub fn answer(&self, args: &[Value<'_>]) -> Option<(u64, Value<'static>)> {
        match args {
            [Value::Room(Room {
                length: Some(length),
                buffer,
            })] => self.listed(*length, *buffer),
            [Value::Ulong(mechanism), Value::Pointer(true)] => {
                let info = self.infos.get(mechanism)?.clone();
                Some((CKR_OK, Value::Info(Some(Info::Mechanism(info)))))
            }
            _ => None,
        }
    }

    fn listed(&self, length: u64, buffer: bool) -> Option<(u64, Value<'static>)> {
        let (rv, count, data) = if buffer {
            let list = self.list.as_ref()?;
            let count = list.len() as u64;
            if length < count {
                (CKR_BUFFER_TOO_SMALL, count, None)
            } else {
                (CKR_OK, count, Some(list.clone()))
            }
        } else {
            (CKR_OK, self.count?, None)
        };
        let count = Some(count);
        Some((rv, Value::Numbers(Numbers { count, data })))
    }

    /// Remembers what the token has answered, if it was CKR_OK.
    pub fn note(&mut self, args: &[Value<'_>], rv: u64, reply: &[Value<'_>]) {
        match (rv, args, reply) {
            (CKR_OK, [Value::Room(Room { buffer: false, .. })], [Value::Numbers(Numbers { count, .. })]) => {
                self.count = *count;
            }
            (CKR_OK, [Value::Room(_)], [Value::Numbers(Numbers { data: Some(data), .. })])
                if data.len() <= CAPACITY =>
            {
                self.list = Some(data.clone());
            }
            (CKR_OK, [Value::Ulong(mechanism), _], [Value::Info(Some(Info::Mechanism(info)))])
                if self.infos.len() < CAPACITY =>
            {
                self.infos.insert(*mechanism, info.clone());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_wire::generated::mechanism::{CKM_ECDSA, CKM_SHA256, CKM_SHA256_RSA_PKCS};
    use keyway_wire::generated::rv::{CKR_GENERAL_ERROR, CKR_MECHANISM_INVALID};

    const LIST: [u64; 3] = [CKM_ECDSA, CKM_SHA256, CKM_SHA256_RSA_PKCS];

    fn room(length: Option<u64>, buffer: bool) -> [Value<'static>; 1] {
        [Value::Room(Room { length, buffer })]
    }

    fn numbers(count: u64, data: Option<&[u64]>) -> Value<'static> {
        Value::Numbers(Numbers {
            count: Some(count),
            data: data.map(<[u64]>::to_vec),
        })
    }

    #[test]
    fn a_list_is_answered_for_each_kind_of_request_as_the_token_would() {
        let mut known = Mechanisms::default();
        assert_eq!(known.answer(&room(Some(0), false)), None);
        known.note(&room(Some(0), false), CKR_OK, &[numbers(3, None)]);
        assert_eq!(known.answer(&room(Some(9), false)), Some((CKR_OK, numbers(3, None))));
        assert_eq!(known.answer(&room(Some(3), true)), None, "the length is not the list");
        known.note(&room(Some(3), true), CKR_OK, &[numbers(3, Some(&LIST))]);
        for (length, answer) in [
            (0, (CKR_BUFFER_TOO_SMALL, numbers(3, None))),
            (2, (CKR_BUFFER_TOO_SMALL, numbers(3, None))),
            (3, (CKR_OK, numbers(3, Some(&LIST)))),
            (u64::MAX, (CKR_OK, numbers(3, Some(&LIST)))),
        ] {
            assert_eq!(known.answer(&room(Some(length), true)), Some(answer), "{length}");
        }
        // Where the length goes is for the token to miss.
        assert_eq!(known.answer(&room(None, true)), None);
        assert_eq!(known.answer(&room(None, false)), None);
    }

    #[test]
    fn a_length_that_is_more_than_the_list_stays_what_the_token_says() {
        let mut known = Mechanisms::default();
        known.note(&room(Some(5), true), CKR_OK, &[numbers(3, Some(&LIST))]);
        assert_eq!(known.answer(&room(Some(0), false)), None);
        known.note(&room(Some(0), false), CKR_OK, &[numbers(5, None)]);
        assert_eq!(known.answer(&room(Some(0), false)), Some((CKR_OK, numbers(5, None))));
    }

    #[test]
    fn only_success_is_remembered() {
        let mut known = Mechanisms::default();
        known.note(&room(Some(1), true), CKR_BUFFER_TOO_SMALL, &[numbers(3, None)]);
        known.note(&room(Some(3), true), CKR_GENERAL_ERROR, &[numbers(3, Some(&LIST))]);
        known.note(&room(Some(0), false), CKR_GENERAL_ERROR, &[numbers(3, None)]);
        assert_eq!(known.answer(&room(Some(3), true)), None);
        assert_eq!(known.answer(&room(Some(0), false)), None);
    }

    #[test]
    fn what_a_token_tells_of_a_mechanism_is_told_for_that_mechanism_alone() {
        let info = MechanismInfo {
            min_key_size: 256,
            max_key_size: 521,
            flags: 0x800,
        };
        let told = Value::Info(Some(Info::Mechanism(info)));
        let asked = |mechanism, pointer| [Value::Ulong(mechanism), Value::Pointer(pointer)];
        let mut known = Mechanisms::default();
        known.note(&asked(CKM_ECDSA, true), CKR_MECHANISM_INVALID, &[Value::Info(None)]);
        assert_eq!(known.answer(&asked(CKM_ECDSA, true)), None);
        known.note(&asked(CKM_ECDSA, true), CKR_OK, std::slice::from_ref(&told));
        assert_eq!(known.answer(&asked(CKM_ECDSA, true)), Some((CKR_OK, told)));
        assert_eq!(known.answer(&asked(CKM_ECDSA, false)), None);
        assert_eq!(known.answer(&asked(CKM_SHA256, true)), None);
    }

    #[test]
    fn what_is_remembered_stays_small() {
        let info = MechanismInfo {
            min_key_size: 0,
            max_key_size: 0,
            flags: 0,
        };
        let mut known = Mechanisms::default();
        for mechanism in 0..2 * CAPACITY as u64 {
            let told = Value::Info(Some(Info::Mechanism(info.clone())));
            known.note(&[Value::Ulong(mechanism), Value::Pointer(true)], CKR_OK, &[told]);
        }
        assert_eq!(known.infos.len(), CAPACITY);
        let long = vec![0; CAPACITY + 1];
        known.note(
            &room(Some(9_999), true),
            CKR_OK,
            &[numbers(long.len() as u64, Some(&long))],
        );
        assert_eq!(known.answer(&room(Some(9_999), true)), None);
    }
}
