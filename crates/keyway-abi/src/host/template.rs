//! Templates for a vendor module (docs/wire.md, section 4.2), and the answers that it wrote into them.

use super::arena::Arena;
use crate::ctypes::{CK_ATTRIBUTE, CK_ULONG};
use crate::memory;
use crate::ulong::{narrow, widen, UNAVAILABLE};
use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::null_mut;
use keyway_wire::generated::attribute_kind;
use keyway_wire::generated::rv::{
    CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_VALUE_INVALID, CKR_BUFFER_TOO_SMALL,
    CKR_GENERAL_ERROR, CKR_OK,
};
use keyway_wire::limits::MAX_OUTPUT;
use keyway_wire::table::AttributeKind;
use keyway_wire::value::{Attribute, AttributeValue, Template};

const ULONG: usize = size_of::<CK_ULONG>();
const ATTRIBUTE: usize = size_of::<CK_ATTRIBUTE>();

/// The template of a query in C memory.
pub(super) enum Query {
    /// NULL.
    Null,
    /// Its attributes.
    List(List),
}

/// An array of attributes in C memory, with the room that each was given: the module may have changed what is there.
pub(super) struct List {
    base: *mut CK_ATTRIBUTE,
    rooms: Vec<Room>,
}

enum Room {
    None,
    Bytes { pointer: *mut u8, length: usize },
    List(List),
}

fn number(value: u64) -> Result<CK_ULONG, u64> {
    narrow(value).ok_or(CKR_GENERAL_ERROR)
}

/// Builds a template whose values the module reads: its address and count.
pub(super) fn build_template(arena: &mut Arena, template: &Template<'_>) -> Result<(*mut CK_ATTRIBUTE, CK_ULONG), u64> {
    match template {
        Template::Null(count) => Ok((null_mut(), number(*count)?)),
        Template::Attributes(list) => Ok((build_list(arena, list)?, number(list.len() as u64)?)),
    }
}

