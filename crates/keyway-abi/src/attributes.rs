//! Templates in the caller's memory (docs/wire.md, section 4.2): attributes to values, and answers written back.

use crate::ctypes::{CK_ATTRIBUTE, CK_ULONG};
use crate::memory;
use crate::ulong::{narrow, widen, UNAVAILABLE};
use core::mem::size_of;
use keyway_wire::generated::attribute_kind;
use keyway_wire::generated::rv::{CKR_GENERAL_ERROR, CKR_HOST_MEMORY};
use keyway_wire::limits::{MAX_ATTRIBUTES, MAX_DEPTH};
use keyway_wire::table::AttributeKind;
use keyway_wire::value::{Attribute, AttributeValue, Bytes, Template};

const ULONG: usize = size_of::<CK_ULONG>();
const ATTRIBUTE: usize = size_of::<CK_ATTRIBUTE>();

/// What a template is read for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Its values go to the token.
    Input,
    /// Its values are to be filled in (C_GetAttributeValue).
    Query,
}

/// Reads the template of a call other than C_GetAttributeValue.
///
/// # Errors
/// CKR_HOST_MEMORY: it is above a limit of the wire.
///
/// # Safety
/// A pointer that is not NULL points to `count` attributes, whose pointers and lengths are right, and so on inwards.
/// Nobody writes any of it while the result lives.
pub unsafe fn read_template<'a>(pointer: *const CK_ATTRIBUTE, count: CK_ULONG) -> Result<Template<'a>, u64> {
    // SAFETY: as above.
    unsafe { read(pointer, count, Purpose::Input) }
}

/// Reads the template of C_GetAttributeValue: the room for each value, but for nested ones their types.
///
/// # Errors
/// As [`read_template`].
///
/// # Safety
/// As [`read_template`].
pub unsafe fn read_query<'a>(pointer: *const CK_ATTRIBUTE, count: CK_ULONG) -> Result<Template<'a>, u64> {
    // SAFETY: as above.
    unsafe { read(pointer, count, Purpose::Query) }
}

/// Reads a template that lies in a parameter structure and is at this level of nesting.
///
/// # Errors
/// As [`read_template`].
///
/// # Safety
/// As [`read_template`].
pub(crate) unsafe fn read_template_at<'a>(
    pointer: *const CK_ATTRIBUTE,
    count: CK_ULONG,
    level: usize,
) -> Result<Template<'a>, u64> {
    if pointer.is_null() {
        return Ok(Template::Null(widen(count)));
    }
    // SAFETY: the pointer is not NULL, the rest is the caller's word.
    Ok(Template::Attributes(unsafe {
        read_array(pointer, count, Purpose::Input, level)
    }?))
}

unsafe fn read<'a>(pointer: *const CK_ATTRIBUTE, count: CK_ULONG, purpose: Purpose) -> Result<Template<'a>, u64> {
    if pointer.is_null() {
        return Ok(Template::Null(widen(count)));
    }
    // SAFETY: the pointer is not NULL, the rest is the caller's word.
    Ok(Template::Attributes(unsafe { read_array(pointer, count, purpose, 1) }?))
}

unsafe fn read_array<'a>(
    pointer: *const CK_ATTRIBUTE,
    count: CK_ULONG,
    purpose: Purpose,
    level: usize,
) -> Result<Vec<Attribute<'a>>, u64> {
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_ATTRIBUTES)
        .ok_or(CKR_HOST_MEMORY)?;
    if level > MAX_DEPTH {
        return Err(CKR_HOST_MEMORY);
    }
    let mut attributes = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: the caller vouches for `count` attributes.
        let attribute = unsafe { pointer.add(index).read_unaligned() };
        attributes.push(Attribute {
            attribute: widen(attribute.type_),
            // SAFETY: this is one of them.
            value: unsafe { read_value(&attribute, purpose, level) }?,
        });
    }
    Ok(attributes)
}

