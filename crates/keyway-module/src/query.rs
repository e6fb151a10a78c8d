//! Queries for attributes: which of them may be read ahead, and which one follows another. Pure decisions.

use keyway_wire::ahead::{following, Answer};
use keyway_wire::generated::attribute::{
    CKA_HSS_KEYS_REMAINING, CKA_OTP_COUNTER, CKA_OTP_TIME, CKA_X2RATCHET_BAGSIZE, CKA_X2RATCHET_BOBS1STMSG,
    CKA_X2RATCHET_DHP, CKA_X2RATCHET_DHR, CKA_X2RATCHET_NR, CKA_X2RATCHET_NS, CKA_X2RATCHET_PNS,
};
use keyway_wire::generated::call::C_GETATTRIBUTEVALUE;
use keyway_wire::generated::rv::CKR_OK;
use keyway_wire::generated::{attribute_kind, is_secret};
use keyway_wire::table::AttributeKind;
use keyway_wire::value::{Attribute, AttributeValue, Template, Value};
use keyway_wire::{call, decode_reply, encode_request};

/// Attributes of a query that is read ahead, at most.
const ATTRIBUTES: usize = 32;
/// Room in a query that is read ahead, in bytes, at most.
const ROOM: u64 = 65_536;

/// Attributes that using an object changes.
const VOLATILE: [u64; 10] = [
    CKA_OTP_COUNTER,
    CKA_OTP_TIME,
    CKA_HSS_KEYS_REMAINING,
    CKA_X2RATCHET_BAGSIZE,
    CKA_X2RATCHET_BOBS1STMSG,
    CKA_X2RATCHET_DHP,
    CKA_X2RATCHET_DHR,
    CKA_X2RATCHET_NR,
    CKA_X2RATCHET_NS,
    CKA_X2RATCHET_PNS,
];

/// A query as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The body of the request.
    pub body: Vec<u8>,
    /// Whether it asks for lengths that a query for the values will follow.
    pub follow: bool,
}

impl Query {
    /// The query with this template, if it may be read ahead: nested templates, values that are secret, that change by
    /// themselves or of which nothing is known are not.
    #[must_use]
    pub fn of(object: u64, template: &Template<'_>) -> Option<Self> {
        let Template::Attributes(entries) = template else {
            return None;
        };
        if entries.is_empty() || entries.len() > ATTRIBUTES || !entries.iter().all(is_readable) {
            return None;
        }
        let room: u64 = entries.iter().map(room).sum();
        let follow = entries
            .iter()
            .all(|entry| matches!(entry.value, AttributeValue::Null(_)) && is_secret(entry.attribute) == Some(false));
        let body = encoded(object, template).filter(|_| room <= ROOM)?;
        Some(Self { body, follow })
    }
}

fn is_readable(entry: &Attribute<'_>) -> bool {
    let attribute = entry.attribute;
    let secret = is_secret(attribute);
    attribute_kind(attribute) != AttributeKind::Template
        && !VOLATILE.contains(&attribute)
        && match entry.value {
            AttributeValue::Null(_) => secret.is_some(),
            AttributeValue::RoomBytes(_) | AttributeValue::RoomNumbers(_) => secret == Some(false),
            _ => false,
        }
}

fn room(entry: &Attribute<'_>) -> u64 {
    match entry.value {
        AttributeValue::RoomBytes(length) => length.min(ROOM + 1),
        AttributeValue::RoomNumbers(count) => count.min(ROOM).saturating_mul(8),
        _ => 0,
    }
}

/// The body of a query.
fn encoded(object: u64, template: &Template<'_>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let values = [Value::Ulong(object), Value::Template(template.clone())];
    encode_request(call(C_GETATTRIBUTEVALUE)?, &values, &mut body).ok()?;
    Some(body)
}

/// The body of the query that follows this answer to a query for lengths, if one does.
#[must_use]
pub fn next_body(answer: Answer<'_>) -> Option<Vec<u8>> {
    if answer.rv != CKR_OK {
        return None;
    }
    let values = decode_reply(call(C_GETATTRIBUTEVALUE)?, answer.body).ok()?;
    match values.as_slice() {
        [Value::Template(template)] => encoded(0, &following(template)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_wire::generated::attribute::{CKA_CLASS, CKA_ID, CKA_LABEL, CKA_VALUE, CKA_WRAP_TEMPLATE};

    #[test]
    fn which_queries_are_read_ahead() {
        let template = |entries: &[(u64, AttributeValue<'static>)]| {
            let entry = |(attribute, value): &(u64, AttributeValue<'static>)| Attribute {
                attribute: *attribute,
                value: value.clone(),
            };
            Template::Attributes(entries.iter().map(entry).collect())
        };
        let of = |entries: &[(u64, AttributeValue<'static>)]| Query::of(1, &template(entries));
        let follows = |entries: &[(u64, AttributeValue<'static>)]| of(entries).map(|query| query.follow);
        let null = AttributeValue::Null(0);
        assert_eq!(follows(&[(CKA_ID, null.clone())]), Some(true));
        assert_eq!(
            follows(&[(CKA_ID, null.clone()), (CKA_LABEL, null.clone())]),
            Some(true)
        );
        assert_eq!(follows(&[(CKA_ID, AttributeValue::RoomBytes(9))]), Some(false));
        assert_eq!(follows(&[(CKA_CLASS, AttributeValue::RoomNumbers(1))]), Some(false));
        // The length of a secret is none, but its value is.
        assert_eq!(follows(&[(CKA_VALUE, null.clone())]), Some(false));
        assert_eq!(
            follows(&[(CKA_ID, null.clone()), (CKA_VALUE, null.clone())]),
            Some(false)
        );
        for refused in [
            &[(CKA_VALUE, AttributeValue::RoomBytes(32))][..],
            &[(CKA_WRAP_TEMPLATE, null.clone())],
            &[(0x8000_0001, null.clone())],
            &[(CKA_OTP_COUNTER, AttributeValue::RoomBytes(8))],
            // Each message that a ratchet encrypts changes them.
            &[(CKA_X2RATCHET_NS, AttributeValue::RoomNumbers(1))],
            &[(CKA_X2RATCHET_DHP, null.clone())],
            &[(CKA_ID, AttributeValue::RoomBytes(ROOM + 1))],
            &[
                (CKA_ID, AttributeValue::RoomBytes(u64::MAX)),
                (CKA_LABEL, AttributeValue::RoomBytes(u64::MAX)),
            ],
            &[],
        ] {
            assert_eq!(of(refused), None, "{refused:?}");
        }
        assert_eq!(Query::of(1, &Template::Null(3)), None);
    }
}
