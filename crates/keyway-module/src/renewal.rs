//! Sessions that outlast their connection: opened anew on another one under the same handle, with the login and the operations that
//! they had. What can be made again is decided in `journal` and `logins`, how long to wait in `outage`; here it is done.

use crate::ahead::Ahead;
use crate::connection::{Connection, Failure, Request};
use crate::context::Context;
use crate::learn::View;
use crate::link::Missing;
use crate::lock::lock;
use crate::logins::{self, Due, Verdict};
use crate::operation::{Activity, Operation};
use crate::outage::Waiting;
use crate::session_calls::{started, take_deferred, Making};
use crate::sessions::{Session, State};
use crate::stats::Stats;
use keyway_abi::guard::Answer;
use keyway_wire::generated::call::{C_CLOSESESSION, C_DECRYPTFINAL, C_ENCRYPTFINAL, C_OPENSESSION};
use keyway_wire::generated::rv::*;
use keyway_wire::table::{Call, Step};
use keyway_wire::value::{Room, Value};
use keyway_wire::{call, decode_reply, encode_request, flag};
use std::sync::Arc;

/// So often a call is made again whose reply was lost. More often it may be the call that ends the daemons.
const REPEATS: u32 = 2;
/// So many connections a call tries that break as soon as they are there.
const CONNECTIONS: u32 = 16;

/// Room for the end of an operation that nobody wants any more, in bytes.
const ENDING: u64 = 65_536;

/// Why a session could not be made anew.
enum Broken {
    /// That is the answer to the call.
    Answer(u64),
    /// There is no daemon at present; the RV if none comes.
    Absent(u64),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(rv) => Self::Answer(rv),
            Failure::NotSent | Failure::Lost => Self::Absent(CKR_DEVICE_REMOVED),
        }
    }
}

