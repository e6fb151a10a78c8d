//! Templates, queries and answers (docs/wire.md, section 4.2).

use crate::codec::basic::{array, data, put_array, put_data};
use crate::codec::depth::Depth;
use crate::cursor::{Reader, Writer, NULL};
use crate::error::WireError;
use crate::limits::MAX_ATTRIBUTES;
use crate::value::{Attribute, AttributeValue, Template};

/// The three forms of a template: each allows some of the tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The values that the caller sends.
    Template,
    /// What C_GetAttributeValue asks for.
    Query,
    /// What it found.
    Answer,
}

/// A u64 type, a u8 tag and at least the u32 of an empty value, except for the tag 255 of an answer.
const SMALLEST_ATTRIBUTE: usize = 9;

/// Appends a template; an answer to a NULL query is NULL without a count.
pub(super) fn put_template(
    w: &mut Writer<'_>,
    form: Form,
    value: &Template<'_>,
    depth: Depth,
) -> Result<(), WireError> {
    match value {
        Template::Null(count) => {
            w.u32(NULL);
            if form != Form::Answer {
                w.u64(*count);
            }
            Ok(())
        }
        Template::Attributes(attributes) => put_attributes(w, form, attributes, depth),
    }
}

/// Takes a template.
pub(super) fn template<'a>(r: &mut Reader<'a>, form: Form, depth: Depth) -> Result<Template<'a>, WireError> {
    match r.u32()? {
        NULL if form == Form::Answer => Ok(Template::Null(0)),
        NULL => r.u64().map(Template::Null),
        count => attributes(r, form, count, depth).map(Template::Attributes),
    }
}

fn put_attributes(w: &mut Writer<'_>, form: Form, list: &[Attribute<'_>], depth: Depth) -> Result<(), WireError> {
    let depth = depth.enter()?;
    w.count(list.len(), MAX_ATTRIBUTES)?;
    for Attribute { attribute, value } in list {
        w.u64(*attribute);
        let tag = tag(form, value).ok_or(WireError::Mismatch)?;
        w.u8(tag);
        match value {
            AttributeValue::Null(number)
            | AttributeValue::Number(number)
            | AttributeValue::RoomBytes(number)
            | AttributeValue::RoomNumbers(number)
            | AttributeValue::LengthNumbers(number)
            | AttributeValue::LengthAttributes(number) => w.u64(*number),
            AttributeValue::Bytes(bytes) => put_data(w, bytes)?,
            AttributeValue::Numbers(numbers) => put_array(w, numbers)?,
            AttributeValue::Template(nested) => put_attributes(w, form, nested, depth)?,
            AttributeValue::Unavailable => {}
        }
    }
    Ok(())
}

fn attributes<'a>(r: &mut Reader<'a>, form: Form, count: u32, depth: Depth) -> Result<Vec<Attribute<'a>>, WireError> {
    let depth = depth.enter()?;
    let count = r.count(count, MAX_ATTRIBUTES, SMALLEST_ATTRIBUTE)?;
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        let attribute = r.u64()?;
        let value = value(r, form, depth)?;
        list.push(Attribute { attribute, value });
    }
    Ok(list)
}

/// The tag of a value, if the form allows it.
fn tag(form: Form, value: &AttributeValue<'_>) -> Option<u8> {
    match (form, value) {
        (_, AttributeValue::Null(_)) => Some(0),
        (Form::Template | Form::Answer, AttributeValue::Bytes(_)) => Some(1),
        (Form::Template | Form::Answer, AttributeValue::Number(_)) => Some(2),
        (Form::Template | Form::Answer, AttributeValue::Numbers(_)) => Some(3),
        (Form::Template | Form::Answer, AttributeValue::Template(_)) => Some(4),
        (Form::Query, AttributeValue::RoomBytes(_)) => Some(5),
        (Form::Query, AttributeValue::RoomNumbers(_)) => Some(6),
        (Form::Query, AttributeValue::Template(_)) => Some(7),
        (Form::Answer, AttributeValue::LengthNumbers(_)) => Some(8),
        (Form::Answer, AttributeValue::LengthAttributes(_)) => Some(9),
        (Form::Answer, AttributeValue::Unavailable) => Some(255),
        _ => None,
    }
}

fn value<'a>(r: &mut Reader<'a>, form: Form, depth: Depth) -> Result<AttributeValue<'a>, WireError> {
    let valued = form != Form::Query;
    Ok(match r.u8()? {
        0 => AttributeValue::Null(r.u64()?),
        1 if valued => {
            let length = r.u32()?;
            AttributeValue::Bytes(data(r, length)?)
        }
        2 if valued => AttributeValue::Number(r.u64()?),
        3 if valued => AttributeValue::Numbers(array(r)?),
        4 if valued => nested(r, form, depth)?,
        5 if form == Form::Query => AttributeValue::RoomBytes(r.u64()?),
        6 if form == Form::Query => AttributeValue::RoomNumbers(r.u64()?),
        7 if form == Form::Query => nested(r, form, depth)?,
        8 if form == Form::Answer => AttributeValue::LengthNumbers(r.u64()?),
        9 if form == Form::Answer => AttributeValue::LengthAttributes(r.u64()?),
        255 if form == Form::Answer => AttributeValue::Unavailable,
        other => return Err(WireError::Tag(other)),
    })
}

fn nested<'a>(r: &mut Reader<'a>, form: Form, depth: Depth) -> Result<AttributeValue<'a>, WireError> {
    let count = r.u32()?;
    attributes(r, form, count, depth).map(AttributeValue::Template)
}
