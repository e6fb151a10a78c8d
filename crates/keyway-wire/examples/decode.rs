//! Decodes bodies for the differential test against the Python implementation (tests/wire/test_differential.py).
//!
//! Each line on standard input is `KIND CALL OBJECT BODY`: `request`, `reply` or `fused`, the call's number, the header's object, the body in
//! hexadecimal or `-` if it is empty. The answer is a line of JSON: null if the body is malformed, else `values` (lists of the meanings of
//! tests/vectors/README.md: one list, two if fused) and `body`, what they are encoded to.

#[path = "../tests/shared/write.rs"]
mod write;

use keyway_wire::table::Call;
use keyway_wire::value::Value;
use keyway_wire::{decode_reply, decode_request, decode_request_prefix, encode_reply, encode_request, WireError};
use serde_json::{json, Value as Json};
use std::io::{BufRead, Write};
use write::{hex, meanings};

/// Why an error of the encoder ends the program: it must not pass for one of the decoder.
const ENCODES: &str = "what was decoded is encoded";

fn main() -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Some(answer) = parse(&line).map(|(kind, call, object, body)| answer(kind, call, object, &body)) else {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, line));
        };
        writeln!(output, "{}", answer.unwrap_or(Json::Null))?;
        output.flush()?;
    }
    Ok(())
}

fn parse(line: &str) -> Option<(&str, &'static Call, u64, Vec<u8>)> {
    let mut words = line.split(' ');
    let (kind, call, object, body) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let digits = if body == "-" { "" } else { body };
    let bytes = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok());
    Some((
        kind,
        keyway_wire::call(call.parse().ok()?)?,
        object.parse().ok()?,
        bytes.collect::<Option<_>>()?,
    ))
}

fn answer(kind: &str, call: &Call, object: u64, body: &[u8]) -> Result<Json, WireError> {
    let mut encoded = Vec::new();
    let lists: Vec<Vec<Value<'_>>> = match kind {
        "request" => vec![decode_request(call, object, body)?],
        "reply" => vec![decode_reply(call, body)?],
        _ => {
            let init = keyway_wire::call(call.init).ok_or(WireError::Mismatch)?;
            let (first, rest) = decode_request_prefix(init, object, body)?;
            encode_request(init, &first, &mut encoded).expect(ENCODES);
            vec![first, decode_request(call, 0, rest)?]
        }
    };
    match (kind, lists.last()) {
        ("reply", Some(values)) if values.is_empty() => {}
        ("reply", Some(values)) => encode_reply(call, values, &mut encoded).expect(ENCODES),
        (_, Some(values)) => encode_request(call, values, &mut encoded).expect(ENCODES),
        (_, None) => {}
    }
    Ok(json!({ "values": lists.iter().map(|list| meanings(list)).collect::<Vec<_>>(), "body": hex(&encoded) }))
}
