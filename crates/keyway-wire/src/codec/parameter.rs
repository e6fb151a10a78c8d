//! Mechanisms and their parameters (docs/wire.md, section 4.1).

use crate::codec::basic::{cell, data, put_cell, put_data, put_string, string};
use crate::codec::depth::Depth;
use crate::codec::template::{put_template, template, Form};
use crate::cursor::{Reader, Writer, NULL};
use crate::error::WireError;
use crate::limits::MAX_ATTRIBUTES;
use crate::lookup::shape;
use crate::table::MemberKind;
use crate::value::{Mechanism, Member, Parameter};

/// Which end sends the parameter: only replies may say, at any level, that nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Reply,
}

/// Appends a mechanism with its parameter.
pub(super) fn put_mechanism(
    w: &mut Writer<'_>,
    direction: Direction,
    value: Option<&Mechanism<'_>>,
    depth: Depth,
) -> Result<(), WireError> {
    w.u8(u8::from(value.is_some()));
    match value {
        Some(Mechanism { mechanism, parameter }) => {
            w.u64(*mechanism);
            put_parameter(w, direction, parameter, depth)
        }
        None => Ok(()),
    }
}

/// Takes a mechanism with its parameter.
pub(super) fn mechanism<'a>(
    r: &mut Reader<'a>,
    direction: Direction,
    depth: Depth,
) -> Result<Option<Mechanism<'a>>, WireError> {
    if !r.present()? {
        return Ok(None);
    }
    let mechanism = r.u64()?;
    let parameter = parameter(r, direction, depth)?;
    Ok(Some(Mechanism { mechanism, parameter }))
}

/// Appends a *parameter*.
pub(super) fn put_parameter(
    w: &mut Writer<'_>,
    direction: Direction,
    value: &Parameter<'_>,
    depth: Depth,
) -> Result<(), WireError> {
    match value {
        Parameter::Null(length) => {
            w.u8(0);
            w.u64(*length);
            Ok(())
        }
        Parameter::Flat(bytes) => {
            w.u8(1);
            put_data(w, bytes)
        }
        Parameter::Structured(id, members) => {
            w.u8(2);
            w.u16(*id);
            put_members(w, direction, *id, members, depth)
        }
        Parameter::Unchanged if direction == Direction::Reply => {
            w.u8(3);
            Ok(())
        }
        Parameter::Unchanged => Err(WireError::Mismatch),
    }
}

/// Takes a *parameter*.
pub(super) fn parameter<'a>(
    r: &mut Reader<'a>,
    direction: Direction,
    depth: Depth,
) -> Result<Parameter<'a>, WireError> {
    match r.u8()? {
        0 => r.u64().map(Parameter::Null),
        1 => {
            let length = r.u32()?;
            data(r, length).map(Parameter::Flat)
        }
        2 => {
            let id = r.u16()?;
            Ok(Parameter::Structured(id, members(r, direction, id, depth)?))
        }
        3 if direction == Direction::Reply => Ok(Parameter::Unchanged),
        other => Err(WireError::Tag(other)),
    }
}

/// Appends the members of a structure; `Length` members have no entry in the list.
fn put_members(
    w: &mut Writer<'_>,
    direction: Direction,
    id: u16,
    list: &[Member<'_>],
    depth: Depth,
) -> Result<(), WireError> {
    let depth = depth.enter()?;
    let mut list = list.iter();
    for spec in shape(id).ok_or(WireError::Shape(id))?.members {
        if spec.kind != MemberKind::Length {
            put_member(w, direction, spec.kind, list.next().ok_or(WireError::Mismatch)?, depth)?;
        }
    }
    match list.next() {
        None => Ok(()),
        Some(_) => Err(WireError::Mismatch),
    }
}

/// Takes the members of a structure.
fn members<'a>(r: &mut Reader<'a>, direction: Direction, id: u16, depth: Depth) -> Result<Vec<Member<'a>>, WireError> {
    let depth = depth.enter()?;
    let specs = shape(id).ok_or(WireError::Shape(id))?.members;
    let mut list = Vec::with_capacity(specs.len());
    for spec in specs {
        if spec.kind != MemberKind::Length {
            list.push(member(r, direction, spec.kind, depth)?);
        }
    }
    Ok(list)
}

