//! A context: what is between C_Initialize and C_Finalize.

use crate::absent;
use crate::connection::{Connection, Failure, Request};
use crate::knowledge::Knowledge;
use crate::learn::{self, Disturbance};
use crate::link::{Link, Missing};
use crate::lock::lock;
use crate::session_calls;
use crate::sessions::{Session, Sessions};
use crate::stats::Stats;
use keyway_abi::guard::Answer;
use keyway_wire::generated::call::{
    C_CLOSEALLSESSIONS, C_CLOSESESSION, C_FINALIZE, C_MESSAGEDECRYPTINIT, C_MESSAGEENCRYPTINIT, C_MESSAGESIGNINIT,
    C_MESSAGEVERIFYINIT, C_OPENSESSION,
};
use keyway_wire::generated::rv::{
    CKR_CRYPTOKI_NOT_INITIALIZED, CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED, CKR_OK, CKR_SESSION_CLOSED,
    CKR_SESSION_HANDLE_INVALID,
};
use keyway_wire::table::{Call, Target};
use keyway_wire::value::Value;
use keyway_wire::{decode_reply, encode_request, header_object};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A context.
#[derive(Debug)]
pub struct Context {
    link: Link,
    sessions: Sessions,
    pub(crate) knowledge: Mutex<Knowledge>,
    /// How many calls are under way that disturb what is known; meanwhile nothing is deferred.
    disturbances: AtomicUsize,
    /// How many calls that change who is logged in, or a token, have begun or ended.
    token_changes: AtomicU64,
    /// How many calls that change objects, or who may see them, have.
    changes: AtomicU64,
    pub(crate) stats: Stats,
    stats_file: Option<PathBuf>,
    closed: AtomicBool,
}

impl Context {
    /// A context that reaches its daemon through `link`.
    #[must_use]
    pub fn new(link: Link, stats_file: Option<PathBuf>) -> Self {
        Self {
            link,
            sessions: Sessions::default(),
            knowledge: Mutex::default(),
            disturbances: AtomicUsize::new(0),
            token_changes: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            stats: Stats::default(),
            stats_file,
            closed: AtomicBool::new(false),
        }
    }

    /// Makes the first connection. Without a daemon the context is open all the same, and has no slots.
    pub fn open(&self) -> u64 {
        match self.link.get() {
            Ok(_) | Err(Missing::Absent) => CKR_OK,
            Err(Missing::Refused(rv)) => rv,
        }
    }

    /// Ends the context. Calls in flight answer CKR_CRYPTOKI_NOT_INITIALIZED.
    pub fn close(&self) -> u64 {
        self.closed.store(true, Ordering::Relaxed);
        let mut rv = CKR_OK;
        if let Some(connection) = self.link.take() {
            let request = Request {
                call: C_FINALIZE,
                ..Request::default()
            };
            // A daemon that goes away meanwhile has ended the context, too.
            if let Ok(reply) = connection.call(request, |_| Ok(())) {
                rv = reply.header.object;
            }
            connection.shut();
        }
        if let Some(file) = &self.stats_file {
            self.stats.append(file);
        }
        rv
    }

    /// The mechanism of the session's active message operation to which `call` belongs.
    pub fn message_mechanism(&self, session: u64, call: &Call) -> Option<u64> {
        let init = [
            C_MESSAGEENCRYPTINIT,
            C_MESSAGEDECRYPTINIT,
            C_MESSAGESIGNINIT,
            C_MESSAGEVERIFYINIT,
        ]
        .into_iter()
        .rfind(|init| *init < call.number)?;
        let session = self.sessions.get(session)?;
        let mechanism = lock(&session.messages).get(&init).copied();
        mechanism
    }

