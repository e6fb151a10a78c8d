//! Reading ahead: the queries for attributes that the client expects to make, made in one request.

use crate::execute::Context;
use keyway_wire::ahead::{decode_read_ahead, following, Answer, Findings, Found, Query};
use keyway_wire::generated::{call, rv};
use keyway_wire::table::Call;
use keyway_wire::value::{AttributeValue, Template, Value};
use keyway_wire::{decode_reply, decode_request, WireError};
use std::time::{Duration, Instant};

/// No more objects are asked when this has passed; other calls of the session wait meanwhile.
const LONGEST: Duration = Duration::from_millis(10);
/// A value longer than this is not fetched unasked, in bytes.
const LARGEST: u64 = 65_536;
/// The body of a reply is not made longer than this, in bytes.
const MOST: usize = 1 << 20;

/// A query, decoded.
struct Asked<'a> {
    template: Template<'a>,
    follow: bool,
}

/// Answers a request to read ahead and appends the body of its reply. Returns the RV.
///
/// Every query is a call of its own, made as the client would have made it.
pub fn read_ahead(context: &Context, session: u64, body: &[u8], reply: &mut Vec<u8>) -> u64 {
    let start = reply.len();
    match try_read(context, session, body, reply) {
        Ok(()) => rv::CKR_OK,
        Err(_) => {
            reply.truncate(start);
            rv::CKR_ARGUMENTS_BAD
        }
    }
}

fn try_read(context: &Context, session: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), WireError> {
    let row = keyway_wire::call(call::C_GETATTRIBUTEVALUE).ok_or(WireError::Mismatch)?;
    let request = decode_read_ahead(body)?;
    let queries: Vec<Asked<'_>> = request
        .queries
        .iter()
        .map(|query| decoded(row, *query))
        .collect::<Result<_, _>>()?;
    let room = (request.room as usize).min(MOST);
    let begun = Instant::now();
    let mut findings = Findings::new(reply, queries.len());
    if queries.is_empty() {
        return Ok(());
    }
    for object in request.objects {
        let before = findings.length();
        for query in &queries {
            ask(context, row, session, object, query, &mut findings)?;
            if findings.length() > room {
                findings.truncate(before);
                return Ok(());
            }
        }
        findings.end_object();
        if begun.elapsed() > LONGEST {
            break;
        }
    }
    Ok(())
}

fn decoded<'a>(row: &Call, query: Query<'a>) -> Result<Asked<'a>, WireError> {
    match decode_request(row, 0, query.body)?.pop() {
        Some(Value::Template(template)) => Ok(Asked {
            template,
            follow: query.follow,
        }),
        _ => Err(WireError::Mismatch),
    }
}

/// Makes one query of one object, and the one that follows it.
fn ask(
    context: &Context,
    row: &'static Call,
    session: u64,
    object: u64,
    query: &Asked<'_>,
    findings: &mut Findings<'_>,
) -> Result<(), WireError> {
    let call = |template: Template<'_>| {
        let mut body = Vec::new();
        let values = [Value::Ulong(object), Value::Template(template)];
        let rv = context.invoke(row, session, &values, &mut body);
        (rv, body)
    };
    let (rv, body) = call(query.template.clone());
    let next = (query.follow && rv == rv::CKR_OK)
        .then(|| lengths(row, &body))
        .flatten();
    let followed = next.map(call);
    findings.push(Found {
        answer: Answer { rv, body: &body },
        followed: followed.as_ref().map(|(rv, body)| Answer { rv: *rv, body }),
    })
}

/// The query for the values whose lengths an answer tells, if they are not too long.
fn lengths(row: &Call, body: &[u8]) -> Option<Template<'static>> {
    let values = decode_reply(row, body).ok()?;
    let [Value::Template(answer)] = values.as_slice() else {
        return None;
    };
    let rooms = following(answer)?;
    let Template::Attributes(entries) = &rooms else {
        return None;
    };
    let length = entries.iter().fold(0_u64, |sum, entry| match entry.value {
        AttributeValue::RoomBytes(length) => sum.saturating_add(length),
        AttributeValue::RoomNumbers(count) => sum.saturating_add(count.saturating_mul(8)),
        _ => sum,
    });
    (length <= LARGEST).then_some(rooms)
}
