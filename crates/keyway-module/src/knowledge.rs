//! What is known of the tokens: init calls that lead to success, their mechanisms, and what objects are made of.

use crate::mechanisms::Mechanisms;
use crate::readings::Readings;
use keyway_wire::generated::rv::CKR_OK;
use keyway_wire::value::Value;
use std::collections::{HashMap, HashSet};

/// How many init calls are kept in each of the two halves of what is known.
const CAPACITY: usize = 512;
/// An init call with a longer body is not worth keeping.
const LONGEST: usize = 4_096;

/// An init call as it travels, on a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Init {
    /// The slot of the token.
    pub slot: u64,
    /// Call number.
    pub call: u16,
    /// The key, from the header; 0 if it has none.
    pub object: u64,
    /// The body.
    pub body: Vec<u8>,
}

/// What is known of an init call that leads to success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// The length of the result, if it does not depend on the data.
    pub length: Option<u64>,
}

/// The init call of an active operation, on the way to being learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// The init call.
    pub init: Init,
    /// What its operation has told so far.
    pub facts: Facts,
    /// The age of the knowledge when it was made: what was forgotten since is not learned again from an older success.
    pub age: u64,
}

/// All that is known of the tokens. It holds what was used lately: when the young half is full, the old one goes.
#[derive(Debug, Default)]
pub struct Knowledge {
    age: u64,
    young: HashMap<Init, Facts>,
    old: HashMap<Init, Facts>,
    /// By slot.
    mechanisms: HashMap<u64, Mechanisms>,
    /// What objects are made of.
    pub readings: Readings,
    /// Slots behind which somebody can't read ahead.
    plain: HashSet<u64>,
    /// Slots whose object handles are names, which mean the same on every connection.
    lasting: HashSet<u64>,
}

impl Knowledge {
    /// The facts of an init call.
    pub fn get(&mut self, init: &Init) -> Option<Facts> {
        if let Some(facts) = self.young.get(init) {
            return Some(*facts);
        }
        let (init, facts) = self.old.remove_entry(init)?;
        self.put(init, facts);
        Some(facts)
    }

    /// How often something was forgotten.
    #[must_use]
    pub const fn age(&self) -> u64 {
        self.age
    }

    /// Remembers an init call.
    pub fn learn(&mut self, lesson: &Lesson) {
        if lesson.age != self.age || lesson.init.body.len() > LONGEST {
            return;
        }
        let known = self.get(&lesson.init);
        let facts = Facts {
            length: lesson.facts.length.or(known.and_then(|facts| facts.length)),
        };
        if known != Some(facts) {
            self.put(lesson.init.clone(), facts);
        }
    }

    /// Forgets one init call.
    pub fn forget(&mut self, init: &Init) {
        self.young.remove(init);
        self.old.remove(init);
    }

    /// Forgets what is known of a key.
    pub fn forget_object(&mut self, slot: u64, object: u64) {
        self.retain(|init| init.slot != slot || init.object != object);
    }