fn put_member(
    w: &mut Writer<'_>,
    direction: Direction,
    kind: MemberKind,
    value: &Member<'_>,
    depth: Depth,
) -> Result<(), WireError> {
    match (kind, value) {
        (MemberKind::Ulong | MemberKind::Object, Member::Ulong(number)) => w.u64(*number),
        (MemberKind::Byte, Member::Byte(byte)) => w.u8(*byte),
        (MemberKind::Bytes(length), Member::Array(bytes)) if bytes.len() == usize::from(length) => w.bytes(bytes),
        (MemberKind::Ulongs(count), Member::Ulongs(numbers)) if numbers.len() == usize::from(count) => {
            w.numbers(numbers)
        }
        (MemberKind::String(_) | MemberKind::StringSized(_), Member::String(bytes)) => put_string(w, *bytes)?,
        (MemberKind::Cell | MemberKind::ObjectCell, Member::Cell(number)) => put_cell(w, *number),
        (MemberKind::Version, Member::Version(version)) => {
            w.u8(u8::from(version.is_some()));
            w.bytes(version.as_ref().map_or(&[], <[u8; 2]>::as_slice));
        }
        (MemberKind::Struct(id), Member::Struct(nested)) => put_members(w, direction, id, nested, depth)?,
        (MemberKind::Pointer(id), Member::Pointer(nested)) => {
            w.u8(u8::from(nested.is_some()));
            if let Some(nested) = nested {
                put_members(w, direction, id, nested, depth)?;
            }
        }
        (MemberKind::Array(id, _), Member::Structs(list)) => put_structs(w, direction, id, list.as_deref(), depth)?,
        (MemberKind::Template(_), Member::Template(value)) => put_template(w, Form::Template, value, depth)?,
        (MemberKind::Text, Member::String(bytes)) => put_string(w, *bytes)?,
        (MemberKind::Choice { .. }, Member::Parameter(value)) => put_parameter(w, direction, value, depth)?,
        (MemberKind::Mechanism, Member::Mechanism(value)) => put_mechanism(w, direction, value.as_ref(), depth)?,
        _ => return Err(WireError::Mismatch),
    }
    Ok(())
}

fn member<'a>(
    r: &mut Reader<'a>,
    direction: Direction,
    kind: MemberKind,
    depth: Depth,
) -> Result<Member<'a>, WireError> {
    Ok(match kind {
        MemberKind::Ulong | MemberKind::Object => Member::Ulong(r.u64()?),
        MemberKind::Byte => Member::Byte(r.u8()?),
        MemberKind::Bytes(length) => Member::Array(r.bytes(usize::from(length))?),
        MemberKind::Ulongs(count) => Member::Ulongs(r.numbers(usize::from(count))?),
        MemberKind::Length => return Err(WireError::Mismatch),
        MemberKind::String(_) | MemberKind::StringSized(_) | MemberKind::Text => Member::String(string(r)?),
        MemberKind::Cell | MemberKind::ObjectCell => Member::Cell(cell(r)?),
        MemberKind::Version => Member::Version(if r.present()? { Some(*r.array()?) } else { None }),
        MemberKind::Struct(id) => Member::Struct(members(r, direction, id, depth)?),
        MemberKind::Pointer(id) => Member::Pointer(if r.present()? {
            Some(members(r, direction, id, depth)?)
        } else {
            None
        }),
        MemberKind::Array(id, _) => Member::Structs(structs(r, direction, id, depth)?),
        MemberKind::Template(_) => Member::Template(template(r, Form::Template, depth)?),
        MemberKind::Choice { .. } => Member::Parameter(parameter(r, direction, depth)?),
        MemberKind::Mechanism => Member::Mechanism(mechanism(r, direction, depth)?),
    })
}

fn put_structs(
    w: &mut Writer<'_>,
    direction: Direction,
    id: u16,
    list: Result<&[Vec<Member<'_>>], &u64>,
    depth: Depth,
) -> Result<(), WireError> {
    match list {
        Ok(list) => {
            w.count(list.len(), MAX_ATTRIBUTES)?;
            for nested in list {
                put_members(w, direction, id, nested, depth)?;
            }
        }
        Err(count) => {
            w.u32(NULL);
            w.u64(*count);
        }
    }
    Ok(())
}

fn structs<'a>(
    r: &mut Reader<'a>,
    direction: Direction,
    id: u16,
    depth: Depth,
) -> Result<Result<Vec<Vec<Member<'a>>>, u64>, WireError> {
    let count = match r.u32()? {
        NULL => return Ok(Err(r.u64()?)),
        count => count,
    };
    // A structure may have no bytes of its own, so only the limit bounds the count.
    if usize::try_from(count).map_or(true, |count| count > MAX_ATTRIBUTES) {
        return Err(WireError::Limit);
    }
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(members(r, direction, id, depth)?);
    }
    Ok(Ok(list))
}
