//! Meanings of the test vectors (tests/vectors/README.md at the top of the repository) to values.
//!
//! Values borrow, meanings own: what a value borrows is leaked. A meaning of the wrong form panics, as a broken test should.

use crate::files::hex;
use keyway_wire::value::{
    Attribute, AttributeValue, Bytes, Info, Mechanism, MechanismInfo, Member, ModuleInfo, Numbers, ObjectsRoom, Output,
    Parameter, Room, SessionInfo, SlotInfo, Template, TokenInfo, Value,
};
use serde_json::{Map, Value as Json};

/// The values that a list of meanings stands for.
pub fn values(meanings: &Json) -> Vec<Value<'static>> {
    list(meanings).iter().map(value).collect()
}

fn value(meaning: &Json) -> Value<'static> {
    let (name, content) = only(object(meaning));
    match name {
        "ulong" => Value::Ulong(number(content)),
        "bool" => Value::Bool(small(content)),
        "bytes" => Value::Bytes(string(content)),
        "label" => Value::Label((!content.is_null()).then(|| data(content).try_into().expect("32 bytes"))),
        "mechanism" => Value::Mechanism(mechanism(content)),
        "parameter" => Value::Parameter(parameter(content)),
        "template" => Value::Template(template(content)),
        "room" => Value::Room(Room {
            length: maybe(&content["length"], number),
            buffer: flag(&content["buffer"]),
        }),
        "objects_room" => Value::ObjectsRoom(ObjectsRoom {
            maximum: number(&content["maximum"]),
            count: flag(&content["count"]),
            buffer: flag(&content["buffer"]),
        }),
        "output" => Value::Output(Output {
            length: maybe(&content["length"], number),
            data: maybe(&content["data"], data),
        }),
        "numbers" => Value::Numbers(Numbers {
            count: maybe(&content["count"], number),
            data: maybe(&content["data"], numbers),
        }),
        "fill" => Value::Fill {
            buffer: flag(&content["buffer"]),
            length: number(&content["length"]),
        },
        "cell" => Value::Cell(maybe(content, number)),
        "pointer" => Value::Pointer(flag(content)),
        name => Value::Info(maybe(content, |content| info(name, content))),
    }
}

fn member(meaning: &Json) -> Member<'static> {
    let (name, content) = only(object(meaning));
    match name {
        "ulong" => Member::Ulong(number(content)),
        "byte" => Member::Byte(small(content)),
        "array" => Member::Array(data(content)),
        "ulongs" => Member::Ulongs(numbers(content)),
        "string" => Member::String(string(content)),
        "cell" => Member::Cell(maybe(content, number)),
        "version" => Member::Version(maybe(content, version)),
        "struct" => Member::Struct(members(content)),
        "pointer" => Member::Pointer(maybe(content, members)),
        "structs" => Member::Structs(match null(content) {
            Some(count) => Err(count),
            None => Ok(list(content).iter().map(members).collect()),
        }),
        "template" => Member::Template(template(content)),
        "mechanism" => Member::Mechanism(mechanism(content)),
        "parameter" => Member::Parameter(parameter(content)),
        other => panic!("no member is called {other}"),
    }
}

fn members(meanings: &Json) -> Vec<Member<'static>> {
    list(meanings).iter().map(member).collect()
}

fn mechanism(content: &Json) -> Option<Mechanism<'static>> {
    maybe(content, |content| Mechanism {
        mechanism: number(&content["type"]),
        parameter: parameter(&content["parameter"]),
    })
}

fn parameter(content: &Json) -> Parameter<'static> {
    if let Some(length) = null(content) {
        Parameter::Null(length)
    } else if content == "unchanged" {
        Parameter::Unchanged
    } else if let Some(flat) = content.get("flat") {
        Parameter::Flat(data(flat))
    } else {
        let shape = u16::try_from(number(&content["shape"])).expect("a shape's number");
        Parameter::Structured(shape, members(&content["members"]))
    }
}

fn template(content: &Json) -> Template<'static> {
    match null(content) {
        Some(count) => Template::Null(count),
        None => Template::Attributes(attributes(content)),
    }
}

fn attributes(content: &Json) -> Vec<Attribute<'static>> {
    list(content).iter().map(attribute).collect()
}

