//! The files of test vectors, and the bytes in them.

use serde_json::Value as Json;
use std::path::Path;

/// The vectors in one of the files.
pub fn load(name: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    match serde_json::from_str(&text) {
        Ok(Json::Array(vectors)) => vectors,
        other => panic!("{} is no list of vectors: {other:?}", path.display()),
    }
}

/// Bytes from hexadecimal; blanks do not count.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).expect("hexadecimal digit")).expect("digit"))
        .collect();
    assert!(digits.len() % 2 == 0, "half a byte in {text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
