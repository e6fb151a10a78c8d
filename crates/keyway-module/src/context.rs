//! A context: what is between C_Initialize and C_Finalize.

use crate::absent;
use crate::connection::{Connection, Failure, Request};
use crate::journal::Journal;
use crate::knowledge::Knowledge;
use crate::learn::{self, Disturbance};
use crate::link::{Link, Missing};
use crate::lock::lock;
use crate::logins::Logins;
use crate::mechanisms;
use crate::outage::{Outage, Waiting};
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
use keyway_wire::{decode_reply, encode_request, flag, header_object};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// The connection that a call was made on, if it was, and the flags of the reply.
type Answerer = Option<(Arc<Connection>, u16)>;

/// A context.
#[derive(Debug)]
pub struct Context {
    pub(crate) link: Link,
    pub(crate) sessions: Sessions,
    pub(crate) logins: Logins,
    /// The time without a daemon, if it is one.
    outage: Mutex<Outage>,
    /// Rings when that is over, or the context is.
    over: Condvar,
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
            logins: Logins::default(),
            outage: Mutex::default(),
            over: Condvar::new(),
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
        self.closed.store(true, Ordering::SeqCst);
        self.wake();
        let mut rv = CKR_OK;
        if let Some(connection) = self.link.close() {
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
        self.logins.forget_all();
        if let Some(file) = &self.stats_file {
            self.stats.append(file);
        }
        rv
    }

