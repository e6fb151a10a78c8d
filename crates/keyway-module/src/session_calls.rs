//! Calls of one session: sent as they are, fused with a deferred init call, or answered at once. What to do is decided in `learn`;
//! here it is done.

use crate::ahead::Ahead;
use crate::connection::{Connection, Failure, Request};
use crate::context::{deliver, Context};
use crate::knowledge::{Facts, Init, Lesson};
use crate::learn::{self, Plan, Teaching, View};
use crate::lock::lock;
use crate::operation::{Activity, Operation, Outcome};
use crate::renewal;
use crate::search::Search;
use crate::sessions::{Session, State};
use crate::stats::Stats;
use keyway_abi::guard::Answer;
use keyway_wire::generated::call::{
    C_CLOSESESSION, C_FINDOBJECTS, C_FINDOBJECTSFINAL, C_FINDOBJECTSINIT, C_GETATTRIBUTEVALUE,
};
use keyway_wire::generated::rv::{
    CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_GENERAL_ERROR, CKR_OK, CKR_OPERATION_NOT_INITIALIZED,
};
use keyway_wire::table::{Call, Step};
use keyway_wire::value::{Output, Value};
use keyway_wire::{encode_request, flag, header_object, WireError};
use std::sync::atomic::Ordering;

/// The outcome of an init call that was made with a mechanism.
pub(crate) const fn started(rv: u64) -> Outcome {
    Outcome {
        rv,
        wanted: true,
        mechanism: true,
    }
}

