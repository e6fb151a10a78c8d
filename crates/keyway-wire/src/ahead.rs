//! Reading ahead (docs/wire.md, section 7): queries for attributes that an application is expected to make, and their answers.
//!
//! The queries and answers in it are bodies of C_GetAttributeValue, which is what they stand for.

use crate::cursor::{Reader, Writer};
use crate::error::WireError;
use crate::limits::{MAX_AHEAD, MAX_BODY, MAX_QUERIES};
use crate::value::{Attribute, AttributeValue, Template};

/// Call number of a request to read ahead.
pub const READ_AHEAD: u16 = 0x3001;
/// Call number of the news that objects may have changed.
pub const OBJECTS_CHANGED: u16 = 0x3002;

/// An RV, two lengths and a byte.
const SMALLEST_RESULT: usize = 13;
/// A byte and a length.
const SMALLEST_QUERY: usize = 5;

/// What READ_AHEAD asks: each query of each object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAhead<'a> {
    /// How many bytes the body of the reply may have.
    pub room: u32,
    /// The queries, in the order in which they are made.
    pub queries: Vec<Query<'a>>,
    /// The objects, in the order in which they are asked.
    pub objects: Vec<u64>,
}

/// One query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// Whether a query for lengths that succeeds is to be followed by one for the values.
    pub follow: bool,
    /// The body of the request.
    pub body: &'a [u8],
}

/// An answer to C_GetAttributeValue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The RV.
    pub rv: u64,
    /// The body of the reply.
    pub body: &'a [u8],
}

/// What came of one query of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The answer to the query.
    pub answer: Answer<'a>,
    /// The answer to the query that followed, if one did.
    pub followed: Option<Answer<'a>>,
}

/// Appends the body of a request.
///
/// # Errors
/// There is too much of something; `body` is then of no use.
pub fn encode_read_ahead(request: &ReadAhead<'_>, body: &mut Vec<u8>) -> Result<(), WireError> {
    let mut w = Writer::new(body);
    w.u32(request.room);
    w.count(request.queries.len(), MAX_QUERIES)?;
    for query in &request.queries {
        w.u8(u8::from(query.follow));
        put_data(&mut w, query.body)?;
    }
    w.count(request.objects.len(), MAX_AHEAD)?;
    w.numbers(&request.objects);
    Ok(())
}

/// Reads the body of a request whole; the queries in it are not looked into.
///
/// # Errors
/// The body is malformed.
pub fn decode_read_ahead(body: &[u8]) -> Result<ReadAhead<'_>, WireError> {
    let mut r = Reader::new(body);
    let room = r.u32()?;
    let count = r.u32()?;
    let count = r.count(count, MAX_QUERIES, SMALLEST_QUERY)?;
    let mut queries = Vec::with_capacity(count);
    for _ in 0..count {
        let follow = r.present()?;
        let body = data(&mut r)?;
        queries.push(Query { follow, body });
    }
    let count = r.u32()?;
    let count = r.count(count, MAX_AHEAD, 8)?;
    let objects = r.numbers(count)?;
    r.finish()?;
    Ok(ReadAhead { room, queries, objects })
}

/// Writes the body of a reply, one object after the other.
#[derive(Debug)]
pub struct Findings<'v> {
    body: &'v mut Vec<u8>,
    start: usize,
    objects: u32,
}

impl<'v> Findings<'v> {
    /// Nothing found yet, for so many queries.
    pub fn new(body: &'v mut Vec<u8>, queries: usize) -> Self {
        let start = body.len();
        let mut w = Writer::new(body);
        w.u32(0);
        // Within its limit, as it came with a request.
        w.u32(queries as u32);
        Self {
            body,
            start,
            objects: 0,
        }
    }

    /// How many bytes there are.
    #[must_use]
    pub fn length(&self) -> usize {
        self.body.len() - self.start
    }

    /// Appends what came of one query.
    ///
    /// # Errors
    /// A body is above the limit.
    pub fn push(&mut self, found: Found<'_>) -> Result<(), WireError> {
        let mut w = Writer::new(self.body);
        put_answer(&mut w, found.answer)?;
        w.u8(u8::from(found.followed.is_some()));
        found.followed.map_or(Ok(()), |answer| put_answer(&mut w, answer))
    }

    /// All queries of one object are there.
    pub fn end_object(&mut self) {
        self.objects += 1;
        self.body[self.start..self.start + 4].copy_from_slice(&self.objects.to_be_bytes());
    }

    /// Takes back what is longer than this.
    pub fn truncate(&mut self, length: usize) {
        self.body.truncate(self.start + length);
    }
}

/// Reads the body of a reply whole: for each object what came of each query, in the order of the request. There may be fewer
/// objects than were asked about.
///
/// # Errors
/// The body is malformed.
pub fn decode_findings(body: &[u8]) -> Result<Vec<Vec<Found<'_>>>, WireError> {
    let mut r = Reader::new(body);
    let objects = r.u32()?;
    let queries = r.u32()?;
    let objects = r.count(objects, MAX_AHEAD, 1)?;
    let queries = usize::try_from(queries)
        .ok()
        .filter(|queries| *queries <= MAX_QUERIES)
        .ok_or(WireError::Limit)?;
    // Without queries there is nothing to tell of an object.
    r.count(
        (objects * queries.max(1)) as u32,
        MAX_AHEAD * MAX_QUERIES,
        SMALLEST_RESULT,
    )?;
    let mut all = Vec::with_capacity(objects);
    for _ in 0..objects {
        let mut found = Vec::with_capacity(queries);
        for _ in 0..queries {
            let answer = answer(&mut r)?;
            let followed = if r.present()? {
                Some(self::answer(&mut r)?)
            } else {
                None
            };
            found.push(Found { answer, followed });
        }
        all.push(found);
    }
    r.finish()?;
    Ok(all)
}

/// The query for the values whose lengths an answer tells; None unless it tells nothing but lengths.
#[must_use]
pub fn following(answer: &Template<'_>) -> Option<Template<'static>> {
    let Template::Attributes(entries) = answer else {
        return None;
    };
    let room = |entry: &Attribute<'_>| {
        let value = match entry.value {
            AttributeValue::Null(length) => AttributeValue::RoomBytes(length),
            AttributeValue::LengthNumbers(count) => AttributeValue::RoomNumbers(count),
            _ => return None,
        };
        let attribute = entry.attribute;
        Some(Attribute { attribute, value })
    };
    let rooms: Option<Vec<_>> = entries.iter().map(room).collect();
    rooms.filter(|rooms| !rooms.is_empty()).map(Template::Attributes)
}

fn put_answer(w: &mut Writer<'_>, answer: Answer<'_>) -> Result<(), WireError> {
    w.u64(answer.rv);
    put_data(w, answer.body)
}

fn answer<'a>(r: &mut Reader<'a>) -> Result<Answer<'a>, WireError> {
    let rv = r.u64()?;
    let body = data(r)?;
    Ok(Answer { rv, body })
}

fn put_data(w: &mut Writer<'_>, data: &[u8]) -> Result<(), WireError> {
    w.count(data.len(), MAX_BODY)?;
    w.bytes(data);
    Ok(())
}

fn data<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let length = r.u32()?;
    let length = r.count(length, MAX_BODY, 1)?;
    r.bytes(length)
}
