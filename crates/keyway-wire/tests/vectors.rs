//! The codec against the vectors that it shares with the Python implementation (tests/vectors/README.md).

#[path = "shared/files.rs"]
mod files;
#[path = "shared/read.rs"]
mod read;
#[path = "shared/write.rs"]
mod write;

use files::{hex, load};
use keyway_wire::generated::CALLS;
use keyway_wire::table::Call;
use keyway_wire::value::Value;
use keyway_wire::{
    decode_reply, decode_request, decode_request_prefix, encode_reply, encode_request, header_object, Header,
};
use read::values;
use serde_json::{json, Value as Json};
use write::meanings;

fn call(vector: &Json) -> &'static Call {
    let name = vector["call"].as_str().expect("a name");
    CALLS
        .iter()
        .find(|call| call.name == name)
        .expect("a call of the table")
}

fn is_request(vector: &Json) -> bool {
    match vector["direction"].as_str() {
        Some("request") => true,
        Some("reply") => false,
        other => panic!("no direction is called {other:?}"),
    }
}

/// The bytes of a body, which is text or a list of pieces.
fn body(pieces: &Json) -> Vec<u8> {
    match pieces {
        Json::String(text) => hex(text),
        Json::Array(pieces) => pieces.iter().flat_map(body).collect(),
        _ => {
            let times = pieces["repeat"].as_u64().expect("how often");
            hex(pieces["bytes"].as_str().expect("bytes")).repeat(usize::try_from(times).expect("a small number"))
        }
    }
}

/// A NULL structure in the vectors has its type as key, in written meanings it can't.
fn without_type(mut list: Json) -> Json {
    for meaning in list.as_array_mut().expect("a list") {
        let (key, content) = meaning
            .as_object()
            .and_then(|object| object.iter().next())
            .expect("one key");
        if key.ends_with("_info") && content.is_null() {
            *meaning = json!({ "info": null });
        }
    }
    list
}

#[test]
fn bodies() {
    for vector in load("calls.json").iter().chain(&load("shapes.json")) {
        let (call, name, bytes) = (call(vector), &vector["name"], body(&vector["body"]));
        let object = vector["object"].as_u64().expect("a handle");
        let expected = values(&vector["values"]);
        let mut encoded = Vec::new();
        let decoded = if is_request(vector) {
            encode_request(call, &expected, &mut encoded).expect("a request");
            assert_eq!(header_object(call, &expected), object, "{name}");
            decode_request(call, object, &bytes)
        } else {
            encode_reply(call, &expected, &mut encoded).expect("a reply");
            decode_reply(call, &bytes)
        };
        let decoded = decoded.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded, expected, "{name}");
        assert_eq!(encoded, bytes, "{name}");
        assert_eq!(meanings(&decoded), without_type(vector["values"].clone()), "{name}");
    }
}

#[test]
fn fused_bodies() {
    for vector in load("fused.json") {
        let (call, name, bytes) = (call(&vector), &vector["name"], body(&vector["body"]));
        let init = keyway_wire::call(call.init).expect("a call that can be fused");
        let object = vector["object"].as_u64().expect("a handle");
        let (first, rest) = decode_request_prefix(init, object, &bytes).expect("the init call's part");
        let second: Vec<Value<'_>> = decode_request(call, 0, rest).expect("the call's part");
        assert_eq!(first, values(&vector["init_values"]), "{name}");
        assert_eq!(second, values(&vector["values"]), "{name}");
        let mut encoded = Vec::new();
        encode_request(init, &first, &mut encoded).expect("the init call's part");
        encode_request(call, &second, &mut encoded).expect("the call's part");
        assert_eq!(encoded, bytes, "{name}");
    }
}

#[test]
fn headers() {
    for vector in load("headers.json") {
        let bytes = hex(vector["bytes"].as_str().expect("bytes"));
        let bytes = bytes.as_slice().try_into().expect("32 bytes");
        let header = Header::decode(bytes);
        let meaning = json!({
            "length": header.length, "call": header.call, "flags": header.flags,
            "id": header.id, "target": header.target, "object": header.object,
        });
        assert_eq!(meaning, vector["header"], "{}", vector["name"]);
        assert_eq!(header.encode(), *bytes, "{}", vector["name"]);
    }
}

#[test]
fn malformed_bodies() {
    for vector in load("malformed.json") {
        let (call, bytes) = (call(&vector), body(&vector["body"]));
        let decoded = if is_request(&vector) {
            decode_request(call, 0, &bytes)
        } else {
            decode_reply(call, &bytes)
        };
        assert!(decoded.is_err(), "{} was decoded", vector["why"]);
    }
}

#[test]
fn bodies_cut_short_are_malformed() {
    for vector in load("calls.json").iter().chain(&load("shapes.json")) {
        let (call, bytes, name) = (call(vector), body(&vector["body"]), &vector["name"]);
        for length in 0..bytes.len() {
            let part = &bytes[..length];
            if is_request(vector) {
                assert!(decode_request(call, 0, part).is_err(), "{name}, {length} bytes");
            } else if length > 0 {
                assert!(decode_reply(call, part).is_err(), "{name}, {length} bytes");
            }
        }
    }
}
