//! What is remembered of objects for as long as they are there: attributes that nothing changes, which some applications read before
//! each use of a key. Pure decisions; docs/architecture.md tells what they rest on.

use crate::ahead::Stamp;
use keyway_wire::generated::attribute::{
    CKA_CLASS, CKA_EC_PARAMS, CKA_EC_POINT, CKA_KEY_TYPE, CKA_MODULUS, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT,
};
use keyway_wire::value::Template;
use std::collections::HashMap;

/// How many objects are remembered.
const OBJECTS: usize = 64;
/// How many queries for each.
const QUERIES: usize = 8;
/// An answer with a longer body is not worth keeping.
const LONGEST: usize = 8_192;

/// Attributes that an object has for life.
const CONSTANT: [u64; 7] = [
    CKA_CLASS,
    CKA_KEY_TYPE,
    CKA_MODULUS,
    CKA_MODULUS_BITS,
    CKA_PUBLIC_EXPONENT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
];

/// An object of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The token's slot.
    pub slot: u64,
    /// The object's handle.
    pub object: u64,
}

/// What is known of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It was not made lately.
    New,
    /// It was made before.
    Again,
    /// The body of the answer, which was CKR_OK.
    Known(Vec<u8>),
}

/// What is remembered of objects. All of it is as old as the stamp.
#[derive(Debug, Default)]
pub struct Readings {
    stamp: Stamp,
    /// By the body of the query; None if it was only made.
    objects: HashMap<Place, HashMap<Vec<u8>, Option<Vec<u8>>>>,
}

/// Whether a query asks for nothing that could ever change.
#[must_use]
pub fn is_constant(template: &Template<'_>) -> bool {
    let Template::Attributes(entries) = template else {
        return false;
    };
    entries.iter().all(|entry| CONSTANT.contains(&entry.attribute))
}

impl Readings {
    /// What is known of a query, which is being made.
    pub fn look(&mut self, place: Place, query: &[u8], stamp: Stamp) -> Reading {
        if stamp != self.stamp {
            self.clear();
            self.stamp = stamp;
        }
        if let Some(known) = self.objects.get(&place).and_then(|queries| queries.get(query)) {
            return known.clone().map_or(Reading::Again, Reading::Known);
        }
        if !self.objects.contains_key(&place) && self.objects.len() >= OBJECTS {
            self.objects.clear();
        }
        let queries = self.objects.entry(place).or_default();
        if queries.len() >= QUERIES {
            queries.clear();
        }
        queries.insert(query.to_vec(), None);
        Reading::New
    }

    /// Remembers an answer that was CKR_OK. `stamp` was that of the question.
    pub fn keep(&mut self, place: Place, query: Vec<u8>, body: &[u8], stamp: Stamp) {
        if stamp != self.stamp || body.len() > LONGEST {
            return;
        }
        if let Some(queries) = self.objects.get_mut(&place) {
            if queries.len() < 2 * QUERIES {
                queries.insert(query, Some(body.to_vec()));
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.objects.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_wire::generated::attribute::{CKA_ID, CKA_LABEL, CKA_PRIVATE_EXPONENT};
    use keyway_wire::value::{Attribute, AttributeValue};

    const PLACE: Place = Place { slot: 1, object: 7 };

    #[test]
    fn what_a_key_is_made_of_is_constant_and_nothing_else() {
        let of = |attributes: &[u64]| {
            let entry = |attribute: &u64| Attribute {
                attribute: *attribute,
                value: AttributeValue::Null(0),
            };
            is_constant(&Template::Attributes(attributes.iter().map(entry).collect()))
        };
        assert!(of(&[CKA_MODULUS, CKA_PUBLIC_EXPONENT]));
        for attribute in [CKA_ID, CKA_LABEL, CKA_PRIVATE_EXPONENT] {
            assert!(!of(&[CKA_MODULUS, attribute]));
        }
        assert!(!is_constant(&Template::Null(2)));
    }

    #[test]
    fn an_answer_serves_the_same_query_about_the_same_object() {
        let stamp = Stamp::default();
        let mut readings = Readings::default();
        assert_eq!(readings.look(PLACE, b"length", stamp), Reading::New);
        assert_eq!(readings.look(PLACE, b"length", stamp), Reading::Again);
        readings.keep(PLACE, b"length".to_vec(), b"256", stamp);
        assert_eq!(readings.look(PLACE, b"length", stamp), Reading::Known(b"256".to_vec()));
        assert_eq!(readings.look(PLACE, b"value", stamp), Reading::New);
        for other in [Place { slot: 2, ..PLACE }, Place { object: 8, ..PLACE }] {
            assert_eq!(readings.look(other, b"length", stamp), Reading::New);
        }
    }

    #[test]
    fn nothing_outlives_a_change() {
        let (before, after) = (Stamp::default(), Stamp { changes: 1, news: 0 });
        let mut readings = Readings::default();
        for _ in 0..2 {
            let _ = readings.look(PLACE, b"length", before);
        }
        readings.keep(PLACE, b"length".to_vec(), b"256", after);
        assert_eq!(readings.look(PLACE, b"length", before), Reading::Again);
        readings.keep(PLACE, b"length".to_vec(), b"256", before);
        assert_eq!(readings.look(PLACE, b"length", after), Reading::New);
        readings.keep(PLACE, b"length".to_vec(), b"256", after);
        readings.clear();
        assert_eq!(readings.look(PLACE, b"length", after), Reading::New);
    }

    #[test]
    fn what_is_remembered_stays_small() {
        let stamp = Stamp::default();
        let mut readings = Readings::default();
        let _ = readings.look(PLACE, b"long", stamp);
        readings.keep(PLACE, b"long".to_vec(), &[0; LONGEST + 1], stamp);
        assert_eq!(readings.look(PLACE, b"long", stamp), Reading::Again);
        for object in 0..3 * OBJECTS as u64 {
            for query in 0..5 * QUERIES {
                let place = Place { slot: 1, object };
                let _ = readings.look(place, &query.to_be_bytes(), stamp);
                for more in 0..2 * QUERIES {
                    readings.keep(place, more.to_le_bytes().to_vec(), b"", stamp);
                }
            }
        }
        assert!(readings.objects.len() <= OBJECTS);
        assert!(readings.objects.values().all(|queries| queries.len() <= 2 * QUERIES));
    }
}