/// Makes a call of a session that can be made anew. Returns the RV.
///
/// # Errors
/// The gateway's own RV, or what `answer` returns.
pub fn make(
    context: &Context,
    session: &Session,
    state: &mut State,
    row: &'static Call,
    args: &[Value<'_>],
    answer: &mut Answer<'_>,
) -> Result<u64, u64> {
    let closing = row.number == C_CLOSESESSION;
    let mut waiting = Waiting::new(context.link.renewal().patience);
    let mut lost = 0;
    for _ in 0..CONNECTIONS {
        if closing {
            if state.connection.is_broken() {
                // It is as closed as can be.
                return Ok(CKR_OK);
            }
            keep_login(context, session, &state.connection);
        } else {
            if let Err(rv) = revive(context, session, state, &mut waiting) {
                give_up(session, &mut state.view, row);
                return Err(rv);
            }
            if state
                .view
                .journal
                .as_mut()
                .is_some_and(|journal| journal.tell_lost(row))
            {
                return Ok(CKR_DEVICE_REMOVED);
            }
        }
        let failure = match attempt(context, session, state, row, args, answer) {
            Ok(rv) => return Ok(rv),
            Err(Failure::Refused(rv)) if !closing => return Err(rv),
            Err(failure) => failure,
        };
        if let (Failure::Refused(rv), false) = (failure, state.connection.is_broken()) {
            return Err(rv);
        }
        context.forget_fleeting();
        if failure == Failure::Lost && !closing {
            lost += 1;
            if lost > REPEATS || !can_repeat(&state.view, row) {
                give_up(session, &mut state.view, row);
                return Err(CKR_DEVICE_ERROR);
            }
        }
    }
    give_up(session, &mut state.view, row);
    Err(CKR_DEVICE_REMOVED)
}

/// Makes the call on the connection that there is.
fn attempt(
    context: &Context,
    session: &Session,
    state: &mut State,
    row: &'static Call,
    args: &[Value<'_>],
    answer: &mut Answer<'_>,
) -> Result<u64, Failure> {
    let login = logins::may_change(row).then(|| context.logins.of(session.slot));
    let mut login = login.as_deref().map(lock);
    let State { connection, view, .. } = state;
    let making = Making {
        context,
        session,
        connection,
        call: row,
        args,
    };
    let result = making.make(view, answer);
    if let Some(login) = &mut login {
        let rv = match result {
            Ok(rv) => Some(rv),
            Err(Failure::NotSent) => return result,
            Err(Failure::Refused(_)) if !connection.is_broken() => return result,
            Err(Failure::Lost | Failure::Refused(_)) => None,
        };
        login.note(row, args, rv, connection.number(), context.link.renewal().remember_pin);
    }
    result
}

/// Whether a call whose reply was lost is to be made again.
fn can_repeat(view: &View, row: &Call) -> bool {
    let deferred = view.deferred.as_ref().map(|(init, _)| init);
    view.journal
        .as_ref()
        .is_some_and(|journal| journal.can_repeat(row, deferred))
}

/// The application is told that the call failed, and so its operation is over.
fn give_up(session: &Session, view: &mut View, row: &Call) {
    if row.step == Step::Start {
        return;
    }
    if view.deferred.as_ref().is_some_and(|(init, _)| init.call == row.init) {
        drop(take_deferred(session, view));
    }
    if let (Some(journal), Some(operation)) = (&mut view.journal, Operation::of(row.number)) {
        journal.end(operation);
    }
}

/// Sees to it that the session lives on a connection, with its login and its operations; waits for a daemon if there is none.
///
/// # Errors
/// What the call answers that needs the session.
fn revive(context: &Context, session: &Session, state: &mut State, waiting: &mut Waiting) -> Result<(), u64> {
    while state.connection.is_broken() || state.renewal.as_ref().is_some_and(|renewal| renewal.unfinished) {
        if context.is_closed() {
            return Err(CKR_CRYPTOKI_NOT_INITIALIZED);
        }
        match renew(context, session, state) {
            Ok(()) => {
                context.reached();
                return Ok(());
            }
            Err(Broken::Answer(rv)) => return Err(rv),
            Err(Broken::Absent(rv)) => context.pause(waiting, rv)?,
        }
    }
    Ok(())
}

fn renew(context: &Context, session: &Session, state: &mut State) -> Result<(), Broken> {
    if state.connection.is_broken() {
        if session.is_closing() {
            return Err(Broken::Answer(CKR_SESSION_HANDLE_INVALID));
        }
        let connection = context.link.get().map_err(|missing| {
            Broken::Absent(match missing {
                Missing::Absent => CKR_DEVICE_REMOVED,
                Missing::Refused(rv) => rv,
            })
        })?;
        open(context, session, state, connection)?;
    }
    log_in(context, session, &state.connection)?;
    operate(context, session, state)?;
    if let Some(renewal) = &mut state.renewal {
        renewal.unfinished = false;
    }
    Ok(())
}

/// Opens the session on another connection.
fn open(context: &Context, session: &Session, state: &mut State, connection: Arc<Connection>) -> Result<(), Broken> {
    let (Some(renewal), Some(row)) = (&mut state.renewal, call(C_OPENSESSION)) else {
        return Err(Broken::Answer(CKR_DEVICE_REMOVED));
    };
    let request = Request {
        call: C_OPENSESSION,
        target: session.slot,
        ..Request::default()
    };
    let args = [Value::Ulong(renewal.flags), Value::Cell(Some(session.handle))];
    Stats::count(&context.stats.round_trips);
    let reply = connection.call(request, |body| encode_request(row, &args, body))?;
    if decode_reply(row, &reply.body).is_err() {
        connection.shut();
        return Err(Broken::Absent(CKR_DEVICE_ERROR));
    }
    if reply.header.object != CKR_OK {
        return Err(Broken::Answer(reply.header.object));
    }
    if reply.header.flags & flag::RENEWABLE == 0 {
        // Another token is there now, whose handles mean other objects.
        close(context, session, &connection);
        lock(&context.logins.of(session.slot)).forget();
        lock(&context.knowledge).opened(session.slot, false);
        context.sessions.lose(session);
        state.renewal = None;
        return Err(Broken::Answer(CKR_DEVICE_REMOVED));
    }
    if session.is_closing() {
        // C_CloseAllSessions may have been executed before.
        close(context, session, &connection);
        return Err(Broken::Answer(CKR_SESSION_HANDLE_INVALID));
    }
    renewal.unfinished = true;
    session.move_to(state, connection);
    Ok(())
}

/// Closes a session that was opened too late.
fn close(context: &Context, session: &Session, connection: &Connection) {
    let request = Request {
        call: C_CLOSESESSION,
        target: session.handle,
        ..Request::default()
    };
    Stats::count(&context.stats.round_trips);
    // If it can't be closed it has gone.
    let _ = connection.call(request, |_| Ok(()));
}

/// Logs in again, if that was not done for another session of the slot.
fn log_in(context: &Context, session: &Session, connection: &Connection) -> Result<(), Broken> {
    let login = context.logins.of(session.slot);
    let mut login = lock(&login);
    let made = match login.due(connection.number()) {
        Due::Nothing => return Ok(()),
        Due::Unknown => {
            // What was learned may have needed a login.
            lock(&context.knowledge).forget_slot(session.slot);
            return Ok(());
        }
        Due::Login(kept) => {
            let request = Request {
                call: kept.call,
                target: session.handle,
                ..Request::default()
            };
            Stats::count(&context.stats.round_trips);
            connection.call(request, |body| {
                body.extend_from_slice(kept.body.bytes());
                Ok(())
            })
        }
    };
    let rv = match made {
        Ok(reply) => Some(reply.header.object),
        Err(Failure::Lost) => None,
        Err(failure) => return Err(failure.into()),
    };
    match login.made(connection.number(), rv) {
        Verdict::In => Ok(()),
        Verdict::Refused => Err(Broken::Answer(CKR_USER_NOT_LOGGED_IN)),
        Verdict::Failed(_) if rv.is_none() => Err(Broken::Absent(CKR_DEVICE_REMOVED)),
        Verdict::Failed(rv) => Err(Broken::Answer(rv)),
    }
}

/// Makes the operations again that were active.
fn operate(context: &Context, session: &Session, state: &mut State) -> Result<(), Broken> {
    let State { connection, view, .. } = state;
    let Some(journal) = &mut view.journal else {
        return Ok(());
    };
    journal.lose();
    let mut failed = 0;
    let mut activity = Activity::IDLE;
    for entry in journal.entries() {
        if failed & entry.operation.bit() != 0 {
            continue;
        }
        let request = Request {
            call: entry.call,
            flags: 0,
            target: session.handle,
            object: entry.object,
        };
        Stats::count(&context.stats.round_trips);
        let reply = connection.call(request, |body| {
            body.extend_from_slice(&entry.body);
            Ok(())
        })?;
        let rv = reply.header.object;
        if let Some(row) = call(entry.call) {
            activity = activity.after(row, started(rv));
        }
        if !entry.is_as_before(rv, &reply.body) {
            failed |= entry.operation.bit();
            if rv == CKR_OK {
                activity = end(context, session, connection, entry.operation, activity)?;
            }
        }
    }
    journal.fail(failed);
    if journal.entries().iter().any(|entry| entry.operation == Operation::Find) {
        view.search.restart();
    }
    view.activity = activity;
    view.token_changes = context.token_changes();
    view.current = None;
    view.ahead = Ahead::default();
    lock(&session.messages).clear();
    Ok(())
}

/// Ends an operation that has become another one. Returns what is active then.
fn end(
    context: &Context,
    session: &Session,
    connection: &Connection,
    operation: Operation,
    activity: Activity,
) -> Result<Activity, Failure> {
    let end = match operation {
        Operation::Encrypt => C_ENCRYPTFINAL,
        Operation::Decrypt => C_DECRYPTFINAL,
        // The others give nothing away before their end, so they are what they were.
        _ => return Ok(activity),
    };
    let Some(row) = call(end) else { return Ok(activity) };
    let room = [Value::Room(Room {
        length: Some(ENDING),
        buffer: true,
    })];
    let request = Request {
        call: end,
        target: session.handle,
        ..Request::default()
    };
    Stats::count(&context.stats.round_trips);
    let reply = connection.call(request, |body| encode_request(row, &room, body))?;
    Ok(activity.after(row, started(reply.header.object)))
}

/// Before the last session is closed that lives on a connection: moves another one of its slot there, if the application has one, so
/// that the login goes on.
fn keep_login(context: &Context, session: &Session, connection: &Arc<Connection>) {
    let login = context.logins.of(session.slot);
    if !lock(&login).is_in(connection.number()) {
        return;
    }
    let others = context.sessions.left_behind(session, connection.number());
    let moved = others.iter().any(|other| {
        // One in use looks after itself.
        let Ok(mut state) = other.state.try_lock() else {
            return false;
        };
        state.connection.is_broken() && open(context, other, &mut state, Arc::clone(connection)).is_ok()
    });
    if !moved && !others.is_empty() {
        lock(&login).doubt();
    }
}
