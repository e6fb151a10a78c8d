//! C_FindObjects and C_GetAttributeValue: asked of the token, or answered from what was found and read ahead. What to do is
//! decided in `search`, `ahead` and `readings`; here it is done.

use crate::ahead::{Batch, Stamp};
use crate::connection::{Failure, Request};
use crate::context::deliver;
use crate::learn::{is_upheaval, View};
use crate::lock::lock;
use crate::operation::Operation;
use crate::query::{next_body, Query};
use crate::readings::{is_constant, Place, Reading};
use crate::seats::Reply;
use crate::session_calls::Making;
use crate::stats::Stats;
use keyway_abi::guard::Answer;
use keyway_wire::ahead::{self, decode_findings, encode_read_ahead, Found, ReadAhead, READ_AHEAD};
use keyway_wire::encode_reply;
use keyway_wire::generated::rv::{CKR_DEVICE_ERROR, CKR_FUNCTION_NOT_SUPPORTED, CKR_OK};
use keyway_wire::value::{Numbers, ObjectsRoom, Value};
use std::time::Instant;

/// How many bytes a reading may bring.
const ROOM: u32 = 262_144;

/// A query for attributes of an object that the session's last search has found.
struct Asked {
    object: u64,
    query: Query,
}

impl Making<'_, '_> {
    /// C_FindObjects, `fused` with the deferred init call or alone.
    pub(crate) fn find(&self, view: &mut View, fused: bool, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        let [Value::ObjectsRoom(
            room @ ObjectsRoom {
                maximum: 1..,
                count: true,
                buffer: true,
            },
        )] = self.args
        else {
            return self.send_find(view, fused, answer);
        };
        let changes = self.context.changes();
        let active = view.activity.is_certain(Operation::Find);
        if !(active && view.search.has(room.maximum, changes) && self.connection.heard().is_some()) {
            let maximum = view.search.wanted(room.maximum);
            let args = [Value::ObjectsRoom(ObjectsRoom { maximum, ..*room })];
            let asking = Making { args: &args, ..*self };
            let mut fused = fused;
            loop {
                let mut found = None;
                let rv = asking.send_find(view, std::mem::take(&mut fused), &mut |rv, values| match values {
                    [Value::Numbers(Numbers { data: Some(data), .. })] if rv == CKR_OK => {
                        found = Some(data.clone());
                        Ok(())
                    }
                    _ => answer(rv, values),
                })?;
                let Some(found) = found else { return Ok(rv) };
                if !view.search.found(&found, changes) {
                    break;
                }
            }
        }
        let given = view.search.give(room.maximum).to_vec();
        let numbers = Numbers {
            count: Some(given.len() as u64),
            data: Some(given),
        };
        answer(CKR_OK, &[Value::Numbers(numbers)]).map_err(Failure::Refused)?;
        Ok(CKR_OK)
    }

    fn send_find(&self, view: &mut View, fused: bool, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        if fused {
            self.fuse(view, answer)
        } else {
            self.send(view, answer)
        }
    }

    /// C_GetAttributeValue.
    pub(crate) fn read(&self, view: &mut View, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        let Some(asked) = self.asked(view) else {
            return self.remember(view, answer);
        };
        if view.ahead.has(asked.object, &asked.query) {
            let Some(stamp) = self.heard() else {
                return self.read_plainly(view, &asked, answer);
            };
            if let Some(kept) = view.ahead.take(asked.object, &asked.query, stamp, Instant::now()) {
                Stats::count(&self.context.stats.ahead);
                let told = ahead::Answer {
                    rv: kept.rv,
                    body: &kept.body,
                };
                return self.tell(view, &asked, told, answer);
            }
        }
        let batch = lock(&self.context.knowledge)
            .reads_ahead(self.session.slot)
            .then(|| view.ahead.batch(view.search.objects(), &asked.query))
            .flatten();
        match batch {
            Some(batch) => self.read_ahead(view, &asked, &batch, answer),
            None => self.read_plainly(view, &asked, answer),
        }
    }

    /// What must not have changed, if it is certain that nothing else has.
    fn heard(&self) -> Option<Stamp> {
        let news = self.connection.heard()?;
        Some(Stamp {
            changes: self.context.changes(),
            news,
        })
    }

    /// The same, as far as we have heard.
    fn stamp(&self) -> Stamp {
        Stamp {
            changes: self.context.changes(),
            news: self.connection.news(),
        }
    }

    /// A query about an object that this session's last search has not found: what it always answers is remembered from the second time on.
    fn remember(&self, view: &mut View, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        let [Value::Ulong(object), Value::Template(template)] = self.args else {
            return self.send(view, answer);
        };
        let Some(query) = Query::of(*object, template).filter(|_| is_constant(template)) else {
            return self.send(view, answer);
        };
        let Some(stamp) = self.heard() else {
            return self.send(view, answer);
        };
        let place = Place {
            slot: self.session.slot,
            object: *object,
        };
        let (reading, is_possible) = {
            let mut knowledge = lock(&self.context.knowledge);
            let reading = knowledge.readings.look(place, &query.body, stamp);
            (reading, knowledge.reads_ahead(place.slot))
        };
        match reading {
            Reading::Known(body) => {
                Stats::count(&self.context.stats.ahead);
                deliver(self.connection, self.call, CKR_OK, &body, answer).map_err(Failure::Refused)?;
                Ok(CKR_OK)
            }
            // Asked in this way, so that the daemon tells from now on when others change objects.
            Reading::Again if is_possible => self.read_to_keep(view, place, &query, answer),
            _ => self.send(view, answer),
        }
    }

