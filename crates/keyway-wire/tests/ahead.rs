//! Reading ahead: the codec against the vectors that it shares with the Python implementation, and on damaged bytes.

#[path = "shared/files.rs"]
mod files;

use files::{hex, load};
use keyway_wire::ahead::{
    decode_findings, decode_read_ahead, encode_read_ahead, following, Answer, Findings, Found, Query, ReadAhead,
};
use keyway_wire::generated::attribute::{CKA_CLASS, CKA_ID, CKA_LABEL};
use keyway_wire::value::{Attribute, AttributeValue, Template};
use serde_json::{json, Value as Json};

/// Mutated bodies that are tried.
const ITERATIONS: usize = 100_000;

fn body(pieces: &Json) -> Vec<u8> {
    match pieces {
        Json::String(text) => hex(text),
        Json::Array(pieces) => pieces.iter().flat_map(body).collect(),
        _ => {
            hex(pieces["bytes"].as_str().expect("bytes")).repeat(pieces["repeat"].as_u64().expect("how often") as usize)
        }
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A meaning without the blanks that are for the reader.
fn plain(meaning: &Json) -> Json {
    serde_json::from_str(&meaning.to_string().replace(' ', "")).expect("JSON")
}

/// What a body means and what that is encoded to; None if it is malformed.
fn decode(request: bool, body: &[u8]) -> Option<(Json, Vec<u8>)> {
    let mut encoded = Vec::new();
    let meaning = if request {
        let asked = decode_read_ahead(body).ok()?;
        encode_read_ahead(&asked, &mut encoded).expect("what was decoded is encoded");
        request_meaning(&asked)
    } else {
        let told = decode_findings(body).ok()?;
        let queries = u32::from_be_bytes(body[4..8].try_into().expect("a number")) as usize;
        let mut findings = Findings::new(&mut encoded, queries);
        for of_object in &told {
            for found in of_object {
                findings.push(*found).expect("what was decoded is encoded");
            }
            findings.end_object();
        }
        json!({ "queries": queries, "findings": told.iter().map(|of| of.iter().map(found).collect()).collect::<Vec<Vec<_>>>() })
    };
    Some((meaning, encoded))
}

fn request_meaning(asked: &ReadAhead<'_>) -> Json {
    let query = |query: &Query<'_>| json!({ "follow": query.follow, "body": text(query.body) });
    json!({ "room": asked.room, "queries": asked.queries.iter().map(query).collect::<Vec<_>>(), "objects": asked.objects })
}

fn found(found: &Found<'_>) -> Json {
    let mut meaning = answer(&found.answer);
    meaning["followed"] = found.followed.as_ref().map_or(Json::Null, answer);
    meaning
}

fn answer(answer: &Answer<'_>) -> Json {
    json!({ "rv": answer.rv, "body": text(answer.body) })
}

#[test]
fn bodies() {
    for vector in load("ahead.json") {
        let bytes = body(&vector["body"]);
        let request = vector["direction"] == "request";
        let decoded = decode(request, &bytes);
        let expected = vector.get("meaning").map(|meaning| (plain(meaning), bytes.clone()));
        assert_eq!(decoded, expected, "{}", vector.get("name").unwrap_or(&vector["why"]));
        if expected.is_some() {
            for length in 0..bytes.len() {
                assert_eq!(
                    decode(request, &bytes[..length]),
                    None,
                    "{length} bytes of {}",
                    vector["name"]
                );
            }
        }
    }
}

#[test]
fn mutated_bodies() {
    let corpus: Vec<(bool, Vec<u8>)> = load("ahead.json")
        .iter()
        .filter(|vector| vector.get("meaning").is_some())
        .map(|vector| (vector["direction"] == "request", body(&vector["body"])))
        .collect();
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut decoded = 0;
    for _ in 0..ITERATIONS {
        let (request, mut bytes) = corpus[random(corpus.len())].clone();
        let at = random(bytes.len());
        match random(3) {
            0 => bytes[at] = random(256) as u8,
            1 => drop(bytes.splice(at..at, [random(256) as u8])),
            _ => drop(bytes.remove(at)),
        }
        if let Some((_, encoded)) = decode(request, &bytes) {
            assert_eq!(encoded, bytes);
            decoded += 1;
        }
    }
    assert!(decoded > ITERATIONS / 20, "only {decoded} of {ITERATIONS} were decoded");
}

#[test]
fn what_is_taken_back_leaves_a_reply() {
    let mut body = vec![9];
    let mut findings = Findings::new(&mut body, 1);
    let found = Found {
        answer: Answer { rv: 5, body: b"abc" },
        followed: None,
    };
    findings.push(found).expect("within the limits");
    findings.end_object();
    let length = findings.length();
    findings.push(found).expect("within the limits");
    findings.truncate(length);
    assert_eq!(decode_findings(&body[1..]), Ok(vec![vec![found]]));
}

#[test]
fn values_follow_lengths_and_nothing_else() {
    let template = |values: &[(u64, AttributeValue<'static>)]| {
        let attribute = |(attribute, value): &(u64, AttributeValue<'static>)| Attribute {
            attribute: *attribute,
            value: value.clone(),
        };
        Template::Attributes(values.iter().map(attribute).collect())
    };
    let lengths = [
        (CKA_ID, AttributeValue::Null(3)),
        (CKA_CLASS, AttributeValue::LengthNumbers(1)),
    ];
    let rooms = [
        (CKA_ID, AttributeValue::RoomBytes(3)),
        (CKA_CLASS, AttributeValue::RoomNumbers(1)),
    ];
    assert_eq!(following(&template(&lengths)), Some(template(&rooms)));
    for other in [
        AttributeValue::Unavailable,
        AttributeValue::Bytes(b"x"),
        AttributeValue::LengthAttributes(1),
    ] {
        let mixed = [lengths[0].clone(), (CKA_LABEL, other)];
        assert_eq!(following(&template(&mixed)), None);
    }
    assert_eq!(following(&template(&[])), None);
    assert_eq!(following(&Template::Null(0)), None);
}
