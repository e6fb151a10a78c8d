//! Values to the meanings of the test vectors (tests/vectors/README.md at the top of the repository).

use keyway_wire::value::{
    Attribute, AttributeValue, Bytes, Info, Mechanism, Member, Parameter, Template, TokenInfo, Value,
};
use serde_json::{json, Value as Json};
use std::fmt::Write;

/// Hexadecimal digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all that is written");
            text
        })
}

/// What values mean.
pub fn meanings(values: &[Value<'_>]) -> Json {
    values.iter().map(value).collect()
}

fn value(value: &Value<'_>) -> Json {
    match value {
        Value::Ulong(number) => json!({ "ulong": number }),
        Value::Bool(byte) => json!({ "bool": byte }),
        Value::Bytes(bytes) => json!({ "bytes": string(*bytes) }),
        Value::Label(label) => json!({ "label": label.map(|label| hex(label)) }),
        Value::Mechanism(value) => json!({ "mechanism": value.as_ref().map(mechanism) }),
        Value::Parameter(value) => json!({ "parameter": parameter(value) }),
        Value::Template(value) => json!({ "template": template(value) }),
        Value::Room(room) => json!({ "room": { "length": room.length, "buffer": room.buffer } }),
        Value::ObjectsRoom(room) => {
            json!({ "objects_room": { "maximum": room.maximum, "count": room.count, "buffer": room.buffer } })
        }
        Value::Output(output) => json!({ "output": { "length": output.length, "data": output.data.map(hex) } }),
        Value::Numbers(numbers) => json!({ "numbers": { "count": numbers.count, "data": numbers.data } }),
        Value::Fill { buffer, length } => json!({ "fill": { "buffer": buffer, "length": length } }),
        Value::Cell(cell) => json!({ "cell": cell }),
        Value::Pointer(present) => json!({ "pointer": present }),
        // Which structure is NULL is known from the call alone.
        Value::Info(None) => json!({ "info": null }),
        Value::Info(Some(value)) => info(value),
    }
}

fn member(value: &Member<'_>) -> Json {
    match value {
        Member::Ulong(number) => json!({ "ulong": number }),
        Member::Byte(byte) => json!({ "byte": byte }),
        Member::Array(bytes) => json!({ "array": hex(bytes) }),
        Member::Ulongs(numbers) => json!({ "ulongs": numbers }),
        Member::String(bytes) => json!({ "string": string(*bytes) }),
        Member::Cell(cell) => json!({ "cell": cell }),
        Member::Version(version) => json!({ "version": version }),
        Member::Struct(list) => json!({ "struct": members(list) }),
        Member::Pointer(list) => json!({ "pointer": list.as_deref().map(members) }),
        Member::Structs(Err(count)) => json!({ "structs": { "null": count } }),
        Member::Structs(Ok(lists)) => {
            json!({ "structs": lists.iter().map(|list| members(list)).collect::<Vec<_>>() })
        }
        Member::Template(value) => json!({ "template": template(value) }),
        Member::Mechanism(value) => json!({ "mechanism": value.as_ref().map(mechanism) }),
        Member::Parameter(value) => json!({ "parameter": parameter(value) }),
    }
}

fn members(list: &[Member<'_>]) -> Json {
    list.iter().map(member).collect()
}

fn mechanism(value: &Mechanism<'_>) -> Json {
    json!({ "type": value.mechanism, "parameter": parameter(&value.parameter) })
}

fn parameter(value: &Parameter<'_>) -> Json {
    match value {
        Parameter::Null(length) => json!({ "null": length }),
        Parameter::Flat(bytes) => json!({ "flat": hex(bytes) }),
        Parameter::Structured(shape, list) => json!({ "shape": shape, "members": members(list) }),
        Parameter::Unchanged => json!("unchanged"),
    }
}

fn template(value: &Template<'_>) -> Json {
    match value {
        Template::Null(count) => json!({ "null": count }),
        Template::Attributes(list) => attributes(list),
    }
}

fn attributes(list: &[Attribute<'_>]) -> Json {
    list.iter().map(attribute).collect()
}

fn attribute(attribute: &Attribute<'_>) -> Json {
    let (tag, content) = match &attribute.value {
        AttributeValue::Null(length) => ("null", json!(length)),
        AttributeValue::Bytes(bytes) => ("bytes", json!(hex(bytes))),
        AttributeValue::Number(number) => ("number", json!(number)),
        AttributeValue::Numbers(numbers) => ("numbers", json!(numbers)),
        AttributeValue::Template(list) => ("template", attributes(list)),
        AttributeValue::RoomBytes(capacity) => ("room_bytes", json!(capacity)),
        AttributeValue::RoomNumbers(capacity) => ("room_numbers", json!(capacity)),
        AttributeValue::LengthNumbers(count) => ("length_numbers", json!(count)),
        AttributeValue::LengthAttributes(count) => ("length_attributes", json!(count)),
        AttributeValue::Unavailable => ("unavailable", json!(true)),
    };
    json!({ "type": attribute.attribute, tag: content })
}

fn string(bytes: Bytes<'_>) -> Json {
    match bytes {
        Bytes::Null(length) => json!({ "null": length }),
        Bytes::Data(data) => json!(hex(data)),
    }
}

fn info(value: &Info) -> Json {
    match value {
        Info::Module(info) => json!({ "module_info": {
            "cryptoki_version": info.cryptoki_version,
            "manufacturer_id": hex(&info.manufacturer_id),
            "flags": info.flags,
            "library_description": hex(&info.library_description),
            "library_version": info.library_version,
        } }),
        Info::Slot(info) => json!({ "slot_info": {
            "slot_description": hex(&info.slot_description),
            "manufacturer_id": hex(&info.manufacturer_id),
            "flags": info.flags,
            "hardware_version": info.hardware_version,
            "firmware_version": info.firmware_version,
        } }),
        Info::Token(info) => token_info(info),
        Info::Session(info) => json!({ "session_info": {
            "slot": info.slot,
            "state": info.state,
            "flags": info.flags,
            "device_error": info.device_error,
        } }),
        Info::Mechanism(info) => json!({ "mechanism_info": {
            "min_key_size": info.min_key_size,
            "max_key_size": info.max_key_size,
            "flags": info.flags,
        } }),
    }
}

fn token_info(info: &TokenInfo) -> Json {
    json!({ "token_info": {
        "label": hex(&info.label),
        "manufacturer_id": hex(&info.manufacturer_id),
        "model": hex(&info.model),
        "serial_number": hex(&info.serial_number),
        "flags": info.flags,
        "max_session_count": info.max_session_count,
        "session_count": info.session_count,
        "max_rw_session_count": info.max_rw_session_count,
        "rw_session_count": info.rw_session_count,
        "max_pin_len": info.max_pin_len,
        "min_pin_len": info.min_pin_len,
        "total_public_memory": info.total_public_memory,
        "free_public_memory": info.free_public_memory,
        "total_private_memory": info.total_private_memory,
        "free_private_memory": info.free_private_memory,
        "hardware_version": info.hardware_version,
        "firmware_version": info.firmware_version,
        "utc_time": hex(&info.utc_time),
    } })
}
