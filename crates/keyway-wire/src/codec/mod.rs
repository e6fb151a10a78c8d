//! Bodies of requests and replies to values and back (docs/wire.md, sections 3 to 5).
//!
//! A list of values has one entry for each argument of the call's row that has a request value (in requests) or a reply
//! value (in replies), in the order of the row; the others have none.

mod basic;
mod depth;
mod info;
mod parameter;
mod template;

use crate::cursor::{Reader, Writer};
use crate::error::WireError;
use crate::table::{Call, Kind};
use crate::value::Value;
use depth::Depth;
use parameter::Direction;
use template::Form;

/// Appends the body of a request: all arguments but the first object, which goes to the header.
///
/// # Errors
/// The values do not fit the table, or one is above a limit; `body` is then of no use.
pub fn encode_request(call: &Call, args: &[Value<'_>], body: &mut Vec<u8>) -> Result<(), WireError> {
    let mut w = Writer::new(body);
    let mut args = args.iter();
    let mut header_object = true;
    for kind in call.args.iter().filter(|kind| kind.in_request()) {
        let value = args.next().ok_or(WireError::Mismatch)?;
        if *kind == Kind::Object && std::mem::take(&mut header_object) {
            continue;
        }
        put_request_value(&mut w, *kind, value)?;
    }
    args.next().map_or(Ok(()), |_| Err(WireError::Mismatch))
}

/// The first object among the arguments, which travels in the header; 0 if there is none.
#[must_use]
pub fn header_object(call: &Call, args: &[Value<'_>]) -> u64 {
    let kinds = call.args.iter().filter(|kind| kind.in_request());
    match kinds.zip(args).find(|(kind, _)| **kind == Kind::Object) {
        Some((_, Value::Ulong(object))) => *object,
        _ => 0,
    }
}

/// Reads the body of a request whole; `object`, from the header, is put back to its place.
///
/// # Errors
/// The body is malformed.
pub fn decode_request<'a>(call: &Call, object: u64, body: &'a [u8]) -> Result<Vec<Value<'a>>, WireError> {
    let (values, rest) = decode_request_prefix(call, object, body)?;
    Reader::new(rest).finish()?;
    Ok(values)
}

/// Reads a request from the front of a body and returns what is behind it: the init call's part of a fused request.
///
/// # Errors
/// The body is malformed.
pub fn decode_request_prefix<'a>(
    call: &Call,
    object: u64,
    body: &'a [u8],
) -> Result<(Vec<Value<'a>>, &'a [u8]), WireError> {
    let mut r = Reader::new(body);
    let mut values = Vec::with_capacity(call.args.len());
    let mut header_object = true;
    for kind in call.args.iter().filter(|kind| kind.in_request()) {
        values.push(if *kind == Kind::Object && std::mem::take(&mut header_object) {
            Value::Ulong(object)
        } else {
            request_value(&mut r, *kind)?
        });
    }
    Ok((values, r.rest()))
}

/// Appends the body of a reply; no values make an empty body: nothing was executed.
///
/// # Errors
/// The values do not fit the table, or one is above a limit; `body` is then of no use.
pub fn encode_reply(call: &Call, values: &[Value<'_>], body: &mut Vec<u8>) -> Result<(), WireError> {
    if values.is_empty() {
        return Ok(());
    }
    let mut w = Writer::new(body);
    let mut values = values.iter();
    for kind in call.args.iter().filter(|kind| kind.in_reply()) {
        put_reply_value(&mut w, *kind, values.next().ok_or(WireError::Mismatch)?)?;
    }
    values.next().map_or(Ok(()), |_| Err(WireError::Mismatch))
}

/// Reads the body of a reply whole. No values come from an empty body: then nothing was executed.
///
/// # Errors
/// The body is malformed.
pub fn decode_reply<'a>(call: &Call, body: &'a [u8]) -> Result<Vec<Value<'a>>, WireError> {
    let mut r = Reader::new(body);
    if r.is_empty() {
        return Ok(Vec::new());
    }
    let kinds = call.args.iter().filter(|kind| kind.in_reply());
    let values = kinds.map(|kind| reply_value(&mut r, *kind)).collect::<Result<_, _>>()?;
    r.finish()?;
    Ok(values)
}

fn put_request_value(w: &mut Writer<'_>, kind: Kind, value: &Value<'_>) -> Result<(), WireError> {
    match (kind, value) {
        (Kind::Ulong | Kind::Object, Value::Ulong(number)) => w.u64(*number),
        (Kind::Bool, Value::Bool(byte)) => w.u8(*byte),
        (Kind::Bytes | Kind::Pin | Kind::Name, Value::Bytes(bytes)) => basic::put_string(w, *bytes)?,
        (Kind::Label, Value::Label(label)) => {
            w.u8(u8::from(label.is_some()));
            w.bytes(label.map_or(&[], <[u8; 32]>::as_slice));
        }
        (Kind::Mechanism, Value::Mechanism(value)) => {
            parameter::put_mechanism(w, Direction::Request, value.as_ref(), Depth::default())?
        }
        (Kind::Parameter, Value::Parameter(value)) => {
            parameter::put_parameter(w, Direction::Request, value, Depth::default())?;
        }
        (Kind::Template, Value::Template(value)) => template::put_template(w, Form::Template, value, Depth::default())?,
        (Kind::TemplateOut, Value::Template(value)) => template::put_template(w, Form::Query, value, Depth::default())?,
        (Kind::Buffer | Kind::UlongsOut, Value::Room(room)) => basic::put_room(w, *room),
        (Kind::ObjectsOut, Value::ObjectsRoom(room)) => basic::put_objects_room(w, *room),
        (Kind::Fill, Value::Fill { buffer, length }) => {
            w.u8(u8::from(*buffer));
            w.u64(*length);
        }
        (Kind::UlongOut | Kind::ObjectOut | Kind::SessionOut, Value::Cell(number)) => basic::put_cell(w, *number),
        (kind, Value::Pointer(present)) if kind.is_pointer() => w.u8(u8::from(*present)),
        _ => return Err(WireError::Mismatch),
    }
    Ok(())
}