    /// Whether C_Finalize has begun.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Pauses after an attempt to reach a daemon has failed.
    ///
    /// # Errors
    /// `rv` if there is to be no other attempt, CKR_CRYPTOKI_NOT_INITIALIZED if the context ends meanwhile.
    pub(crate) fn pause(&self, waiting: &mut Waiting, rv: u64) -> Result<(), u64> {
        let mut outage = lock(&self.outage);
        let pause = waiting.pause(&mut outage, Instant::now()).ok_or(rv)?;
        if !self.is_closed() {
            drop(
                self.over
                    .wait_timeout(outage, pause)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
        if self.is_closed() {
            return Err(CKR_CRYPTOKI_NOT_INITIALIZED);
        }
        Ok(())
    }

    /// A daemon is there.
    pub(crate) fn reached(&self) {
        if lock(&self.outage).over() {
            self.over.notify_all();
        }
    }

    fn wake(&self) {
        // With the lock, so that nobody is between looking and waiting.
        let _outage = lock(&self.outage);
        self.over.notify_all();
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
        let closing = (call.number == C_CLOSEALLSESSIONS).then(|| self.sessions.begin_close_slot(target));
        let ending = || session.as_ref().is_some_and(|session| self.ends_more(session));
        let disturbance = learn::disturbance(call, args, call.number == C_CLOSESESSION && ending());
        let disturbing = disturbance.map(|disturbance| {
            let slot = session.as_ref().map_or(target, |session| session.slot);
            Disturbing::begin(self, slot, disturbance, session.as_ref().map(|session| session.handle))
        });
        let result = match &session {
            Some(session) => self.on_session(session, call, args, answer),
            None if call.number == C_OPENSESSION => self.open_session(call, target, args, answer),
            None if mechanisms::asks(call) => self.ask_mechanisms(call, target, args, answer),
            None => self.forward(call, target, args, answer).map(|(rv, _)| rv),
        };
        drop(disturbing);
        if result == Ok(CKR_OK) && learn::looks_anew(call, args) {
            lock(&self.knowledge).forget_mechanisms();
        }
        match (result, closing) {
            (Err(CKR_DEVICE_ERROR | CKR_DEVICE_REMOVED), _) if self.is_closed() => Err(CKR_CRYPTOKI_NOT_INITIALIZED),
            (Ok(CKR_OK), Some(_)) => {
                self.sessions.remove_slot(target);
                self.end_login(target);
                Ok(CKR_OK)
            }
            (result, closing) => {
                let closing = closing.unwrap_or_default();
                closing.iter().for_each(|session| self.sessions.not_closed(session));
                result
            }
        }
    }

    /// A login ends with the last session of its slot.
    fn end_login(&self, slot: u64) {
        if let Some(login) = self.logins.known(slot) {
            // A session that is opened meanwhile is known before somebody logs in through it.
            let mut login = lock(&login);
            if !self.sessions.has_any(slot) {
                login.forget();
            }
        }
    }

    /// Whether C_CloseSession ends the login or objects along with the session.
    fn ends_more(&self, session: &Session) -> bool {
        let was_open = !session.is_closing();
        let last = self.sessions.begin_close(session);
        let view = &mut lock(&session.state).view;
        view.leaves_others = was_open && !last;
        last || view.created
    }

    fn on_session(
        &self,
        session: &Session,
        call: &'static Call,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<u64, u64> {
        let closing = call.number == C_CLOSESESSION;
        let result = session_calls::make(self, session, call, args, answer);
        let lost = matches!(result, Ok(rv) if learn::is_lost(rv, session.is_renewable()));
        if lost {
            self.forget_fleeting();
        }
        match result {
            Ok(CKR_OK | CKR_SESSION_HANDLE_INVALID | CKR_SESSION_CLOSED) if closing => {
                self.sessions.remove(session.handle);
                self.end_login(session.slot);
            }
            _ if lost => self.sessions.lose(session),
            _ if closing => self.sessions.not_closed(session),
            _ => {}
        }
        result
    }

    /// A call that asks for a token's mechanisms: the token is asked once.
    fn ask_mechanisms(
        &self,
        call: &'static Call,
        slot: u64,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<u64, u64> {
        let (known, age) = {
            let knowledge = lock(&self.knowledge);
            (knowledge.mechanisms(slot, args), knowledge.age())
        };
        if let Some((rv, value)) = known {
            answer(rv, &[value])?;
            return Ok(rv);
        }
        let (rv, _) = self.forward(call, slot, args, &mut |rv, values| {
            lock(&self.knowledge).learn_mechanisms(slot, args, rv, values, age);
            answer(rv, values)
        })?;
        Ok(rv)
    }

    /// C_OpenSession: the handle is ours to choose.
    fn open_session(
        &self,
        call: &'static Call,
        slot: u64,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<u64, u64> {
        let [Value::Ulong(flags), Value::Cell(Some(_))] = args else {
            // Without a place for the handle it is the module that refuses.
            return self.forward(call, slot, args, answer).map(|(rv, _)| rv);
        };
        let handle = self.sessions.next_handle();
        let args = [Value::Ulong(*flags), Value::Cell(Some(handle))];
        let (rv, opened) = self.forward(call, slot, &args, &mut |_, _| Ok(()))?;
        if let (CKR_OK, Some((connection, reply_flags))) = (rv, opened) {
            let settings = self.link.renewal();
            let renewable = reply_flags & flag::RENEWABLE != 0 && !settings.patience.is_zero();
            lock(&self.knowledge).opened(slot, renewable);
            if renewable {
                self.link.watch(&connection);
            }
            let renewal = renewable.then(|| (*flags, Journal::new(settings.journal)));
            self.sessions.add(handle, slot, connection, renewal);
            answer(rv, &[Value::Cell(Some(handle))])?;
        }
        Ok(rv)
    }

    /// Makes a call that belongs to no session that we know. Returns the RV and who has answered.
    fn forward(
        &self,
        call: &'static Call,
        target: u64,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<(u64, Answerer), u64> {
        let request = Request {
            call: call.number,
            flags: 0,
            target,
            object: header_object(call, args),
        };
        // A session that nobody knows of went with its connection.
        let mut repeat = call.repeat && call.target != Target::Session || call.number == C_OPENSESSION;
        let mut waiting = Waiting::new(self.link.renewal().patience);
        loop {
            let connection = match self.link.get() {
                Ok(connection) => connection,
                Err(missing) => {
                    if self.waits(call, target) {
                        match self.pause(&mut waiting, CKR_DEVICE_REMOVED) {
                            Ok(()) => continue,
                            Err(rv @ CKR_CRYPTOKI_NOT_INITIALIZED) => return Err(rv),
                            Err(_) => {}
                        }
                    }
                    return match missing {
                        Missing::Absent => {
                            let rv = absent::answer(call, args, self.link.was_made(), answer)?;
                            // Sessions that are lost are closed by this, too.
                            Ok((if call.number == C_CLOSEALLSESSIONS { CKR_OK } else { rv }, None))
                        }
                        Missing::Refused(rv) => Err(rv),
                    };
                }
            };
            Stats::count(&self.stats.round_trips);
            let failure = match connection.call(request, |body| encode_request(call, args, body)) {
                Ok(reply) => {
                    self.reached();
                    let rv = reply.header.object;
                    deliver(&connection, call, rv, &reply.body, answer)?;
                    if learn::is_upheaval(rv) {
                        self.forget_fleeting();
                    }
                    return Ok((rv, Some((connection, reply.header.flags))));
                }
                Err(failure) => failure,
            };
            self.forget_fleeting();
            match failure {
                Failure::Refused(rv) => return Err(rv),
                // The daemon has not seen the call; a new connection may come through.
                Failure::NotSent => {}
                Failure::Lost if std::mem::take(&mut repeat) => {}
                Failure::Lost => return Err(CKR_DEVICE_ERROR),
            }
        }
    }

    /// Whether a call is worth waiting for a daemon: its slot is one that will be the same then.
    fn waits(&self, call: &Call, target: u64) -> bool {
        let knowledge = lock(&self.knowledge);
        match call.target {
            Target::Slot => call.number != C_CLOSEALLSESSIONS && knowledge.is_lasting(target),
            Target::None => call.repeat && knowledge.has_lasting(),
            Target::Session => false,
        }
    }

    /// The tokens may not be the ones any more that we know.
    pub(crate) fn forget_fleeting(&self) {
        lock(&self.knowledge).forget_fleeting();
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
            let _ = session_calls::flush(context, &session, &mut lock(&session.state));
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
