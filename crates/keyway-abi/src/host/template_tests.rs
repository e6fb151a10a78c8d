//! Queries built for a module, filled in as modules do, and the answers that come of it.

use super::arena::Arena;
use super::template::{answer, build_query, build_template};
use crate::attributes::{read_query, read_template};
use crate::ctypes::{CK_ATTRIBUTE, CK_ULONG};
use crate::ulong::UNAVAILABLE;
use keyway_wire::generated::attribute::{
    CKA_ALLOWED_MECHANISMS, CKA_CLASS, CKA_ID, CKA_LABEL, CKA_MODULUS_BITS, CKA_WRAP_TEMPLATE,
};
use keyway_wire::generated::rv::{
    CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_VALUE_INVALID, CKR_OK, CKR_SESSION_HANDLE_INVALID,
};
use keyway_wire::limits::MAX_OUTPUT;
use keyway_wire::value::{Attribute, AttributeValue, Template};
use std::mem::size_of;

fn list<'a>(entries: &[(u64, AttributeValue<'a>)]) -> Template<'a> {
    let entry = |(attribute, value): &(u64, AttributeValue<'a>)| Attribute {
        attribute: *attribute,
        value: value.clone(),
    };
    Template::Attributes(entries.iter().map(entry).collect())
}

fn nested<'a>(entries: &[(u64, AttributeValue<'a>)]) -> AttributeValue<'a> {
    match list(entries) {
        Template::Attributes(entries) => AttributeValue::Template(entries),
        Template::Null(_) => unreachable!(),
    }
}

#[test]
fn templates_read_like_what_was_sent() {
    let sent = list(&[
        (CKA_CLASS, AttributeValue::Number(3)),
        (CKA_LABEL, AttributeValue::Bytes(b"label")),
        (CKA_ID, AttributeValue::Bytes(b"")),
        (CKA_ID, AttributeValue::Null(9)),
        (CKA_ALLOWED_MECHANISMS, AttributeValue::Numbers(vec![1, u64::MAX, 3])),
        (
            CKA_WRAP_TEMPLATE,
            nested(&[(CKA_CLASS, AttributeValue::Number(4)), (CKA_WRAP_TEMPLATE, nested(&[]))]),
        ),
        (CKA_MODULUS_BITS, AttributeValue::Bytes(b"odd")),
    ]);
    let mut arena = Arena::default();
    for template in [sent, list(&[]), Template::Null(5)] {
        let (pointer, count) = build_template(&mut arena, &template).expect("it fits");
        // SAFETY: it was built with this count.
        assert_eq!(unsafe { read_template(pointer, count) }, Ok(template));
    }
}

#[test]
fn no_pointer_off_the_wire_reaches_the_module_in_a_template() {
    let mut arena = Arena::default();
    let attribute = [0x41_u8; size_of::<CK_ATTRIBUTE>()];
    for value in [
        AttributeValue::Bytes(&attribute),
        nested(&[(CKA_WRAP_TEMPLATE, AttributeValue::Bytes(&attribute))]),
    ] {
        let sent = list(&[(CKA_WRAP_TEMPLATE, value)]);
        assert_eq!(
            build_template(&mut arena, &sent).map(|_| ()),
            Err(CKR_ATTRIBUTE_VALUE_INVALID)
        );
    }
    // A length that is not one of a template arrives as it was, for the module's own error.
    for length in [size_of::<CK_ATTRIBUTE>() - 1, size_of::<CK_ATTRIBUTE>() + 1] {
        let long = [0x41_u8; 2 * size_of::<CK_ATTRIBUTE>()];
        let sent = list(&[(CKA_WRAP_TEMPLATE, AttributeValue::Bytes(&long[..length]))]);
        let (pointer, count) = build_template(&mut arena, &sent).expect("it fits");
        let zeroes = list(&[(CKA_WRAP_TEMPLATE, AttributeValue::Bytes(&[0; 48][..length]))]);
        // SAFETY: it was built with this count.
        assert_eq!(unsafe { read_template(pointer, count) }, Ok(zeroes));
    }
    // And none of the host's own comes back as the value of another attribute.
    let sent = list(&[(CKA_LABEL, nested(&[(CKA_LABEL, AttributeValue::Bytes(b"label"))]))]);
    assert_eq!(
        build_template(&mut arena, &sent).map(|_| ()),
        Err(CKR_ATTRIBUTE_VALUE_INVALID)
    );
    let sent = list(&[(CKA_LABEL, nested(&[(CKA_LABEL, AttributeValue::RoomBytes(8))]))]);
    assert!(matches!(
        build_query(&mut arena, &sent),
        Err(CKR_ATTRIBUTE_VALUE_INVALID)
    ));
}

#[test]
fn queries_read_like_what_was_sent() {
    let sent = list(&[
        (CKA_CLASS, AttributeValue::RoomNumbers(1)),
        (CKA_LABEL, AttributeValue::RoomBytes(10)),
        (CKA_LABEL, AttributeValue::Null(10)),
        (
            CKA_WRAP_TEMPLATE,
            nested(&[(CKA_CLASS, AttributeValue::RoomNumbers(2))]),
        ),
    ]);
    let mut arena = Arena::default();
    let (pointer, count, _) = build_query(&mut arena, &sent).expect("it fits");
    // SAFETY: it was built with this count.
    assert_eq!(unsafe { read_query(pointer, count) }, Ok(sent));
}

