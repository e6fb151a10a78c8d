//! The sessions of a context.

use crate::connection::Connection;
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
    /// The connection that it lives on and is lost with.
    pub connection: Arc<Connection>,
    /// What is known of it. The lock is held from before a call is sent until its reply has been looked at: calls of one
    /// session are executed one after the other anyway.
    pub view: Mutex<View>,
    /// Whether an init call may be deferred; to be read without the lock.
    pub deferred: AtomicBool,
    /// Whether it is being closed, or lost.
    closing: AtomicBool,
    /// Apart from the view, so that a call can be read while another is in flight.
    pub messages: Mutex<Messages>,
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

    /// The session was opened.
    pub fn add(&self, handle: u64, slot: u64, connection: Arc<Connection>) {
        let session = Session {
            handle,
            slot,
            connection,
            view: Mutex::new(View::new()),
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

    /// The session is about to be closed; returns whether no other of its slot will be left.
    pub fn begin_close(&self, session: &Session) -> bool {
        let open = lock(&self.open);
        // Under the lock, so that of those which are closed at the same time the last to begin sees that it is the last.
        session.closing.store(true, Ordering::SeqCst);
        !open.values().any(|other| {
            other.slot == session.slot && !other.closing.load(Ordering::SeqCst) && !other.connection.is_broken()
        })
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