fn attribute(meaning: &Json) -> Attribute<'static> {
    let mut rest = object(meaning).clone();
    let attribute = number(&rest.remove("type").expect("an attribute's type"));
    let (tag, content) = only(&rest);
    let value = match tag {
        "null" => AttributeValue::Null(number(content)),
        "bytes" => AttributeValue::Bytes(data(content)),
        "number" => AttributeValue::Number(number(content)),
        "numbers" => AttributeValue::Numbers(numbers(content)),
        "template" => AttributeValue::Template(attributes(content)),
        "room_bytes" => AttributeValue::RoomBytes(number(content)),
        "room_numbers" => AttributeValue::RoomNumbers(number(content)),
        "length_numbers" => AttributeValue::LengthNumbers(number(content)),
        "length_attributes" => AttributeValue::LengthAttributes(number(content)),
        "unavailable" => AttributeValue::Unavailable,
        other => panic!("no attribute's value is called {other}"),
    };
    Attribute { attribute, value }
}

fn info(name: &str, content: &Json) -> Info {
    let numeric = |member: &str| number(&content[member]);
    let version = |member: &str| version(&content[member]);
    match name {
        "module_info" => Info::Module(ModuleInfo {
            cryptoki_version: version("cryptoki_version"),
            manufacturer_id: text(content, "manufacturer_id"),
            flags: numeric("flags"),
            library_description: text(content, "library_description"),
            library_version: version("library_version"),
        }),
        "slot_info" => Info::Slot(SlotInfo {
            slot_description: text(content, "slot_description"),
            manufacturer_id: text(content, "manufacturer_id"),
            flags: numeric("flags"),
            hardware_version: version("hardware_version"),
            firmware_version: version("firmware_version"),
        }),
        "token_info" => Info::Token(Box::new(TokenInfo {
            label: text(content, "label"),
            manufacturer_id: text(content, "manufacturer_id"),
            model: text(content, "model"),
            serial_number: text(content, "serial_number"),
            flags: numeric("flags"),
            max_session_count: numeric("max_session_count"),
            session_count: numeric("session_count"),
            max_rw_session_count: numeric("max_rw_session_count"),
            rw_session_count: numeric("rw_session_count"),
            max_pin_len: numeric("max_pin_len"),
            min_pin_len: numeric("min_pin_len"),
            total_public_memory: numeric("total_public_memory"),
            free_public_memory: numeric("free_public_memory"),
            total_private_memory: numeric("total_private_memory"),
            free_private_memory: numeric("free_private_memory"),
            hardware_version: version("hardware_version"),
            firmware_version: version("firmware_version"),
            utc_time: text(content, "utc_time"),
        })),
        "session_info" => Info::Session(SessionInfo {
            slot: numeric("slot"),
            state: numeric("state"),
            flags: numeric("flags"),
            device_error: numeric("device_error"),
        }),
        "mechanism_info" => Info::Mechanism(MechanismInfo {
            min_key_size: numeric("min_key_size"),
            max_key_size: numeric("max_key_size"),
            flags: numeric("flags"),
        }),
        other => panic!("no value is called {other}"),
    }
}

fn object(json: &Json) -> &Map<String, Json> {
    json.as_object().expect("an object")
}

fn only(object: &Map<String, Json>) -> (&str, &Json) {
    assert!(object.len() == 1, "one key is expected in {object:?}");
    let (name, content) = object.iter().next().expect("one key");
    (name, content)
}

fn list(json: &Json) -> &[Json] {
    json.as_array().expect("a list")
}

/// The number of `{"null": NUMBER}`.
fn null(json: &Json) -> Option<u64> {
    json.get("null").map(number)
}

fn maybe<T>(json: &Json, convert: impl FnOnce(&Json) -> T) -> Option<T> {
    (!json.is_null()).then(|| convert(json))
}

fn number(json: &Json) -> u64 {
    json.as_u64().expect("a number")
}

fn small(json: &Json) -> u8 {
    u8::try_from(number(json)).expect("a number of one byte")
}

fn numbers(json: &Json) -> Vec<u64> {
    list(json).iter().map(number).collect()
}

fn flag(json: &Json) -> bool {
    json.as_bool().expect("true or false")
}

fn data(json: &Json) -> &'static [u8] {
    hex(json.as_str().expect("hexadecimal")).leak()
}

fn string(json: &Json) -> Bytes<'static> {
    null(json).map_or_else(|| Bytes::Data(data(json)), Bytes::Null)
}

fn version(json: &Json) -> [u8; 2] {
    [small(&json[0]), small(&json[1])]
}

fn text<const N: usize>(content: &Json, member: &str) -> [u8; N] {
    data(&content[member]).try_into().expect("a text of the right width")
}
