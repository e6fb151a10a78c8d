//! The files of test vectors.

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
