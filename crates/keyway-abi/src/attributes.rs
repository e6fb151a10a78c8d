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
    if kind == AttributeKind::Template && size % ATTRIBUTE == 0 {
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
            if nested {
                attribute.type_ = narrow(entry.attribute).ok_or(CKR_GENERAL_ERROR)?;
            }
            attribute.ulValueLen = write_value(&attribute, &entry.value)?;
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
            if fits(length) {
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