    /// Makes a call. Returns the RV.
    ///
    /// # Errors
    /// The gateway's own RV, or what `answer` returns.
    pub fn invoke(
        &self,
        call: &'static Call,
        target: u64,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<u64, u64> {
        Stats::count(&self.stats.calls);
        let session = if call.target == Target::Session {
            self.sessions.get(target)
        } else {
            None
        };
        let ending = || session.as_ref().is_some_and(|session| self.ends_more(session));
        let disturbance = learn::disturbance(call, args, call.number == C_CLOSESESSION && ending());
        let disturbing = disturbance.map(|disturbance| {
            let slot = session.as_ref().map_or(target, |session| session.slot);
            Disturbing::begin(self, slot, disturbance, session.as_ref().map(|session| session.handle))
        });
        let result = match &session {
            Some(session) => self.on_session(session, call, args, answer),
            None if call.number == C_OPENSESSION => self.open_session(call, target, args, answer),
            None => self.forward(call, target, args, answer).map(|(rv, _)| rv),
        };
        drop(disturbing);
        match result {
            Err(CKR_DEVICE_ERROR | CKR_DEVICE_REMOVED) if self.closed.load(Ordering::Relaxed) => {
                Err(CKR_CRYPTOKI_NOT_INITIALIZED)
            }
            Ok(CKR_OK) if call.number == C_CLOSEALLSESSIONS => {
                self.sessions.remove_slot(target);
                Ok(CKR_OK)
            }
            result => result,
        }
    }

    /// Whether C_CloseSession ends the login or objects along with the session.
    fn ends_more(&self, session: &Session) -> bool {
        self.sessions.begin_close(session) || lock(&session.view).created
    }

    fn on_session(
        &self,
        session: &Session,
        call: &'static Call,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<u64, u64> {
        let closing = call.number == C_CLOSESESSION;
        let result = if session.connection.is_broken() {
            Err(CKR_DEVICE_REMOVED)
        } else {
            session_calls::make(self, session, call, args, answer)
        };
        let gone = session.connection.is_broken();
        let lost = matches!(result, Ok(rv) if learn::is_lost(rv));
        if gone || lost {
            self.forget_all();
        }
        match result {
            // It is as closed as can be.
            Err(_) if closing && gone => {
                self.sessions.remove(session.handle);
                Ok(CKR_OK)
            }
            Ok(CKR_OK | CKR_SESSION_HANDLE_INVALID | CKR_SESSION_CLOSED) if closing => {
                self.sessions.remove(session.handle);
                result
            }
            result => {
                if lost {
                    self.sessions.lose(session);
                } else if closing {
                    self.sessions.not_closed(session);
                }
                result
            }
        }
    }

    /// C_OpenSession: the handle is ours to choose.
    fn open_session(
        &self,
        call: &'static Call,
        slot: u64,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<u64, u64> {
        let [flags, Value::Cell(Some(_))] = args else {
            // Without a place for the handle it is the module that refuses.
            return self.forward(call, slot, args, answer).map(|(rv, _)| rv);
        };
        let cell = Value::Cell(Some(self.sessions.next_handle()));
        let (rv, connection) = self.forward(call, slot, &[flags.clone(), cell.clone()], &mut |_, _| Ok(()))?;
        if let (CKR_OK, Value::Cell(Some(handle)), Some(connection)) = (rv, &cell, connection) {
            self.sessions.add(*handle, slot, connection);
            answer(rv, &[cell])?;
        }
        Ok(rv)
    }

    /// Makes a call that belongs to no session that we know. Returns the RV and the connection that it was made on.
    fn forward(
        &self,
        call: &'static Call,
        target: u64,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<(u64, Option<Arc<Connection>>), u64> {
        let request = Request {
            call: call.number,
            flags: 0,
            target,
            object: header_object(call, args),
        };
        let mut repeat = call.repeat && call.target != Target::Session;
        loop {
            let connection = match self.link.get() {
                Ok(connection) => connection,
                Err(Missing::Absent) => {
                    let rv = absent::answer(call, args, self.link.was_made(), answer)?;
                    // Sessions that are lost are closed by this, too.
                    return Ok((if call.number == C_CLOSEALLSESSIONS { CKR_OK } else { rv }, None));
                }
                Err(Missing::Refused(rv)) => return Err(rv),
            };
            Stats::count(&self.stats.round_trips);
            let failure = match connection.call(request, |body| encode_request(call, args, body)) {
                Ok(reply) => {
                    let rv = reply.header.object;
                    deliver(&connection, call, rv, &reply.body, answer)?;
                    if learn::is_upheaval(rv) {
                        self.forget_all();
                    }
                    return Ok((rv, Some(connection)));
                }
                Err(failure) => failure,
            };
            self.forget_all();
            match failure {
                Failure::Refused(rv) => return Err(rv),
                // The daemon has not seen the call; a new connection may come through.
                Failure::NotSent => {}
                Failure::Lost if std::mem::take(&mut repeat) => {}
                Failure::Lost => return Err(CKR_DEVICE_ERROR),
            }
        }
    }

    /// The tokens may not be the ones any more that we know.
    pub(crate) fn forget_all(&self) {
        lock(&self.knowledge).forget_all();
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// How many calls that change objects, or who may see them, have begun or ended.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    pub(crate) fn token_changes(&self) -> u64 {
        self.token_changes.load(Ordering::SeqCst)
    }

    /// Whether an init call may be deferred now. Its session has said that it may be before it asks.
    pub(crate) fn is_quiet(&self) -> bool {
        self.disturbances.load(Ordering::SeqCst) == 0
    }
}

/// Decodes a reply and hands it on.
///
/// # Errors
/// CKR_DEVICE_ERROR if it is malformed, which ends the connection, or what `answer` returns.
pub(crate) fn deliver(
    connection: &Connection,
    call: &'static Call,
    rv: u64,
    body: &[u8],
    answer: &mut Answer<'_>,
) -> Result<(), u64> {
    match decode_reply(call, body) {
        Ok(values) => answer(rv, &values),
        Err(_) => {
            connection.shut();
            Err(CKR_DEVICE_ERROR)
        }
    }
}

/// A call under way that disturbs what is known. While it is, nothing is deferred, and what was has been sent.
struct Disturbing<'c> {
    context: &'c Context,
    slot: u64,
    disturbance: Disturbance,
}

impl<'c> Disturbing<'c> {
    /// Begins; no lock is held. The session whose call it is sees to its own init call.
    fn begin(context: &'c Context, slot: u64, disturbance: Disturbance, own: Option<u64>) -> Self {
        // A session marks itself before it looks at this counter, and we look at the marks after we have counted: so
        // either it sees us and sends its init call, or we see its mark and send it.
        context.disturbances.fetch_add(1, Ordering::SeqCst);
        let disturbing = Self {
            context,
            slot,
            disturbance,
        };
        disturbing.forget();
        for session in context
            .sessions
            .deferred()
            .into_iter()
            .filter(|session| Some(session.handle) != own)
        {
            // An init call that can't be sent is told to its own session.
            let _ = session_calls::flush(context, &session, &mut lock(&session.view));
        }
        disturbing
    }

    /// What was learned before or during the call may not hold any more.
    fn forget(&self) {
        self.context.changes.fetch_add(1, Ordering::SeqCst);
        let mut knowledge = lock(&self.context.knowledge);
        match self.disturbance {
            Disturbance::Objects => {}
            Disturbance::Object(object) => knowledge.forget_object(self.slot, object),
            Disturbance::Token => {
                knowledge.forget_slot(self.slot);
                self.context.token_changes.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Disturbing<'_> {
    fn drop(&mut self) {
        self.forget();
        self.context.disturbances.fetch_sub(1, Ordering::SeqCst);
    }
}
