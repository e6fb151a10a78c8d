//! What is read ahead: which queries the application makes about each object that a search has found, and the token's answers
//! to those that it has not made yet. Pure decisions; docs/architecture.md tells why an application can't tell.
//!
//! An answer serves the very query that it is the answer to, once, and not for long.

use crate::query::{next_body, Query};
use keyway_wire::ahead::{Answer, Found};
use keyway_wire::generated::rv::{CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_OK};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long an answer may be kept after it has come.
const LIFETIME: Duration = Duration::from_millis(100);
/// About how many objects the first request reads ahead; the next ones read more while it pays.
const FIRST: usize = 4;
/// At most so many.
const MOST: usize = 64;
/// By this factor.
const STEP: usize = 4;
/// It pays if one of so many answers was wanted.
const WANTED: usize = 4;
/// Queries that are known of an object, at most.
const QUERIES: usize = 96;

/// What must not have changed for an answer to be as good as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// How many calls of this context that change objects, or who may see them, have begun or ended.
    pub changes: u64,
    /// How often the daemon has told that others changed objects.
    pub news: u64,
}

/// An answer that is kept for the query that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    query: Vec<u8>,
    /// The RV.
    pub rv: u64,
    /// The body of the reply.
    pub body: Vec<u8>,
    since: Instant,
}

/// What to read ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The queries; the first is the application's own.
    pub queries: Vec<Query>,
    /// The objects; the first is the one that it asks about.
    pub objects: Vec<u64>,
    /// Whether the objects are new ones, rather than ones of which something is known already.
    whole: bool,
}

/// A query that was made about an object, and how often it is made about one.
#[derive(Debug)]
struct Habit {
    query: Query,
    times: usize,
}

/// What is known ahead of the application's reading, within one search.
#[derive(Debug)]
pub struct Ahead {
    habits: Vec<Habit>,
    /// The object that the application reads: where it stands in the search.
    at: usize,
    /// How many objects it has read, this one included.
    objects: usize,
    /// The queries that it has made about this object.
    made: Vec<Vec<u8>>,
    /// Queries for values that follow the answers which it has got about this object.
    expected: Vec<Vec<u8>>,
    kept: HashMap<u64, Vec<Kept>>,
    stamp: Stamp,
    /// How many objects to read ahead; 0 when it does not pay.
    window: usize,
    /// How many answers were kept since that was decided, and how many of them were wanted.
    stored: usize,
    wanted: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            habits: Vec::new(),
            at: 0,
            objects: 0,
            made: Vec::new(),
            expected: Vec::new(),
            kept: HashMap::new(),
            stamp: Stamp::default(),
            window: FIRST,
            stored: 0,
            wanted: 0,
        }
    }
}

impl Ahead {
    /// Where the object stands in the search that the application reads.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The application reads the object that stands here.
    pub fn turn_to(&mut self, at: usize) {
        if self.objects == 0 || at != self.at {
            self.at = at;
            self.objects += 1;
            self.made.clear();
            self.expected.clear();
        }
    }

    /// Whether there is an answer to this query, though it may be too old.
    #[must_use]
    pub fn has(&self, object: u64, query: &Query) -> bool {
        let kept = self.kept.get(&object);
        kept.is_some_and(|kept| kept.iter().any(|kept| kept.query == query.body))
    }

    /// Takes the answer to this query, if it is as good as new.
    pub fn take(&mut self, object: u64, query: &Query, stamp: Stamp, now: Instant) -> Option<Kept> {
        if stamp != self.stamp {
            self.kept.clear();
            return None;
        }
        let kept = self.kept.get_mut(&object)?;
        kept.retain(|kept| now.saturating_duration_since(kept.since) < LIFETIME);
        let position = kept.iter().position(|kept| kept.query == query.body)?;
        self.wanted += 1;
        Some(kept.remove(position))
    }

    /// What to read ahead along with a query that has no answer here; None if the token is to be asked for this alone.
    /// `objects` are those of the search.
    pub fn batch(&mut self, objects: &[u64], query: &Query) -> Option<Batch> {
        // The first object teaches what will be asked about the others.
        if self.objects < 2 || self.expected.contains(&query.body) {
            return None;
        }
        let object = *objects.get(self.at)?;
        let whole = self.made.is_empty() && self.kept.get(&object).map_or(true, Vec::is_empty);
        if whole {
            self.adapt();
        }
        if self.window == 0 {
            return None;
        }
        let behind = &objects[self.at + 1..];
        let known = |object: &u64| self.kept.contains_key(object);
        let more: Vec<u64> = if whole {
            behind.iter().take(self.window - 1).copied().collect()
        } else {
            // What was not known to be asked about these when they were read ahead.
            behind.iter().take(MOST - 1).copied().take_while(known).collect()
        };
        let mut queries = vec![query.clone()];
        for habit in &self.habits {
            let made = self.made.iter().filter(|made| **made == habit.query.body).count();
            let kept = self.count_kept(object, &habit.query);
            let own = usize::from(habit.query == *query);
            let missing = habit.times.saturating_sub(made + kept + own);
            queries.extend(std::iter::repeat(&habit.query).take(missing).cloned());
        }
        queries.truncate(QUERIES);
        Some(Batch {
            queries,
            objects: std::iter::once(object).chain(more).collect(),
            whole,
        })
    }

