//! The limits of the wire, each from both sides, and values that are not those of the row.

use keyway_wire::generated::call;
use keyway_wire::limits::{MAX_ATTRIBUTES, MAX_BODY, MAX_DEPTH, MAX_HANDLES};
use keyway_wire::value::{Attribute, AttributeValue, Bytes, Numbers, Room, Template, Value};
use keyway_wire::{call as row, decode_reply, decode_request, encode_reply, encode_request, Header, WireError};

fn encoded(number: u16, values: &[Value<'_>]) -> Result<Vec<u8>, WireError> {
    let mut body = Vec::new();
    encode_request(row(number).expect("a call"), values, &mut body).map(|()| body)
}

fn decoded(number: u16, body: &[u8]) -> Result<usize, WireError> {
    decode_request(row(number).expect("a call"), 0, body).map(|values| values.len())
}

fn nested(levels: usize) -> Value<'static> {
    let attribute = |value| Attribute {
        attribute: 0x4000_0211,
        value,
    };
    let innermost = Vec::new();
    let list = (1..levels).fold(innermost, |inner, _| vec![attribute(AttributeValue::Template(inner))]);
    Value::Template(Template::Attributes(list))
}

#[test]
fn templates_nest_to_the_limit_and_no_further() {
    let body = encoded(call::C_FINDOBJECTSINIT, &[nested(MAX_DEPTH)]).expect("within the limit");
    assert_eq!(decoded(call::C_FINDOBJECTSINIT, &body), Ok(1));
    assert_eq!(
        encoded(call::C_FINDOBJECTSINIT, &[nested(MAX_DEPTH + 1)]),
        Err(WireError::Limit)
    );
    // One level more by hand: the innermost list, which is empty, gets an entry with an empty template.
    let mut deeper = body[..body.len() - 4].to_vec();
    deeper.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(decoded(call::C_FINDOBJECTSINIT, &deeper), Err(WireError::Limit));
}

#[test]
fn attributes_are_counted() {
    let list = |count| {
        let attribute = Attribute {
            attribute: 1,
            value: AttributeValue::Null(0),
        };
        [Value::Template(Template::Attributes(vec![attribute; count]))]
    };
    let mut body = encoded(call::C_FINDOBJECTSINIT, &list(MAX_ATTRIBUTES)).expect("within the limit");
    assert_eq!(decoded(call::C_FINDOBJECTSINIT, &body), Ok(1));
    assert_eq!(
        encoded(call::C_FINDOBJECTSINIT, &list(MAX_ATTRIBUTES + 1)),
        Err(WireError::Limit)
    );
    body[..4].copy_from_slice(&(MAX_ATTRIBUTES as u32 + 1).to_be_bytes());
    body.extend(body[4..21].to_vec());
    assert_eq!(decoded(call::C_FINDOBJECTSINIT, &body), Err(WireError::Limit));
}

#[test]
fn numbers_and_strings_are_bounded() {
    let slots = row(call::C_GETSLOTLIST).expect("a call");
    let numbers = |count| {
        [Value::Numbers(Numbers {
            count: Some(1),
            data: Some(vec![7; count]),
        })]
    };
    let mut body = Vec::new();
    encode_reply(slots, &numbers(MAX_HANDLES), &mut body).expect("within the limit");
    assert!(decode_reply(slots, &body).is_ok());
    assert_eq!(
        encode_reply(slots, &numbers(MAX_HANDLES + 1), &mut Vec::new()),
        Err(WireError::Limit)
    );
    body[9..13].copy_from_slice(&(MAX_HANDLES as u32 + 1).to_be_bytes());
    body.extend([0; 8]);
    assert_eq!(decode_reply(slots, &body), Err(WireError::Limit));

    let long = vec![0; MAX_BODY + 1];
    assert_eq!(
        encoded(call::C_SEEDRANDOM, &[Value::Bytes(Bytes::Data(&long))]),
        Err(WireError::Limit)
    );
    let mut body = encoded(call::C_SEEDRANDOM, &[Value::Bytes(Bytes::Data(&long[1..]))]).expect("within the limit");
    assert_eq!(decoded(call::C_SEEDRANDOM, &body), Ok(1));
    body[..4].copy_from_slice(&(MAX_BODY as u32 + 1).to_be_bytes());
    body.push(0);
    assert_eq!(decoded(call::C_SEEDRANDOM, &body), Err(WireError::Limit));
}

#[test]
fn what_is_promised_and_does_not_come_is_noticed_first() {
    for count in [1_u32, 4096, 1 << 20, u32::MAX - 1] {
        let body = count.to_be_bytes();
        assert!(decoded(call::C_FINDOBJECTSINIT, &body).is_err(), "{count} attributes");
        assert!(decoded(call::C_SEEDRANDOM, &body).is_err(), "{count} bytes");
        let reply = [&[2][..], &body].concat();
        assert!(
            decode_reply(row(call::C_GETSLOTLIST).expect("a call"), &reply).is_err(),
            "{count} numbers"
        );
    }
}

#[test]
fn values_that_are_not_the_rows_are_not_encoded() {
    let data = Value::Bytes(Bytes::Data(b"data"));
    let room = Value::Room(Room {
        length: Some(1),
        buffer: true,
    });
    for values in [
        &[][..],
        std::slice::from_ref(&data),
        &[room.clone(), data.clone()],
        &[data.clone(), room.clone(), room.clone()],
    ] {
        assert_eq!(encoded(call::C_SIGN, values), Err(WireError::Mismatch), "{values:?}");
    }
    assert!(encoded(call::C_SIGN, &[data, room]).is_ok());
}

#[test]
fn an_empty_reply_has_no_values_for_any_call() {
    for number in 1..=104 {
        let row = row(number).expect("a call");
        assert_eq!(decode_reply(row, &[]), Ok(Vec::new()));
        let mut body = Vec::new();
        assert_eq!(encode_reply(row, &[], &mut body), Ok(()));
        assert!(body.is_empty());
    }
    assert!(row(0).is_none() && row(105).is_none());
}

#[test]
fn a_header_is_thirty_two_bytes_in_network_order() {
    let header = Header {
        length: 0x0102_0304,
        call: 0x0506,
        flags: 0x0708,
        id: 9,
        target: 10,
        object: u64::MAX,
    };
    let bytes = header.encode();
    assert_eq!(bytes[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((bytes[15], bytes[23], bytes[24]), (9, 10, 0xff));
    assert_eq!(Header::decode(&bytes), header);
    let reply = header.reply(0x150, 4);
    assert_eq!((reply.flags, reply.object, reply.length, reply.id), (5, 0x150, 0, 9));
}