unsafe fn read_value<'a>(attribute: &CK_ATTRIBUTE, purpose: Purpose, level: usize) -> Result<AttributeValue<'a>, u64> {
    let length = attribute.ulValueLen;
    if attribute.pValue.is_null() {
        return Ok(AttributeValue::Null(widen(length)));
    }
    let kind = attribute_kind(widen(attribute.type_));
    let size = usize::try_from(length).map_err(|_| CKR_HOST_MEMORY)?;
    if is_template(attribute) {
        let count = length / ATTRIBUTE as CK_ULONG;
        // SAFETY: the value of such an attribute is an array of attributes, so many as fit its length.
        let inner = unsafe { read_array(attribute.pValue.cast(), count, purpose, level + 1) }?;
        return Ok(AttributeValue::Template(inner));
    }
    if purpose == Purpose::Query {
        return Ok(match kind {
            AttributeKind::Ulong | AttributeKind::Ulongs if size % ULONG == 0 => {
                AttributeValue::RoomNumbers((size / ULONG) as u64)
            }
            _ => AttributeValue::RoomBytes(widen(length)),
        });
    }
    // SAFETY: the caller vouches for the value.
    let Bytes::Data(data) = (unsafe { memory::bytes(attribute.pValue.cast(), length) })? else {
        return Ok(AttributeValue::Null(widen(length)));
    };
    let numbers = || data.chunks_exact(ULONG).map(number);
    Ok(match kind {
        AttributeKind::Ulong if size == ULONG => AttributeValue::Number(number(data)),
        AttributeKind::Ulongs if size % ULONG == 0 => AttributeValue::Numbers(numbers().collect()),
        _ => AttributeValue::Bytes(data),
    })
}

/// Whether the value is an array of attributes: what is in other values must not be taken for pointers.
fn is_template(attribute: &CK_ATTRIBUTE) -> bool {
    attribute_kind(widen(attribute.type_)) == AttributeKind::Template
        && widen(attribute.ulValueLen) % ATTRIBUTE as u64 == 0
}

/// The CK_ULONG in bytes of exactly its size.
fn number(bytes: &[u8]) -> u64 {
    let mut word = [0; ULONG];
    word.copy_from_slice(bytes);
    widen(CK_ULONG::from_ne_bytes(word))
}

/// Writes the answer to C_GetAttributeValue into the template that the query was read from.
///
/// Values that are larger than the caller's room are left out: only a faulty peer sends such.
///
/// # Errors
/// CKR_GENERAL_ERROR: a number does not fit a CK_ULONG of this machine.
///
/// # Safety
/// As [`read_query`], and what it points to is still as it was then and can be written to.
pub unsafe fn write_answer(pointer: *mut CK_ATTRIBUTE, count: CK_ULONG, answer: &Template<'_>) -> Result<(), u64> {
    if let Template::Attributes(answer) = answer {
        // SAFETY: as above.
        unsafe { write_array(pointer, count as usize, answer, false) }?;
    }
    Ok(())
}