    fn count_kept(&self, object: u64, query: &Query) -> usize {
        let kept = self.kept.get(&object).map_or(&[][..], Vec::as_slice);
        kept.iter().filter(|kept| kept.query == query.body).count()
    }

    /// Looks back at what the last reading was worth.
    fn adapt(&mut self) {
        if self.stored > 0 {
            self.window = if self.wanted * WANTED >= self.stored {
                (self.window * STEP).min(MOST)
            } else {
                self.window / STEP
            };
        }
        (self.stored, self.wanted) = (0, 0);
        self.kept.clear();
    }

    /// Keeps what came of a batch, but for the answer to the application's own query, which is taken away first.
    pub fn keep(&mut self, batch: &Batch, findings: &[Vec<Found<'_>>], stamp: Stamp, now: Instant) {
        if stamp != self.stamp {
            self.kept.clear();
            self.stamp = stamp;
        }
        if batch.whole && findings.len() < batch.objects.len() {
            // The token is slow or tells much; it is not asked for more than it can do.
            self.window = findings.len();
        }
        for (index, (object, found)) in batch.objects.iter().zip(findings).enumerate() {
            let kept = self.kept.entry(*object).or_default();
            kept.retain(|kept| batch.queries.iter().all(|query| query.body != kept.query));
            for (number, (query, found)) in batch.queries.iter().zip(found).enumerate() {
                let mut put = |query: Vec<u8>, answer: Answer<'_>| {
                    if is_lasting(answer.rv) {
                        let (rv, body) = (answer.rv, answer.body.to_vec());
                        kept.push(Kept {
                            query,
                            rv,
                            body,
                            since: now,
                        });
                        self.stored += 1;
                    }
                };
                if index > 0 || number > 0 {
                    put(query.body.clone(), found.answer);
                }
                if let (Some(next), Some(followed)) = (next_body(found.answer), found.followed) {
                    put(next, followed);
                }
            }
        }
    }

    /// Reads no more ahead within this search.
    pub fn give_up(&mut self) {
        self.window = 0;
        self.kept.clear();
    }

    /// The application has got this answer to a query.
    pub fn note(&mut self, query: &Query, answer: Answer<'_>) {
        if let Some(position) = self.expected.iter().position(|expected| *expected == query.body) {
            self.expected.remove(position);
            return;
        }
        if self.made.len() < QUERIES {
            self.made.push(query.body.clone());
        }
        let times = self.made.iter().filter(|made| **made == query.body).count();
        if let Some(habit) = self.habits.iter_mut().find(|habit| habit.query == *query) {
            habit.times = habit.times.max(times);
        } else if self.habits.len() < QUERIES {
            let query = query.clone();
            self.habits.push(Habit { query, times });
        }
        if query.follow && self.expected.len() < QUERIES {
            self.expected.extend(next_body(answer));
        }
    }
}

