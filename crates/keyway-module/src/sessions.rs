//! The sessions of a context.

use crate::connection::Connection;
use crate::journal::Journal;
use crate::learn::View;
use crate::lock::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The mechanisms of the active message operations, by the number of their init call.
type Messages = HashMap<u16, u64>;

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Its handle.
    pub handle: u64,
    /// The slot that it was opened on.
    pub slot: u64,
    /// The connection that it is lost with; None if it can be made anew on another one.
    tied: Option<Arc<Connection>>,
    /// The number of the connection that it lives on; to be read without the lock.
    on: AtomicU64,
    /// What is known of it. The lock is held from before a call is sent until its reply has been looked at: calls of one
    /// session are executed one after the other anyway.
    pub state: Mutex<State>,
    /// Whether an init call may be deferred; to be read without the lock.
    pub deferred: AtomicBool,
    /// Whether it is being closed, or lost.
    closing: AtomicBool,
    /// Apart from the state, so that a call can be read while another is in flight.
    pub messages: Mutex<Messages>,
}

/// What only one call at a time looks at.
#[derive(Debug)]
pub struct State {
    /// The connection that it lives on.
    pub connection: Arc<Connection>,
    /// What the module knows of it.
    pub view: View,
    /// How it is made anew; None if it is lost with its connection.
    pub renewal: Option<Renewal>,
}

/// How a session is made anew.
#[derive(Debug)]
pub struct Renewal {
    /// What C_OpenSession was called with.
    pub flags: u64,
    /// Whether the connection is new to it: login and operations are to be looked after.
    pub unfinished: bool,
}

impl Session {
    /// Whether it has gone with its connection.
    pub fn is_gone(&self) -> bool {
        self.tied.as_ref().is_some_and(|connection| connection.is_broken())
    }

    /// Whether it can be made anew.
    pub const fn is_renewable(&self) -> bool {
        self.tied.is_none()
    }

    /// Whether it is being closed, or lost.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// It lives on this connection from now on; its state is `state`.
    pub fn move_to(&self, state: &mut State, connection: Arc<Connection>) {
        self.on.store(connection.number(), Ordering::SeqCst);
        state.connection = connection;
    }
}

/// All sessions, by handle.
#[derive(Debug, Default)]
pub struct Sessions {
    last: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Session>>>,
}

impl Sessions {
    /// A handle that no session of this context had before.
    pub fn next_handle(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The session was opened. With `flags` of C_OpenSession and a journal it can be made anew.
    pub fn add(&self, handle: u64, slot: u64, connection: Arc<Connection>, renewable: Option<(u64, Journal)>) {
        let mut view = View::new();
        let (tied, renewal) = match renewable {
            None => (Some(Arc::clone(&connection)), None),
            Some((flags, journal)) => {
                view.journal = Some(journal);
                let unfinished = true;
                (None, Some(Renewal { flags, unfinished }))
            }
        };
        let session = Session {
            handle,
            slot,
            tied,
            on: AtomicU64::new(connection.number()),
            state: Mutex::new(State {
                connection,
                view,
                renewal,
            }),
            deferred: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            messages: Mutex::default(),
        };
        lock(&self.open).insert(handle, Arc::new(session));
    }

    /// The open session with this handle.
    pub fn get(&self, handle: u64) -> Option<Arc<Session>> {
        lock(&self.open).get(&handle).cloned()
    }

    /// The session was closed.
    pub fn remove(&self, handle: u64) {
        lock(&self.open).remove(&handle);
    }

    /// All sessions of a slot were closed.
    pub fn remove_slot(&self, slot: u64) {
        lock(&self.open).retain(|_, session| session.slot != slot);
    }

    /// Whether a slot has sessions.
    pub fn has_any(&self, slot: u64) -> bool {
        lock(&self.open).values().any(|session| session.slot == slot)
    }

    /// The sessions of a slot that do not live on the connection with this number; none if another than `session` does.
    pub fn left_behind(&self, session: &Session, connection: u64) -> Vec<Arc<Session>> {
        let open = lock(&self.open);
        let others = open
            .values()
            .filter(|other| other.slot == session.slot && other.handle != session.handle && !other.is_closing());
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            others.partition(|other| other.on.load(Ordering::SeqCst) == connection);
        if here.is_empty() {
            elsewhere.into_iter().cloned().collect()
        } else {
            Vec::new()
        }
    }

    /// The session is about to be closed; returns whether no other of its slot will be left.
    pub fn begin_close(&self, session: &Session) -> bool {
        let open = lock(&self.open);
        // Under the lock, so that of those which are closed at the same time the last to begin sees that it is the last.
        session.closing.store(true, Ordering::SeqCst);
        !open
            .values()
            .any(|other| other.slot == session.slot && !other.is_closing() && !other.is_gone())
    }

    /// All sessions of a slot are about to be closed; returns those that were not before.
    pub fn begin_close_slot(&self, slot: u64) -> Vec<Arc<Session>> {
        let open = lock(&self.open);
        open.values()
            .filter(|session| session.slot == slot && !session.closing.swap(true, Ordering::SeqCst))
            .cloned()
            .collect()
    }

    /// The token has no such session any more; the application has not closed it.
    pub fn lose(&self, session: &Session) {
        session.closing.store(true, Ordering::SeqCst);
    }

    /// It is still open after all.
    pub fn not_closed(&self, session: &Session) {
        session.closing.store(false, Ordering::SeqCst);
    }

    /// The sessions that may have a deferred init call.
    pub fn deferred(&self) -> Vec<Arc<Session>> {
        let open = lock(&self.open);
        open.values()
            .filter(|session| session.deferred.load(Ordering::SeqCst))
            .cloned()
            .collect()
    }
}