fn request_value<'a>(r: &mut Reader<'a>, kind: Kind) -> Result<Value<'a>, WireError> {
    Ok(match kind {
        Kind::Ulong | Kind::Object => Value::Ulong(r.u64()?),
        Kind::Bool => Value::Bool(r.u8()?),
        Kind::Bytes | Kind::Pin | Kind::Name => Value::Bytes(basic::string(r)?),
        Kind::Label => Value::Label(if r.present()? { Some(r.array()?) } else { None }),
        Kind::Mechanism => Value::Mechanism(parameter::mechanism(r, Direction::Request, Depth::default())?),
        Kind::Parameter => Value::Parameter(parameter::parameter(r, Direction::Request, Depth::default())?),
        Kind::Template => Value::Template(template::template(r, Form::Template, Depth::default())?),
        Kind::TemplateOut => Value::Template(template::template(r, Form::Query, Depth::default())?),
        Kind::Buffer | Kind::UlongsOut => Value::Room(basic::room(r)?),
        Kind::ObjectsOut => Value::ObjectsRoom(basic::objects_room(r)?),
        Kind::Fill => Value::Fill {
            buffer: r.present()?,
            length: r.u64()?,
        },
        Kind::UlongOut | Kind::ObjectOut | Kind::SessionOut => Value::Cell(basic::cell(r)?),
        Kind::InfoOut
        | Kind::SlotInfoOut
        | Kind::TokenInfoOut
        | Kind::SessionInfoOut
        | Kind::MechanismInfoOut
        | Kind::AsyncDataOut
        | Kind::Reserved => Value::Pointer(r.present()?),
        Kind::BytesOut | Kind::Ignored => return Err(WireError::Mismatch),
    })
}

fn put_reply_value(w: &mut Writer<'_>, kind: Kind, value: &Value<'_>) -> Result<(), WireError> {
    match (kind, value) {
        (Kind::Mechanism | Kind::Parameter, Value::Parameter(value)) => {
            parameter::put_parameter(w, Direction::Reply, value, Depth::default())?;
        }
        (Kind::TemplateOut, Value::Template(value)) => {
            template::put_template(w, Form::Answer, value, Depth::default())?
        }
        (Kind::Buffer, Value::Output(output)) => basic::put_output(w, *output)?,
        (Kind::UlongsOut | Kind::ObjectsOut, Value::Numbers(numbers)) => basic::put_numbers(w, numbers)?,
        (Kind::Fill | Kind::BytesOut, Value::Bytes(bytes)) => basic::put_string(w, *bytes)?,
        (Kind::UlongOut | Kind::ObjectOut, Value::Cell(number)) => basic::put_cell(w, *number),
        (kind, Value::Info(value)) if kind.is_info() => {
            w.u8(u8::from(value.is_some()));
            if let Some(value) = value {
                if !info::matches(kind, value) {
                    return Err(WireError::Mismatch);
                }
                info::put_info(w, value);
            }
        }
        _ => return Err(WireError::Mismatch),
    }
    Ok(())
}

fn reply_value<'a>(r: &mut Reader<'a>, kind: Kind) -> Result<Value<'a>, WireError> {
    Ok(match kind {
        Kind::Mechanism | Kind::Parameter => {
            Value::Parameter(parameter::parameter(r, Direction::Reply, Depth::default())?)
        }
        Kind::TemplateOut => Value::Template(template::template(r, Form::Answer, Depth::default())?),
        Kind::Buffer => Value::Output(basic::output(r)?),
        Kind::UlongsOut | Kind::ObjectsOut => Value::Numbers(basic::numbers(r)?),
        Kind::Fill | Kind::BytesOut => Value::Bytes(basic::string(r)?),
        Kind::UlongOut | Kind::ObjectOut => Value::Cell(basic::cell(r)?),
        kind if kind.is_info() => Value::Info(if r.present()? { Some(info::info(r, kind)?) } else { None }),
        _ => return Err(WireError::Mismatch),
    })
}

/// Which kinds travel where.
impl Kind {
    /// Whether the kind has a request value.
    #[must_use]
    pub const fn in_request(self) -> bool {
        !matches!(self, Self::BytesOut | Self::Ignored)
    }

    /// Whether the kind has a reply value.
    #[must_use]
    pub const fn in_reply(self) -> bool {
        self.is_info()
            || matches!(
                self,
                Self::Mechanism
                    | Self::Parameter
                    | Self::TemplateOut
                    | Self::Buffer
                    | Self::Fill
                    | Self::BytesOut
                    | Self::UlongOut
                    | Self::ObjectOut
                    | Self::UlongsOut
                    | Self::ObjectsOut
            )
    }

    /// Whether the kind is an information structure.
    #[must_use]
    pub const fn is_info(self) -> bool {
        matches!(
            self,
            Self::InfoOut | Self::SlotInfoOut | Self::TokenInfoOut | Self::SessionInfoOut | Self::MechanismInfoOut
        )
    }

    /// Whether a request only says if the pointer is NULL.
    const fn is_pointer(self) -> bool {
        self.is_info() || matches!(self, Self::AsyncDataOut | Self::Reserved)
    }
}