    /// The answer to a call that asks for a token's mechanisms, RV and reply.
    pub fn mechanisms(&self, slot: u64, args: &[Value<'_>]) -> Option<(u64, Value<'static>)> {
        self.mechanisms.get(&slot)?.answer(args)
    }

    /// Remembers what a token has answered about its mechanisms. `age` was that of the knowledge when it was asked.
    pub fn learn_mechanisms(&mut self, slot: u64, args: &[Value<'_>], rv: u64, reply: &[Value<'_>], age: u64) {
        if rv == CKR_OK && age == self.age {
            self.mechanisms.entry(slot).or_default().note(args, rv, reply);
        }
    }

    /// Forgets the mechanisms of all tokens.
    pub fn forget_mechanisms(&mut self) {
        self.age += 1;
        self.mechanisms.clear();
    }

    /// Forgets what is known of a token.
    pub fn forget_slot(&mut self, slot: u64) {
        self.mechanisms.remove(&slot);
        self.retain(|init| init.slot != slot);
    }

    /// Whether it can be read ahead from this slot, for all we know.
    pub fn reads_ahead(&self, slot: u64) -> bool {
        !self.plain.contains(&slot)
    }

    /// It can't be read ahead from this slot.
    pub fn reads_plainly(&mut self, slot: u64) {
        self.plain.insert(slot);
    }

    /// Whether object handles of this slot mean the same on every connection.
    pub fn is_lasting(&self, slot: u64) -> bool {
        self.lasting.contains(&slot)
    }

    /// Whether there is such a slot.
    pub fn has_lasting(&self) -> bool {
        !self.lasting.is_empty()
    }

    /// A session was opened, and its token's object handles are names or are not.
    pub fn opened(&mut self, slot: u64, lasting: bool) {
        if lasting {
            self.lasting.insert(slot);
        } else {
            self.lasting.remove(&slot);
        }
    }

    /// A connection or token was lost, and others may take their places. What names tell stays true: should an object have gone, or
    /// be forbidden now, the call that is sent with its init call answers what the init call would.
    pub fn forget_fleeting(&mut self) {
        self.plain.clear();
        self.mechanisms.clear();
        self.readings.clear();
        let lasting = std::mem::take(&mut self.lasting);
        self.retain(|init| lasting.contains(&init.slot));
        self.lasting = lasting;
    }

    fn put(&mut self, init: Init, facts: Facts) {
        if self.young.len() >= CAPACITY {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(init, facts);
    }

    fn retain(&mut self, keep: impl Fn(&Init) -> bool) {
        self.age += 1;
        self.young.retain(|init, _| keep(init));
        self.old.retain(|init, _| keep(init));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_wire::generated::call::C_SIGNINIT;
    use keyway_wire::value::{Numbers, Room};

    fn init(object: u64) -> Init {
        Init {
            slot: 5,
            call: C_SIGNINIT,
            object,
            body: vec![1, 2, 3],
        }
    }

    fn lesson(object: u64, length: Option<u64>, age: u64) -> Lesson {
        Lesson {
            init: init(object),
            facts: Facts { length },
            age,
        }
    }

    #[test]
    fn only_what_succeeded_and_was_not_forgotten_since_is_known() {
        let mut knowledge = Knowledge::default();
        assert_eq!(knowledge.get(&init(7)), None);
        knowledge.learn(&lesson(7, None, 0));
        assert_eq!(knowledge.get(&init(7)), Some(Facts { length: None }));
        knowledge.learn(&lesson(7, Some(64), 0));
        // A later success that was not asked for the length does not make it forgotten.
        knowledge.learn(&lesson(7, None, 0));
        assert_eq!(knowledge.get(&init(7)), Some(Facts { length: Some(64) }));
        assert_eq!(
            knowledge.get(&Init {
                body: vec![1, 2, 4],
                ..init(7)
            }),
            None
        );
        assert_eq!(knowledge.get(&Init { slot: 6, ..init(7) }), None);

        knowledge.forget_object(5, 8);
        assert!(knowledge.get(&init(7)).is_some());
        knowledge.forget_object(5, 7);
        assert_eq!(knowledge.get(&init(7)), None);
        knowledge.learn(&lesson(7, None, 0));
        assert_eq!(
            knowledge.get(&init(7)),
            None,
            "the success is older than what was forgotten"
        );
        knowledge.learn(&lesson(7, None, knowledge.age()));
        knowledge.forget_slot(4);
        assert!(knowledge.get(&init(7)).is_some());
        knowledge.forget_slot(5);
        assert_eq!(knowledge.get(&init(7)), None);
    }

    #[test]
    fn what_is_known_stays_small_and_keeps_what_is_used() {
        let mut knowledge = Knowledge::default();
        for object in 0..10 * CAPACITY as u64 {
            knowledge.learn(&lesson(object, None, 0));
            assert!(knowledge.get(&init(0)).is_some());
        }
        assert!(knowledge.young.len() + knowledge.old.len() <= 2 * CAPACITY);
        assert_eq!(knowledge.get(&init(1)), None);
        knowledge.learn(&Lesson {
            init: Init {
                body: vec![0; LONGEST + 1],
                ..init(9)
            },
            ..lesson(9, None, 0)
        });
        assert_eq!(
            knowledge.get(&Init {
                body: vec![0; LONGEST + 1],
                ..init(9)
            }),
            None
        );
    }

    #[test]
    fn the_mechanisms_of_a_token_are_forgotten_with_it_and_not_learned_from_an_older_answer() {
        let asked = [Value::Room(Room {
            length: Some(0),
            buffer: false,
        })];
        let told = Value::Numbers(Numbers {
            count: Some(3),
            data: None,
        });
        let answer = Some((CKR_OK, told.clone()));
        let learn = |knowledge: &mut Knowledge, age| {
            knowledge.learn_mechanisms(5, &asked, CKR_OK, std::slice::from_ref(&told), age);
        };
        for forget in [
            (|knowledge: &mut Knowledge| knowledge.forget_slot(5)) as fn(&mut Knowledge),
            Knowledge::forget_fleeting,
            Knowledge::forget_mechanisms,
        ] {
            let mut knowledge = Knowledge::default();
            knowledge.opened(5, true);
            learn(&mut knowledge, 0);
            assert_eq!(knowledge.mechanisms(6, &asked), None);
            assert_eq!(knowledge.mechanisms(5, &asked), answer);
            forget(&mut knowledge);
            assert_eq!(knowledge.mechanisms(5, &asked), None);
            learn(&mut knowledge, 0);
            assert_eq!(knowledge.mechanisms(5, &asked), None);
            let age = knowledge.age();
            learn(&mut knowledge, age);
            assert_eq!(knowledge.mechanisms(5, &asked), answer);
            knowledge.forget_slot(4);
            knowledge.forget_object(5, 7);
            assert_eq!(knowledge.mechanisms(5, &asked), answer);
        }
    }
}