    fn read_to_keep(
        &self,
        view: &mut View,
        place: Place,
        query: &Query,
        answer: &mut Answer<'_>,
    ) -> Result<u64, Failure> {
        let before = self.stamp();
        let reply = self.ask_ahead(&wire(std::slice::from_ref(query), &[place.object]))?;
        let findings = self.findings(&reply)?;
        let Some(Found { answer: own, followed }) = findings.first().and_then(|found| found.first()) else {
            return self.send(view, answer);
        };
        if own.rv == CKR_OK && before == self.stamp() {
            let readings = &mut lock(&self.context.knowledge).readings;
            readings.keep(place, query.body.clone(), own.body, before);
            if let (Some(next), Some(followed)) = (next_body(*own), followed.filter(|followed| followed.rv == CKR_OK)) {
                readings.keep(place, next, followed.body, before);
            }
        }
        if is_upheaval(own.rv) {
            self.context.forget_fleeting();
        }
        deliver(self.connection, self.call, own.rv, own.body, answer).map_err(Failure::Refused)?;
        Ok(own.rv)
    }

    /// What this call asks, if it is of a kind that is read ahead.
    fn asked(&self, view: &mut View) -> Option<Asked> {
        let [Value::Ulong(object), Value::Template(template)] = self.args else {
            return None;
        };
        let position = view.search.position(*object, view.ahead.at())?;
        let query = Query::of(*object, template)?;
        view.ahead.turn_to(position);
        Some(Asked { object: *object, query })
    }

    /// Asks the token for this alone, and learns that it was asked.
    fn read_plainly(&self, view: &mut View, asked: &Asked, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        let mut body = Vec::new();
        let rv = self.send(view, &mut |rv, values| {
            // What was decoded can be encoded.
            let _ = encode_reply(self.call, values, &mut body);
            answer(rv, values)
        })?;
        view.ahead.note(&asked.query, ahead::Answer { rv, body: &body });
        Ok(rv)
    }

    /// Asks the token for this and for what is expected to be asked next.
    fn read_ahead(
        &self,
        view: &mut View,
        asked: &Asked,
        batch: &Batch,
        answer: &mut Answer<'_>,
    ) -> Result<u64, Failure> {
        let before = self.stamp();
        let reply = self.ask_ahead(&wire(&batch.queries, &batch.objects))?;
        let findings = self.findings(&reply)?;
        let Some(Found { answer: own, .. }) = findings.first().and_then(|found| found.first()) else {
            view.ahead.give_up();
            return self.read_plainly(view, asked, answer);
        };
        if before == self.stamp() {
            view.ahead.keep(batch, &findings, before, Instant::now());
        }
        if is_upheaval(own.rv) {
            self.context.forget_fleeting();
        }
        self.tell(view, asked, *own, answer)
    }

    fn ask_ahead(&self, reading: &ReadAhead<'_>) -> Result<Reply, Failure> {
        let request = Request {
            call: READ_AHEAD,
            flags: 0,
            target: self.session.handle,
            object: 0,
        };
        Stats::count(&self.context.stats.round_trips);
        let reply = self.connection.call(request, |body| encode_read_ahead(reading, body))?;
        let rv = reply.header.object;
        if is_upheaval(rv) {
            self.context.forget_fleeting();
        }
        if rv == CKR_FUNCTION_NOT_SUPPORTED {
            lock(&self.context.knowledge).reads_plainly(self.session.slot);
        }
        Ok(reply)
    }

    /// What a reading has brought; nothing if the token would not.
    fn findings<'r>(&self, reply: &'r Reply) -> Result<Vec<Vec<Found<'r>>>, Failure> {
        if reply.header.object != CKR_OK {
            return Ok(Vec::new());
        }
        decode_findings(&reply.body).map_err(|_| {
            self.connection.shut();
            Failure::Refused(CKR_DEVICE_ERROR)
        })
    }

    /// Gives the application the token's answer.
    fn tell(
        &self,
        view: &mut View,
        asked: &Asked,
        told: ahead::Answer<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<u64, Failure> {
        view.ahead.note(&asked.query, told);
        deliver(self.connection, self.call, told.rv, told.body, answer).map_err(Failure::Refused)?;
        Ok(told.rv)
    }
}

/// The request that asks all of these queries about all of these objects.
fn wire<'q>(queries: &'q [Query], objects: &[u64]) -> ReadAhead<'q> {
    let queries = queries.iter().map(|query| ahead::Query {
        follow: query.follow,
        body: &query.body,
    });
    ReadAhead {
        room: ROOM,
        queries: queries.collect(),
        objects: objects.to_vec(),
    }
}
