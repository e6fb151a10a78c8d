//! What is read ahead: which queries the application makes about each object that a search has found, and the token's answers
//! to those that it has not made yet. Pure decisions; docs/architecture.md tells why an application can't tell.
//!
//! An answer serves the very query that it is the answer to, once, and not for long.

use keyway_wire::ahead::{following, Answer, Found};
use keyway_wire::generated::attribute::{CKA_HSS_KEYS_REMAINING, CKA_OTP_COUNTER, CKA_OTP_TIME};
use keyway_wire::generated::call::C_GETATTRIBUTEVALUE;
use keyway_wire::generated::rv::{CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, CKR_BUFFER_TOO_SMALL, CKR_OK};
use keyway_wire::generated::{attribute_kind, is_secret};
use keyway_wire::table::AttributeKind;
use keyway_wire::value::{Attribute, AttributeValue, Template, Value};
use keyway_wire::{call, decode_reply, encode_request};
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
/// Attributes of a query that is read ahead, at most.
const ATTRIBUTES: usize = 32;
/// Room in a query that is read ahead, in bytes, at most.
const ROOM: u64 = 65_536;

/// Attributes that using an object changes.
const VOLATILE: [u64; 3] = [CKA_OTP_COUNTER, CKA_OTP_TIME, CKA_HSS_KEYS_REMAINING];

/// A query as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The body of the request.
    pub body: Vec<u8>,
    /// Whether it asks for lengths that a query for the values will follow.
    pub follow: bool,
}

impl Query {
    /// The query with this template, if it may be read ahead: nested templates, values that are secret, that change by
    /// themselves or of which nothing is known are not.
    #[must_use]
    pub fn of(object: u64, template: &Template<'_>) -> Option<Self> {
        let Template::Attributes(entries) = template else {
            return None;
        };
        if entries.is_empty() || entries.len() > ATTRIBUTES || !entries.iter().all(is_readable) {
            return None;
        }
        let room: u64 = entries.iter().map(room).sum();
        let follow = entries
            .iter()
            .all(|entry| matches!(entry.value, AttributeValue::Null(_)) && is_secret(entry.attribute) == Some(false));
        let body = encoded(object, template).filter(|_| room <= ROOM)?;
        Some(Self { body, follow })
    }
}

fn is_readable(entry: &Attribute<'_>) -> bool {
    let attribute = entry.attribute;
    let secret = is_secret(attribute);
    attribute_kind(attribute) != AttributeKind::Template
        && !VOLATILE.contains(&attribute)
        && match entry.value {
            AttributeValue::Null(_) => secret.is_some(),
            AttributeValue::RoomBytes(_) | AttributeValue::RoomNumbers(_) => secret == Some(false),
            _ => false,
        }
}

fn room(entry: &Attribute<'_>) -> u64 {
    match entry.value {
        AttributeValue::RoomBytes(length) => length.min(ROOM + 1),
        AttributeValue::RoomNumbers(count) => count.min(ROOM).saturating_mul(8),
        _ => 0,
    }
}

/// The body of a query.
fn encoded(object: u64, template: &Template<'_>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    let values = [Value::Ulong(object), Value::Template(template.clone())];
    encode_request(call(C_GETATTRIBUTEVALUE)?, &values, &mut body).ok()?;
    Some(body)
}

/// The body of the query that follows this answer to a query for lengths.
fn next_body(answer: Answer<'_>) -> Option<Vec<u8>> {
    if answer.rv != CKR_OK {
        return None;
    }
    let values = decode_reply(call(C_GETATTRIBUTEVALUE)?, answer.body).ok()?;
    match values.as_slice() {
        [Value::Template(template)] => encoded(0, &following(template)?),
        _ => None,
    }
}

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