/// Whether an answer is about the object, rather than about the state of the session or the token.
const fn is_lasting(rv: u64) -> bool {
    matches!(
        rv,
        CKR_OK | CKR_ATTRIBUTE_SENSITIVE | CKR_ATTRIBUTE_TYPE_INVALID | CKR_BUFFER_TOO_SMALL
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_wire::generated::attribute::{CKA_ID, CKA_LABEL};
    use keyway_wire::generated::call::C_GETATTRIBUTEVALUE;
    use keyway_wire::generated::rv::{CKR_DEVICE_ERROR, CKR_OBJECT_HANDLE_INVALID};
    use keyway_wire::value::{Attribute, AttributeValue, Template, Value};
    use keyway_wire::{call, encode_reply};

    const OBJECTS: [u64; 100] = {
        let mut objects = [0; 100];
        let mut index = 0;
        while index < 100 {
            objects[index] = 1_000 + index as u64;
            index += 1;
        }
        objects
    };
    const STAMP: Stamp = Stamp { changes: 3, news: 5 };

    fn template(entries: &[(u64, AttributeValue<'static>)]) -> Template<'static> {
        let entry = |(attribute, value): &(u64, AttributeValue<'static>)| Attribute {
            attribute: *attribute,
            value: value.clone(),
        };
        Template::Attributes(entries.iter().map(entry).collect())
    }

    fn lengths(attribute: u64) -> Query {
        Query::of(1, &template(&[(attribute, AttributeValue::Null(0))])).expect("a query that is read ahead")
    }

    fn values(attribute: u64, length: u64) -> Query {
        Query::of(1, &template(&[(attribute, AttributeValue::RoomBytes(length))])).expect("a query that is read ahead")
    }

    fn reply(entries: &[(u64, AttributeValue<'static>)]) -> Vec<u8> {
        let mut body = Vec::new();
        let row = call(C_GETATTRIBUTEVALUE).expect("a call");
        encode_reply(row, &[Value::Template(template(entries))], &mut body).expect("a reply");
        body
    }

    /// The token's answer to a query for the length of CKA_ID, and to the one that follows.
    fn three() -> (Vec<u8>, Vec<u8>) {
        (
            reply(&[(CKA_ID, AttributeValue::Null(3))]),
            reply(&[(CKA_ID, AttributeValue::Bytes(b"abc"))]),
        )
    }

    fn ok(body: &[u8]) -> Answer<'_> {
        Answer { rv: CKR_OK, body }
    }

    /// An application that has asked for the length of CKA_ID, and then for its value, of the first object.
    fn taught() -> Ahead {
        let (length, value) = three();
        let mut ahead = Ahead::default();
        ahead.turn_to(0);
        assert_eq!(
            ahead.batch(&OBJECTS, &lengths(CKA_ID)),
            None,
            "there may be one object only"
        );
        ahead.note(&lengths(CKA_ID), ok(&length));
        assert_eq!(ahead.batch(&OBJECTS, &values(CKA_ID, 3)), None);
        ahead.note(&values(CKA_ID, 3), ok(&value));
        ahead
    }

    /// Turns to an object and reads ahead; all answers are the same.
    fn read(ahead: &mut Ahead, at: usize, now: Instant) -> Batch {
        let (length, value) = three();
        ahead.turn_to(at);
        let batch = ahead.batch(&OBJECTS, &lengths(CKA_ID)).expect("a batch");
        let found = Found {
            answer: ok(&length),
            followed: Some(ok(&value)),
        };
        ahead.keep(
            &batch,
            &vec![vec![found; batch.queries.len()]; batch.objects.len()],
            STAMP,
            now,
        );
        ahead.note(&lengths(CKA_ID), ok(&length));
        batch
    }

    fn take(ahead: &mut Ahead, at: usize, query: &Query, now: Instant) -> Option<Vec<u8>> {
        ahead.turn_to(at);
        let kept = ahead.take(OBJECTS[at], query, STAMP, now)?;
        ahead.note(query, ok(&kept.body));
        Some(kept.body)
    }

    #[test]
    fn what_was_asked_about_one_object_is_asked_about_the_next_ones() {
        let (now, (length, value)) = (Instant::now(), three());
        let mut ahead = taught();
        let batch = read(&mut ahead, 1, now);
        assert_eq!(
            (batch.queries, batch.objects),
            (vec![lengths(CKA_ID)], OBJECTS[1..5].to_vec())
        );
        // The answer to the query itself is not kept, and what follows is.
        assert_eq!(take(&mut ahead, 1, &lengths(CKA_ID), now), None);
        assert_eq!(take(&mut ahead, 1, &values(CKA_ID, 3), now), Some(value.clone()));
        assert_eq!(take(&mut ahead, 2, &lengths(CKA_ID), now), Some(length.clone()));
        assert_eq!(take(&mut ahead, 2, &lengths(CKA_ID), now), None, "once");
        assert_eq!(take(&mut ahead, 2, &values(CKA_ID, 4), now), None, "another room");
        assert_eq!(take(&mut ahead, 2, &values(CKA_ID, 3), now), Some(value));
        assert_eq!(take(&mut ahead, 5, &lengths(CKA_ID), now), None);
    }

    #[test]
    fn more_is_read_ahead_while_it_is_wanted_and_nothing_when_it_is_not() {
        let now = Instant::now();
        let mut ahead = taught();
        let mut at = 1;
        for expected in [4, 16, 64, 15] {
            let batch = read(&mut ahead, at, now);
            assert_eq!(batch.objects, OBJECTS[at..at + expected]);
            assert!(take(&mut ahead, at, &values(CKA_ID, 3), now).is_some());
            for at in at + 1..at + expected {
                assert!(take(&mut ahead, at, &lengths(CKA_ID), now).is_some());
                assert!(take(&mut ahead, at, &values(CKA_ID, 3), now).is_some());
            }
            at += expected;
        }
        let mut ahead = taught();
        for expected in [4, 1] {
            assert_eq!(read(&mut ahead, at - 50, now).objects.len(), expected);
            at -= 10;
        }
        ahead.turn_to(90);
        assert_eq!(ahead.batch(&OBJECTS, &lengths(CKA_ID)), None);
    }

    #[test]
    fn an_answer_does_not_outlive_what_it_is_about() {
        let now = Instant::now();
        let query = lengths(CKA_ID);
        for (stamp, later, kept) in [
            (STAMP, LIFETIME / 2, true),
            (STAMP, LIFETIME, false),
            (Stamp { changes: 4, ..STAMP }, Duration::ZERO, false),
            (Stamp { news: 6, ..STAMP }, Duration::ZERO, false),
        ] {
            let mut ahead = taught();
            read(&mut ahead, 1, now);
            ahead.turn_to(2);
            let taken = ahead.take(OBJECTS[2], &query, stamp, now + later);
            assert_eq!(taken.is_some(), kept, "{stamp:?} {later:?}");
        }
        // What has changed does not come back.
        let mut ahead = taught();
        read(&mut ahead, 1, now);
        ahead.turn_to(2);
        assert_eq!(ahead.take(OBJECTS[2], &query, Stamp::default(), now), None);
        assert_eq!(ahead.take(OBJECTS[2], &query, STAMP, now), None);
    }

    #[test]
    fn a_query_that_turns_up_later_is_read_for_the_objects_at_hand() {
        let now = Instant::now();
        let mut ahead = taught();
        read(&mut ahead, 1, now);
        assert!(take(&mut ahead, 2, &lengths(CKA_ID), now).is_some());
        let batch = ahead.batch(&OBJECTS, &lengths(CKA_LABEL)).expect("a batch");
        assert_eq!(batch.queries, [lengths(CKA_LABEL)]);
        assert_eq!(batch.objects, OBJECTS[2..5]);
        let (length, _) = three();
        let found = Found {
            answer: ok(&length),
            followed: None,
        };
        ahead.keep(&batch, &[vec![found], vec![found], vec![found]], STAMP, now);
        assert!(take(&mut ahead, 3, &lengths(CKA_LABEL), now).is_some());
        assert!(
            take(&mut ahead, 3, &lengths(CKA_ID), now).is_some(),
            "what was there stays"
        );
    }

    #[test]
    fn what_is_asked_twice_is_read_twice() {
        let (now, (length, _)) = (Instant::now(), three());
        let mut ahead = taught();
        ahead.note(&lengths(CKA_ID), ok(&length));
        ahead.turn_to(1);
        let batch = ahead.batch(&OBJECTS, &lengths(CKA_ID)).expect("a batch");
        assert_eq!(batch.queries, [lengths(CKA_ID), lengths(CKA_ID)]);
        let found = Found {
            answer: ok(&length),
            followed: None,
        };
        ahead.keep(&batch, &[vec![found; 2], vec![found; 2]], STAMP, now);
        ahead.note(&lengths(CKA_ID), ok(&length));
        for (at, times) in [(1, 1), (2, 2)] {
            for _ in 0..times {
                assert!(take(&mut ahead, at, &lengths(CKA_ID), now).is_some());
            }
            assert_eq!(take(&mut ahead, at, &lengths(CKA_ID), now), None);
        }
    }

    #[test]
    fn answers_about_the_session_or_the_token_are_not_kept() {
        let now = Instant::now();
        for rv in [CKR_OBJECT_HANDLE_INVALID, CKR_DEVICE_ERROR] {
            let mut ahead = taught();
            ahead.turn_to(1);
            let batch = ahead.batch(&OBJECTS, &lengths(CKA_ID)).expect("a batch");
            let found = Found {
                answer: Answer { rv, body: b"" },
                followed: None,
            };
            ahead.keep(&batch, &vec![vec![found]; 4], STAMP, now);
            assert_eq!(take(&mut ahead, 2, &lengths(CKA_ID), now), None);
        }
    }

    #[test]
    fn a_token_that_answers_for_fewer_objects_is_asked_about_fewer() {
        let (now, (length, _)) = (Instant::now(), three());
        let mut ahead = taught();
        ahead.turn_to(1);
        let batch = ahead.batch(&OBJECTS, &lengths(CKA_ID)).expect("a batch");
        let found = Found {
            answer: ok(&length),
            followed: None,
        };
        ahead.keep(&batch, &[vec![found], vec![found]], STAMP, now);
        assert!(take(&mut ahead, 2, &lengths(CKA_ID), now).is_some());
        ahead.turn_to(3);
        let batch = ahead.batch(&OBJECTS, &lengths(CKA_ID)).expect("a batch");
        assert_eq!(batch.objects.len(), 2 * STEP);
    }
}