fn build_list(arena: &mut Arena, list: &[Attribute<'_>]) -> Result<*mut CK_ATTRIBUTE, u64> {
    let base = arena.allocate(list.len() * ATTRIBUTE)?.cast::<CK_ATTRIBUTE>();
    for (index, Attribute { attribute, value }) in list.iter().enumerate() {
        let (pointer, length) = match value {
            AttributeValue::Null(length) => (null_mut(), number(*length)?),
            AttributeValue::Bytes(bytes) if attribute_kind(*attribute) == AttributeKind::Template => {
                // They would be attributes with pointers off the wire. A length that is none of theirs is the module's to judge.
                if bytes.len() % ATTRIBUTE == 0 {
                    return Err(CKR_ATTRIBUTE_VALUE_INVALID);
                }
                (arena.allocate(bytes.len())?, number(bytes.len() as u64)?)
            }
            AttributeValue::Bytes(bytes) => (arena.copy(bytes)?, number(bytes.len() as u64)?),
            AttributeValue::Number(value) => (arena.cell(number(*value)?)?.cast(), ULONG as CK_ULONG),
            AttributeValue::Numbers(values) => {
                let length = values.len() * ULONG;
                let pointer = arena.allocate(length)?;
                // SAFETY: there is room for so many numbers.
                unsafe { memory::copy_numbers(values, pointer.cast()) }?;
                (pointer, number(length as u64)?)
            }
            AttributeValue::Template(_) if attribute_kind(*attribute) != AttributeKind::Template => {
                // The module would keep our addresses as the value, and tell them.
                return Err(CKR_ATTRIBUTE_VALUE_INVALID);
            }
            AttributeValue::Template(nested) => (
                build_list(arena, nested)?.cast(),
                number((nested.len() * ATTRIBUTE) as u64)?,
            ),
            _ => return Err(CKR_GENERAL_ERROR),
        };
        // SAFETY: the index is below the number of attributes that there is room for.
        unsafe { put(base, index, *attribute, pointer, length) }?;
    }
    Ok(base)
}

unsafe fn put(
    base: *mut CK_ATTRIBUTE,
    index: usize,
    attribute: u64,
    pointer: *mut u8,
    length: CK_ULONG,
) -> Result<(), u64> {
    let value = CK_ATTRIBUTE {
        type_: number(attribute)?,
        pValue: pointer.cast::<c_void>(),
        ulValueLen: length,
    };
    // SAFETY: the caller vouches for the index; the arena aligns for every C type.
    unsafe { base.add(index).write(value) };
    Ok(())
}

/// Builds the template of C_GetAttributeValue, with room for what the caller has room for: its address, count, and rooms.
pub(super) fn build_query(
    arena: &mut Arena,
    template: &Template<'_>,
) -> Result<(*mut CK_ATTRIBUTE, CK_ULONG, Query), u64> {
    match template {
        Template::Null(count) => Ok((null_mut(), number(*count)?, Query::Null)),
        Template::Attributes(entries) => {
            let mut budget = MAX_OUTPUT;
            let list = build_rooms(arena, entries, &mut budget)?;
            Ok((list.base, number(entries.len() as u64)?, Query::List(list)))
        }
    }
}

/// All rooms together are no larger than the one output argument that they are.
fn build_rooms(arena: &mut Arena, entries: &[Attribute<'_>], budget: &mut usize) -> Result<List, u64> {
    let base = arena.allocate(entries.len() * ATTRIBUTE)?.cast::<CK_ATTRIBUTE>();
    let mut rooms = Vec::with_capacity(entries.len());
    for (index, Attribute { attribute, value }) in entries.iter().enumerate() {
        let mut room = |length: u64| {
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(*budget);
            *budget -= length;
            arena.allocate(length).map(|pointer| (pointer, length))
        };
        let (pointer, length, room) = match value {
            AttributeValue::Null(length) => (null_mut(), number(*length)?, Room::None),
            AttributeValue::RoomBytes(length) => {
                let (pointer, length) = room(*length)?;
                (pointer, number(length as u64)?, Room::Bytes { pointer, length })
            }
            AttributeValue::RoomNumbers(count) => {
                let (pointer, length) = room(count.saturating_mul(ULONG as u64))?;
                (pointer, number(length as u64)?, Room::Bytes { pointer, length })
            }
            AttributeValue::Template(_) if attribute_kind(*attribute) != AttributeKind::Template => {
                return Err(CKR_ATTRIBUTE_VALUE_INVALID);
            }
            AttributeValue::Template(nested) => {
                let list = build_rooms(arena, nested, budget)?;
                (
                    list.base.cast(),
                    number((nested.len() * ATTRIBUTE) as u64)?,
                    Room::List(list),
                )
            }
            _ => return Err(CKR_GENERAL_ERROR),
        };
        // SAFETY: the index is below the number of attributes that there is room for.
        unsafe { put(base, index, *attribute, pointer, length) }?;
        rooms.push(room);
    }
    Ok(List { base, rooms })
}

/// The answer that the module left in the template of a query.
pub(super) fn answer<'a>(query: &Query, rv: u64) -> Template<'a> {
    let valued = matches!(
        rv,
        CKR_OK | CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID | CKR_BUFFER_TOO_SMALL
    );
    match query {
        Query::Null => Template::Null(0),
        Query::List(list) => Template::Attributes(entries(list, list.rooms.len(), valued)),
    }
}

fn entries<'a>(list: &List, count: usize, valued: bool) -> Vec<Attribute<'a>> {
    let entry = |(index, room): (usize, &Room)| {
        // SAFETY: there is an attribute for each room.
        let attribute = unsafe { list.base.add(index).read() };
        let kind = attribute_kind(widen(attribute.type_));
        Attribute {
            attribute: widen(attribute.type_),
            value: value(kind, attribute.ulValueLen, room, valued),
        }
    };
    list.rooms.iter().take(count).enumerate().map(entry).collect()
}

fn value<'a>(kind: AttributeKind, length: CK_ULONG, room: &Room, valued: bool) -> AttributeValue<'a> {
    if length == UNAVAILABLE {
        return AttributeValue::Unavailable;
    }
    let fits = |capacity: usize| usize::try_from(length).is_ok_and(|length| length <= capacity);
    match room {
        Room::Bytes {
            pointer,
            length: capacity,
        } if valued && fits(*capacity) => {
            // SAFETY: the value lies in its room, which lives as long as the arena, as does what borrows from it.
            bytes(kind, unsafe { core::slice::from_raw_parts(*pointer, length as usize) })
        }
        // The lengths in there are told whatever the RV, like those out here.
        Room::List(list) if fits(list.rooms.len() * ATTRIBUTE) && length as usize % ATTRIBUTE == 0 => {
            AttributeValue::Template(entries(list, length as usize / ATTRIBUTE, valued))
        }
        _ => length_only(kind, length),
    }
}

fn bytes(kind: AttributeKind, data: &[u8]) -> AttributeValue<'_> {
    let numbers = || {
        data.chunks_exact(ULONG).map(|bytes| {
            let mut word = [0; ULONG];
            word.copy_from_slice(bytes);
            widen(CK_ULONG::from_ne_bytes(word))
        })
    };
    match kind {
        AttributeKind::Ulong if data.len() == ULONG => AttributeValue::Number(numbers().sum()),
        AttributeKind::Ulongs if data.len() % ULONG == 0 => AttributeValue::Numbers(numbers().collect()),
        _ => AttributeValue::Bytes(data),
    }
}

fn length_only<'a>(kind: AttributeKind, length: CK_ULONG) -> AttributeValue<'a> {
    let whole = |size: usize| (widen(length) % size as u64 == 0).then_some(widen(length) / size as u64);
    let counted = match kind {
        AttributeKind::Ulong | AttributeKind::Ulongs => whole(ULONG).map(AttributeValue::LengthNumbers),
        AttributeKind::Template => whole(ATTRIBUTE).map(AttributeValue::LengthAttributes),
        AttributeKind::Bytes => None,
    };
    counted.unwrap_or(AttributeValue::Null(widen(length)))
}