/// In nested templates the token may tell the types, too: a caller need not know what is in there.
unsafe fn write_array(
    pointer: *mut CK_ATTRIBUTE,
    count: usize,
    answer: &[Attribute<'_>],
    nested: bool,
) -> Result<(), u64> {
    if pointer.is_null() {
        return Ok(());
    }
    for (index, entry) in answer.iter().take(count).enumerate() {
        // SAFETY: the index is below the number of attributes that the caller vouches for.
        let place = unsafe { pointer.add(index) };
        // SAFETY: this is one of them, and its value has room for ulValueLen bytes.
        unsafe {
            let mut attribute = place.read_unaligned();
            attribute.ulValueLen = write_value(&attribute, &entry.value)?;
            if nested {
                attribute.type_ = narrow(entry.attribute).ok_or(CKR_GENERAL_ERROR)?;
            }
            place.write_unaligned(attribute);
        }
    }
    Ok(())
}

/// Writes a value if there is room, and returns its length in bytes.
unsafe fn write_value(attribute: &CK_ATTRIBUTE, value: &AttributeValue<'_>) -> Result<CK_ULONG, u64> {
    let capacity = attribute.ulValueLen as usize;
    let fits = |length: usize| !attribute.pValue.is_null() && length <= capacity;
    let length = match value {
        AttributeValue::Null(length) => *length,
        AttributeValue::Bytes(data) => {
            if fits(data.len()) {
                // SAFETY: it fits.
                unsafe { memory::copy(data, attribute.pValue.cast()) };
            }
            data.len() as u64
        }
        AttributeValue::Number(number) => {
            if fits(ULONG) {
                // SAFETY: it fits.
                unsafe { memory::set_cell(attribute.pValue.cast(), *number) }?;
            }
            ULONG as u64
        }
        AttributeValue::Numbers(numbers) => {
            let length = numbers.len() * ULONG;
            if fits(length) {
                // SAFETY: it fits.
                unsafe { memory::copy_numbers(numbers, attribute.pValue.cast()) }?;
            }
            length as u64
        }
        AttributeValue::Template(entries) => {
            let length = entries.len() * ATTRIBUTE;
            if fits(length) && is_template(attribute) {
                // SAFETY: the room holds that many attributes, which the query was read from.
                unsafe { write_array(attribute.pValue.cast(), entries.len(), entries, true) }?;
            }
            length as u64
        }
        AttributeValue::LengthNumbers(count) => count.saturating_mul(ULONG as u64),
        AttributeValue::LengthAttributes(count) => count.saturating_mul(ATTRIBUTE as u64),
        AttributeValue::Unavailable => return Ok(UNAVAILABLE),
        // Rooms are in queries only.
        AttributeValue::RoomBytes(_) | AttributeValue::RoomNumbers(_) => widen(attribute.ulValueLen),
    };
    narrow(length).ok_or(CKR_GENERAL_ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::{from_mut, null_mut};
    use keyway_wire::generated::attribute::{
        CKA_ALLOWED_MECHANISMS, CKA_CLASS, CKA_LABEL, CKA_VALUE, CKA_WRAP_TEMPLATE,
    };

    fn attribute<T>(number: u64, value: *mut T, length: usize) -> CK_ATTRIBUTE {
        CK_ATTRIBUTE {
            type_: number as CK_ULONG,
            pValue: value.cast(),
            ulValueLen: length as CK_ULONG,
        }
    }

    fn query(template: &[CK_ATTRIBUTE]) -> Result<Template<'_>, u64> {
        // SAFETY: the tests build templates whose pointers and lengths are right.
        unsafe { read_query(template.as_ptr(), template.len() as CK_ULONG) }
    }

    fn entries<'a>(values: &[(u64, AttributeValue<'a>)]) -> Vec<Attribute<'a>> {
        let entry = |(attribute, value): &(u64, AttributeValue<'a>)| Attribute {
            attribute: *attribute,
            value: value.clone(),
        };
        values.iter().map(entry).collect()
    }

    fn answer(template: &mut [CK_ATTRIBUTE], values: &[(u64, AttributeValue<'_>)]) -> Result<(), u64> {
        let answer = Template::Attributes(entries(values));
        // SAFETY: as above.
        unsafe { write_answer(template.as_mut_ptr(), template.len() as CK_ULONG, &answer) }
    }

    #[test]
    fn values_travel_by_kind_only_if_their_length_fits_it() {
        let mut class = 3 as CK_ULONG;
        let mut mechanisms = [1 as CK_ULONG, CK_ULONG::MAX];
        let mut label = *b"label";
        let template = [
            attribute(CKA_CLASS, from_mut(&mut class), ULONG),
            attribute(CKA_CLASS, from_mut(&mut class), 3),
            attribute(CKA_ALLOWED_MECHANISMS, mechanisms.as_mut_ptr(), 2 * ULONG),
            attribute(CKA_LABEL, label.as_mut_ptr(), 5),
            attribute(CKA_VALUE, null_mut::<u8>(), 9),
        ];
        // SAFETY: the pointers and lengths are right.
        let read = unsafe { read_template(template.as_ptr(), 5) }.expect("a template");
        let Template::Attributes(list) = read else {
            panic!("NULL")
        };
        let values: Vec<_> = list.into_iter().map(|attribute| attribute.value).collect();
        let short = &class.to_ne_bytes()[..3];
        assert_eq!(
            values,
            [
                AttributeValue::Number(3),
                AttributeValue::Bytes(short),
                AttributeValue::Numbers(vec![1, u64::MAX]),
                AttributeValue::Bytes(b"label"),
                AttributeValue::Null(9),
            ]
        );
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { read_template(core::ptr::null(), 4) }, Ok(Template::Null(4)));
        // SAFETY: the count is refused before the pointer is followed.
        let far = unsafe { read_template(template.as_ptr(), MAX_ATTRIBUTES as CK_ULONG + 1) };
        assert_eq!(far, Err(CKR_HOST_MEMORY));
    }

    #[test]
    fn answers_are_written_where_they_fit_and_their_lengths_always() {
        let mut label = [0_u8; 4];
        let mut class = 0 as CK_ULONG;
        let mut template = [
            attribute(CKA_LABEL, label.as_mut_ptr(), 4),
            attribute(CKA_CLASS, from_mut(&mut class), ULONG),
            attribute(CKA_VALUE, null_mut::<u8>(), 0),
            attribute(CKA_ALLOWED_MECHANISMS, null_mut::<u8>(), 0),
        ];
        let expected = [
            AttributeValue::RoomBytes(4),
            AttributeValue::RoomNumbers(1),
            AttributeValue::Null(0),
            AttributeValue::Null(0),
        ];
        let Ok(Template::Attributes(list)) = query(&template) else {
            panic!("no query")
        };
        assert_eq!(
            list.into_iter().map(|attribute| attribute.value).collect::<Vec<_>>(),
            expected
        );

        let told = [
            (CKA_LABEL, AttributeValue::Bytes(b"abc")),
            (CKA_CLASS, AttributeValue::Number(u64::MAX)),
            (CKA_VALUE, AttributeValue::Null(32)),
            (CKA_ALLOWED_MECHANISMS, AttributeValue::LengthNumbers(3)),
            // One more than was asked for.
            (CKA_LABEL, AttributeValue::Bytes(b"beyond")),
        ];
        assert_eq!(answer(&mut template, &told), Ok(()));
        let lengths: Vec<_> = template.iter().map(|attribute| attribute.ulValueLen as usize).collect();
        assert_eq!(
            (lengths, label, class),
            (vec![3, ULONG, 32, 3 * ULONG], *b"abc\0", CK_ULONG::MAX)
        );

        // More than there is room for, as only a faulty peer sends it.
        template[0].ulValueLen = 4;
        template[1].ulValueLen = 1;
        label = [0; 4];
        class = 0;
        let told = [
            (CKA_LABEL, AttributeValue::Bytes(b"abcde")),
            (CKA_CLASS, AttributeValue::Numbers(vec![1, 2])),
        ];
        assert_eq!(answer(&mut template, &told), Ok(()));
        assert_eq!((label, class, template[0].ulValueLen), ([0; 4], 0, 5));
        assert_eq!(
            answer(&mut template, &[(CKA_LABEL, AttributeValue::Unavailable)]),
            Ok(())
        );
        assert_eq!(template[0].ulValueLen, CK_ULONG::MAX);
    }

    #[test]
    fn nested_answers_bring_types_and_stay_within_the_nested_room() {
        let mut label = [0_u8; 4];
        let mut inner = [
            attribute(u64::MAX, label.as_mut_ptr(), 4),
            attribute(u64::MAX, null_mut::<u8>(), 0),
        ];
        let mut template = [attribute(CKA_WRAP_TEMPLATE, inner.as_mut_ptr(), 2 * ATTRIBUTE)];
        let nested = |values: &[(u64, AttributeValue<'static>)]| {
            [(CKA_WRAP_TEMPLATE, AttributeValue::Template(entries(values)))]
        };
        let two = [
            (CKA_LABEL, AttributeValue::Bytes(b"abcd")),
            (CKA_VALUE, AttributeValue::Null(32)),
        ];
        assert_eq!(answer(&mut template, &nested(&two)), Ok(()));
        assert_eq!(
            (inner[0].type_ as u64, inner[0].ulValueLen, label),
            (CKA_LABEL, 4, *b"abcd")
        );
        assert_eq!((inner[1].type_ as u64, inner[1].ulValueLen), (CKA_VALUE, 32));

        let three = [
            two[0].clone(),
            two[1].clone(),
            (CKA_LABEL, AttributeValue::Bytes(b"over")),
        ];
        label = [0; 4];
        assert_eq!(answer(&mut template, &nested(&three)), Ok(()));
        assert_eq!((label, template[0].ulValueLen as usize), ([0; 4], 3 * ATTRIBUTE));
        assert_eq!(
            answer(
                &mut template,
                &[(CKA_WRAP_TEMPLATE, AttributeValue::LengthAttributes(2))]
            ),
            Ok(())
        );
        assert_eq!(template[0].ulValueLen as usize, 2 * ATTRIBUTE);
    }

    #[test]
    fn an_answer_can_not_make_a_template_of_bytes() {
        let mut elsewhere = [7_u8; 4];
        // What an earlier answer may have left in the buffer.
        let mut label = [attribute(CKA_LABEL, elsewhere.as_mut_ptr(), 4)];
        let mut template = [attribute(CKA_LABEL, label.as_mut_ptr(), ATTRIBUTE)];
        let inner = entries(&[(CKA_LABEL, AttributeValue::Bytes(b"evil"))]);
        assert_eq!(
            answer(&mut template, &[(CKA_LABEL, AttributeValue::Template(inner.clone()))]),
            Ok(())
        );
        assert_eq!(elsewhere, [7; 4]);
        // Nor in a nested template, whose types the answer tells.
        let mut outer = [attribute(CKA_WRAP_TEMPLATE, template.as_mut_ptr(), ATTRIBUTE)];
        let nested = entries(&[(CKA_WRAP_TEMPLATE, AttributeValue::Template(inner))]);
        assert_eq!(
            answer(&mut outer, &[(CKA_WRAP_TEMPLATE, AttributeValue::Template(nested))]),
            Ok(())
        );
        assert_eq!(elsewhere, [7; 4]);
    }

    #[test]
    fn a_template_that_contains_itself_is_refused() {
        let mut template = [attribute(CKA_WRAP_TEMPLATE, null_mut::<u8>(), ATTRIBUTE)];
        template[0].pValue = template.as_mut_ptr().cast();
        assert_eq!(query(&template), Err(CKR_HOST_MEMORY));
    }
}