/// Lets a "module" write its answer, and gives what is told of it.
fn answered(query: &Template<'_>, rv: u64, module: impl Fn(&mut [CK_ATTRIBUTE])) -> Vec<AttributeValue<'static>> {
    // Leaked, so that the answer can be looked at.
    let arena = Box::leak(Box::<Arena>::default());
    let (pointer, count, built) = build_query(arena, query).expect("it fits");
    // SAFETY: it was built with this count, and nobody else uses it now.
    module(unsafe { core::slice::from_raw_parts_mut(pointer, count as usize) });
    match answer(&built, rv) {
        Template::Attributes(entries) => entries.into_iter().map(|entry| entry.value).collect(),
        Template::Null(_) => Vec::new(),
    }
}

fn write(attribute: &mut CK_ATTRIBUTE, data: &[u8]) {
    assert!(data.len() as CK_ULONG <= attribute.ulValueLen);
    // SAFETY: there is room.
    unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), attribute.pValue.cast(), data.len()) };
    attribute.ulValueLen = data.len() as CK_ULONG;
}

#[test]
fn answers_tell_what_the_module_wrote_and_nothing_beyond() {
    let query = list(&[
        (CKA_LABEL, AttributeValue::RoomBytes(10)),
        (CKA_CLASS, AttributeValue::RoomNumbers(1)),
        (CKA_ID, AttributeValue::RoomBytes(10)),
        (CKA_LABEL, AttributeValue::RoomBytes(10)),
        (CKA_MODULUS_BITS, AttributeValue::Null(0)),
        (CKA_WRAP_TEMPLATE, AttributeValue::Null(0)),
    ]);
    let module = |entries: &mut [CK_ATTRIBUTE]| {
        write(&mut entries[0], b"four");
        write(&mut entries[1], &7u64.to_ne_bytes()[..size_of::<CK_ULONG>()]);
        entries[2].ulValueLen = UNAVAILABLE;
        entries[3].ulValueLen = 11; // more than there is room for
        entries[3].pValue = core::ptr::NonNull::<u64>::dangling().as_ptr().cast();
        entries[4].ulValueLen = size_of::<CK_ULONG>() as CK_ULONG;
        entries[5].ulValueLen = 2 * size_of::<CK_ATTRIBUTE>() as CK_ULONG;
    };
    let expected = [
        AttributeValue::Bytes(b"four"),
        AttributeValue::Number(7),
        AttributeValue::Unavailable,
        AttributeValue::Null(11),
        AttributeValue::LengthNumbers(1),
        AttributeValue::LengthAttributes(2),
    ];
    assert_eq!(answered(&query, CKR_OK, module), expected);
    assert_eq!(answered(&query, CKR_ATTRIBUTE_SENSITIVE, module), expected);
    let failed = answered(&query, CKR_SESSION_HANDLE_INVALID, module);
    assert_eq!(
        failed[..2],
        [AttributeValue::Null(4), AttributeValue::LengthNumbers(1)],
        "lengths, but no values"
    );
}

#[test]
fn nested_answers_keep_the_rooms_that_were_given() {
    let inner = nested(&[
        (u64::MAX, AttributeValue::RoomBytes(8)),
        (u64::MAX, AttributeValue::RoomBytes(8)),
    ]);
    let query = list(&[(CKA_WRAP_TEMPLATE, inner)]);
    let module = |entries: &mut [CK_ATTRIBUTE]| {
        let size = size_of::<CK_ATTRIBUTE>();
        assert_eq!(entries[0].ulValueLen as usize, 2 * size);
        // SAFETY: there are two attributes.
        let inner = unsafe { core::slice::from_raw_parts_mut(entries[0].pValue.cast::<CK_ATTRIBUTE>(), 2) };
        inner[0].type_ = CKA_CLASS as CK_ULONG;
        write(&mut inner[0], &4u64.to_ne_bytes()[..size_of::<CK_ULONG>()]);
        // Pointers that the module leaves behind are not followed.
        inner[0].pValue = core::ptr::null_mut();
        entries[0].pValue = core::ptr::null_mut();
        entries[0].ulValueLen = size as CK_ULONG;
    };
    let inner = nested(&[(CKA_CLASS, AttributeValue::Number(4))]);
    assert_eq!(answered(&query, CKR_OK, module), [inner]);
}

#[test]
fn rooms_are_no_larger_together_than_one_output() {
    let query = list(&[
        (CKA_LABEL, AttributeValue::RoomBytes(u64::MAX)),
        (CKA_LABEL, AttributeValue::RoomBytes(10)),
    ]);
    let module = |entries: &mut [CK_ATTRIBUTE]| {
        assert_eq!(entries[0].ulValueLen as usize, MAX_OUTPUT);
        assert_eq!(entries[1].ulValueLen, 0);
    };
    answered(&query, CKR_SESSION_HANDLE_INVALID, module);
}
