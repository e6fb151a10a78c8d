//! Fuzzing without a fuzzer: bodies of the test vectors are mutated and decoded, repeatably for a seed.
//!
//! What must hold: the decoder gives values or an error, and values encode to the very bytes that they were decoded from.

use crate::files::{hex, load};
use keyway_wire::generated::CALLS;
use keyway_wire::table::{Call, Kind};
use keyway_wire::value::Value;
use keyway_wire::{decode_reply, decode_request, decode_request_prefix, encode_reply, encode_request, header_object};

/// A body and what it is the body of.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The call's row.
    pub call: &'static Call,
    /// Request or reply.
    pub request: bool,
    /// The header's object.
    pub object: u64,
    /// The body.
    pub body: Vec<u8>,
}

impl Sample {
    /// All well-formed bodies of the test vectors.
    pub fn corpus() -> Vec<Self> {
        let vectors = [load("calls.json"), load("shapes.json")].concat();
        vectors
            .iter()
            .map(|vector| Self {
                call: CALLS
                    .iter()
                    .find(|call| vector["call"] == call.name)
                    .expect("a call of the table"),
                request: vector["direction"] == "request",
                object: vector["object"].as_u64().expect("a handle"),
                body: hex(vector["body"].as_str().expect("bytes")),
            })
            .collect()
    }

    /// Decodes, and encodes what came out.
    ///
    /// # Panics
    /// What must hold does not.
    pub fn check(&self) -> bool {
        let Ok(values) = self.decode() else { return false };
        let mut encoded = Vec::new();
        let result = if self.request {
            let has_object = self.call.args.contains(&Kind::Object);
            assert_eq!(
                header_object(self.call, &values),
                if has_object { self.object } else { 0 }
            );
            encode_request(self.call, &values, &mut encoded)
        } else {
            encode_reply(self.call, &values, &mut encoded)
        };
        if self.request || !self.body.is_empty() {
            result.unwrap_or_else(|error| panic!("decoded but not encoded: {error}; {self:?}"));
        }
        assert_eq!(encoded, self.body, "{self:?}");
        true
    }

    fn decode(&self) -> Result<Vec<Value<'_>>, keyway_wire::WireError> {
        if !self.request {
            return decode_reply(self.call, &self.body);
        }
        if let Some(init) = keyway_wire::call(self.call.init) {
            // The same bytes as a fused request: nothing but that it ends well is known of it.
            if let Ok((_, rest)) = decode_request_prefix(init, self.object, &self.body) {
                let _ = decode_request(self.call, 0, rest);
            }
        }
        decode_request(self.call, self.object, &self.body)
    }
}

/// A repeatable stream of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}

/// Numbers that are lengths, counts, tags or limits somewhere.
const TELLING: [u64; 16] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    0x7f,
    0xff,
    0x1000,
    0x1001,
    0x0010_0001,
    0x0400_0001,
    0x7fff_ffff,
    0xffff_fffe,
    u64::MAX,
];

/// A sample of the corpus after a few mutations.
pub fn mutated(corpus: &[Sample], random: &mut Random) -> Sample {
    let mut sample = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(4) {
        let other = &corpus[random.below(corpus.len())].body;
        mutate(&mut sample.body, other, random);
    }
    sample
}

fn mutate(body: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(body.len() + 1);
    match random.below(8) {
        0 => body.truncate(at),
        1 => body.insert(at, random.byte()),
        2 if at < body.len() => body[at] = random.byte(),
        3 if at < body.len() => body[at] ^= 1 << random.below(8),
        4 => overwrite(body, at, &TELLING[random.below(TELLING.len())].to_be_bytes()[4..]),
        5 => overwrite(body, at, &TELLING[random.below(TELLING.len())].to_be_bytes()),
        6 => {
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() - from + 1);
            body.splice(at..at, other[from..to].iter().copied());
        }
        _ => {
            let end = at + random.below(body.len() - at + 1);
            let part = body[at..end].to_vec();
            body.splice(at..at, part);
        }
    }
}

fn overwrite(body: &mut [u8], at: usize, bytes: &[u8]) {
    for (target, byte) in body[at..].iter_mut().zip(bytes) {
        *target = *byte;
    }
}