/// Makes a call of a session. Returns the RV.
///
/// # Errors
/// The gateway's own RV, or what `answer` returns.
pub fn make(
    context: &Context,
    session: &Session,
    call: &'static Call,
    args: &[Value<'_>],
    answer: &mut Answer<'_>,
) -> Result<u64, u64> {
    let mut state = lock(&session.state);
    if state.renewal.is_some() {
        return renewal::make(context, session, &mut state, call, args, answer);
    }
    let closing = call.number == C_CLOSESESSION;
    let State { connection, view, .. } = &mut *state;
    if connection.is_broken() {
        // It is as closed as can be.
        return if closing { Ok(CKR_OK) } else { Err(CKR_DEVICE_REMOVED) };
    }
    let made = Making {
        context,
        session,
        connection,
        call,
        args,
    };
    made.make(view, answer).or_else(|failure| {
        if connection.is_broken() {
            context.forget_fleeting();
        }
        match failure {
            _ if closing && connection.is_broken() => Ok(CKR_OK),
            Failure::Refused(rv) => Err(rv),
            // The session went with the connection before the call was made.
            Failure::NotSent => Err(CKR_DEVICE_REMOVED),
            Failure::Lost => Err(CKR_DEVICE_ERROR),
        }
    })
}

impl Making<'_, '_> {
    /// Makes the call. Returns the RV.
    ///
    /// # Errors
    /// There is none of the token's.
    pub(crate) fn make(&self, view: &mut View, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        let Self {
            context,
            session,
            call,
            args,
            ..
        } = *self;
        let changes = context.token_changes();
        if view.token_changes != changes {
            // A token may end operations of all sessions with the login that they need.
            view.token_changes = changes;
            view.activity = view.activity.doubted();
        }
        let rv = if learn::can_be_learned(call, args) {
            self.start(view, answer)
        } else {
            self.carry_on(view, answer)
        }?;
        if rv == CKR_OK {
            view.created |= learn::creates(call);
            remember_message(session, call, args);
        }
        searched(view, call, rv);
        Ok(rv)
    }
}

/// A search begins or ends.
fn searched(view: &mut View, call: &Call, rv: u64) {
    match (call.number, rv) {
        (C_FINDOBJECTSINIT, CKR_OK) => {
            view.search = Search::default();
            view.ahead = Ahead::default();
        }
        (C_FINDOBJECTSFINAL, CKR_OK | CKR_OPERATION_NOT_INITIALIZED) => view.search.end(),
        _ => {}
    }
}

/// Sends the deferred init call, if there is one. What becomes of it is kept for the next call of its operation.
///
/// # Errors
/// The connection is broken; the init call is as it was, since what it would have begun went with the connection.
pub fn flush(context: &Context, session: &Session, state: &mut State) -> Result<(), Failure> {
    let State {
        connection,
        view,
        renewal,
    } = state;
    if renewal.as_ref().is_some_and(|renewal| renewal.unfinished) {
        return Ok(());
    }
    flush_on(context, session, connection, view)
}

fn flush_on(context: &Context, session: &Session, connection: &Connection, view: &mut View) -> Result<(), Failure> {
    let Some((init, facts)) = take_deferred(session, view) else {
        return Ok(());
    };
    let age = lock(&context.knowledge).age();
    let rv = match send_init(context, session, connection, &init) {
        Ok(rv) => rv,
        Err(failure) => {
            defer(session, view, init, facts);
            // The call that is to follow has not been made.
            return Err(if failure == Failure::Lost {
                Failure::NotSent
            } else {
                failure
            });
        }
    };
    note_start(view, &init, rv);
    if rv == CKR_OK {
        if let Some(journal) = &mut view.journal {
            journal.started(&init);
        }
        view.current = Some(Lesson { init, facts, age });
    } else {
        view.failed = Operation::of(init.call).map(|operation| (operation, rv));
        lock(&context.knowledge).forget(&init);
    }
    Ok(())
}

fn defer(session: &Session, view: &mut View, init: Init, facts: Facts) {
    session.deferred.store(true, Ordering::SeqCst);
    view.deferred = Some((init, facts));
}

pub(crate) fn take_deferred(session: &Session, view: &mut View) -> Option<(Init, Facts)> {
    session.deferred.store(false, Ordering::SeqCst);
    view.deferred.take()
}

/// An init call was executed.
fn note_start(view: &mut View, init: &Init, rv: u64) {
    if let Some(row) = keyway_wire::call(init.call) {
        view.activity = view.activity.after(row, started(rv));
    }
    view.current = None;
}

/// Sends an init call by itself. Returns its RV.
fn send_init(context: &Context, session: &Session, connection: &Connection, init: &Init) -> Result<u64, Failure> {
    let request = Request {
        call: init.call,
        flags: 0,
        target: session.handle,
        object: init.object,
    };
    Stats::count(&context.stats.round_trips);
    let reply = connection.call(request, |body| {
        body.extend_from_slice(&init.body);
        Ok(())
    });
    Ok(reply?.header.object)
}

/// Keeps the mechanism of a message operation, by which the parameters of its calls are understood.
fn remember_message(session: &Session, call: &Call, args: &[Value<'_>]) {
    use Operation::{MessageDecrypt, MessageEncrypt, MessageSign, MessageVerify};
    let message = matches!(
        Operation::of(call.number),
        Some(MessageDecrypt | MessageEncrypt | MessageSign | MessageVerify)
    );
    if let (true, Step::Start, [Value::Mechanism(mechanism), ..]) = (message, call.step, args) {
        let mut messages = lock(&session.messages);
        match mechanism {
            Some(mechanism) => messages.insert(call.number, mechanism.mechanism),
            None => messages.remove(&call.number),
        };
    }
}

/// A call in the making; the session's view is locked.
#[derive(Clone, Copy)]
pub(crate) struct Making<'c, 'v> {
    pub(crate) context: &'c Context,
    pub(crate) session: &'c Session,
    pub(crate) connection: &'c Connection,
    pub(crate) call: &'static Call,
    pub(crate) args: &'c [Value<'v>],
}

impl Making<'_, '_> {
    /// An init call that can be learned.
    fn start(&self, view: &mut View, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        flush_on(self.context, self.session, self.connection, view)?;
        let mut body = Vec::with_capacity(64);
        encode_request(self.call, self.args, &mut body)?;
        let init = Init {
            slot: self.session.slot,
            call: self.call.number,
            object: header_object(self.call, self.args),
            body,
        };
        view.failed = None;
        let (facts, age) = {
            let mut knowledge = lock(&self.context.knowledge);
            (learn::defer(view, &mut knowledge, &init), knowledge.age())
        };
        if let Some(facts) = facts {
            self.session.deferred.store(true, Ordering::SeqCst);
            if self.context.is_quiet() {
                view.deferred = Some((init, facts));
                return Ok(CKR_OK);
            }
            self.session.deferred.store(false, Ordering::SeqCst);
        }
        let request = Request {
            call: init.call,
            flags: 0,
            target: self.session.handle,
            object: init.object,
        };
        let encode = |body: &mut Vec<u8>| {
            body.extend_from_slice(&init.body);
            Ok(())
        };
        let (rv, _) = self.exchange(view, request, encode, answer)?;
        if rv == CKR_OK {
            view.current = Some(Lesson {
                init,
                facts: Facts::default(),
                age,
            });
        }
        Ok(rv)
    }

    /// Any other call.
    fn carry_on(&self, view: &mut View, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        loop {
            match learn::plan(view, self.call, self.args) {
                Plan::Flush => flush_on(self.context, self.session, self.connection, view)?,
                Plan::Drop => drop(take_deferred(self.session, view)),
                Plan::Fuse if self.call.number == C_FINDOBJECTS => return self.find(view, true, answer),
                Plan::Fuse => return self.fuse(view, answer),
                Plan::Post => return self.post(view),
                Plan::Send => {
                    return match self.call.number {
                        C_FINDOBJECTS => self.find(view, false, answer),
                        C_GETATTRIBUTEVALUE => self.read(view, answer),
                        _ => self.send(view, answer),
                    }
                }
                Plan::Length(length) => {
                    answer(
                        CKR_OK,
                        &[Value::Output(Output {
                            length: Some(length),
                            data: None,
                        })],
                    )
                    .map_err(Failure::Refused)?;
                    return Ok(CKR_OK);
                }
                Plan::Fail(rv) => {
                    view.failed = None;
                    return Ok(rv);
                }
            }
        }
    }

    fn request(&self, flags: u16) -> Request {
        let object = header_object(self.call, self.args);
        Request {
            call: self.call.number,
            flags,
            target: self.session.handle,
            object,
        }
    }

    pub(crate) fn send(&self, view: &mut View, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        if self.call.step == Step::Start {
            view.failed = None;
        }
        let encode = |body: &mut Vec<u8>| encode_request(self.call, self.args, body);
        self.exchange(view, self.request(0), encode, answer).map(|(rv, _)| rv)
    }

    fn post(&self, view: &mut View) -> Result<u64, Failure> {
        Stats::count(&self.context.stats.posted);
        self.connection
            .post(self.request(0), |body| encode_request(self.call, self.args, body))?;
        self.record(view, started(CKR_OK), &[]);
        view.activity = view.activity.after(self.call, started(CKR_OK));
        view.current = None;
        Ok(CKR_OK)
    }

    pub(crate) fn fuse(&self, view: &mut View, answer: &mut Answer<'_>) -> Result<u64, Failure> {
        let (init, facts) = take_deferred(self.session, view).ok_or(Failure::Refused(CKR_GENERAL_ERROR))?;
        let age = lock(&self.context.knowledge).age();
        let request = Request {
            object: init.object,
            ..self.request(flag::FUSED)
        };
        let encode = |body: &mut Vec<u8>| {
            body.extend_from_slice(&init.body);
            encode_request(self.call, self.args, body)
        };
        let before = view.activity;
        note_start(view, &init, CKR_OK);
        view.current = Some(Lesson {
            init: init.clone(),
            facts,
            age,
        });
        let (rv, executed) = match self.exchange(view, request, encode, answer) {
            Ok(done) => done,
            Err(failure @ (Failure::NotSent | Failure::Lost)) => {
                // What the init call would have begun went with the connection.
                (view.activity, view.current) = (before, None);
                defer(self.session, view, init, facts);
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        };
        if !executed {
            // Nothing came of the init call, so we were wrong about it.
            lock(&self.context.knowledge).forget(&init);
            view.activity = before;
            note_start(view, &init, rv);
        } else if Operation::of(init.call).is_some_and(|operation| view.activity.is_certain(operation)) {
            // The operation goes on.
            if let Some(journal) = &mut view.journal {
                journal.started(&init);
            }
        }
        Ok(rv)
    }

    /// Sends a request, hands the reply on and looks at what it tells. Returns the RV, and whether the call was executed: that
    /// of a fused request may not have been.
    fn exchange(
        &self,
        view: &mut View,
        request: Request,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        answer: &mut Answer<'_>,
    ) -> Result<(u64, bool), Failure> {
        Stats::count(&self.context.stats.round_trips);
        let reply = self.connection.call(request, encode)?;
        let rv = reply.header.object;
        if learn::is_upheaval(rv) {
            self.context.forget_fleeting();
        }
        if reply.header.flags & flag::INIT != 0 {
            return Ok((rv, false));
        }
        let outcome = learn::outcome(self.call, self.args, rv);
        let mut teaching = Teaching::Nothing;
        let delivered = deliver(self.connection, self.call, rv, &reply.body, &mut |rv, values| {
            teaching = learn::teaching(self.call, self.args, values, outcome);
            answer(rv, values)
        });
        self.record(view, outcome, &reply.body);
        delivered.map_err(Failure::Refused)?;
        self.note(view, outcome, teaching);
        Ok((rv, true))
    }

    /// What makes the operation again is kept.
    fn record(&self, view: &mut View, outcome: Outcome, reply: &[u8]) {
        if let Some(journal) = &mut view.journal {
            journal.note(self.call, self.args, outcome, reply);
        }
    }

    fn note(&self, view: &mut View, outcome: Outcome, teaching: Teaching) {
        view.activity = view.activity.after(self.call, outcome);
        if let Some(lesson) = view
            .current
            .as_mut()
            .filter(|lesson| lesson.init.call == self.call.init)
        {
            match teaching {
                Teaching::Nothing => {}
                Teaching::Length(length) => lesson.facts.length = Some(length),
                Teaching::Success => lock(&self.context.knowledge).learn(lesson),
            }
        }
        let going_on = view
            .current
            .as_ref()
            .and_then(|lesson| Operation::of(lesson.init.call))
            .map(Activity::active);
        if going_on != Some(view.activity) {
            view.current = None;
        }
    }
}
