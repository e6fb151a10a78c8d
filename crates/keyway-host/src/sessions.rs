//! The sessions of the context: the client's handles, the module's, and whose turn it is.

use keyway_abi::host::Message;
use keyway_wire::limits::MAX_BODY;
use keyway_wire::Header;
use std::collections::{HashMap, VecDeque};

/// Requests that wait for their session hold no more than this many bytes before the reader stops.
const MAX_WAITING: usize = MAX_BODY;
/// What a waiting request counts beside its body: many small ones cost the daemon, which remembers each, more than this process.
const OVERHEAD: usize = 4_096;

/// A request: its header and body.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The header.
    pub header: Header,
    /// The body.
    pub body: Vec<u8>,
}

#[derive(Debug)]
struct Session {
    module: u64,
    slot: u64,
    messages: [Message; 4],
    /// A thread executes a request of this session and will come for the waiting ones.
    busy: bool,
    /// The module has closed it; it is kept only for the thread that is busy with it.
    closed: bool,
    waiting: VecDeque<Request>,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    all: HashMap<u64, Session>,
    open: usize,
    waiting: usize,
}

impl Sessions {
    /// How many sessions are open.
    pub fn open_count(&self) -> usize {
        self.open
    }

    /// Whether so much waits that no more should be read.
    pub fn is_full(&self) -> bool {
        self.waiting > MAX_WAITING
    }

    /// Whether a request for this session may be executed now. If not, it waits and its body is taken.
    pub fn admit(&mut self, header: &Header, body: &mut Vec<u8>) -> bool {
        let Some(session) = self.all.get_mut(&header.target) else {
            return true;
        };
        if !session.busy {
            session.busy = true;
            return true;
        }
        self.waiting += body.len() + OVERHEAD;
        session.waiting.push_back(Request {
            header: *header,
            body: std::mem::take(body),
        });
        false
    }

    /// The next request of a session after one was executed; without one the session is free again.
    pub fn next(&mut self, handle: u64) -> Option<Request> {
        let session = self.all.get_mut(&handle)?;
        let next = session.waiting.pop_front();
        match &next {
            Some(request) => self.waiting -= request.body.len() + OVERHEAD,
            None if session.closed => drop(self.all.remove(&handle)),
            None => session.busy = false,
        }
        next
    }

    /// The module's handle; 0, which names no session, if the client's names none.
    pub fn module_handle(&self, handle: u64) -> u64 {
        self.all
            .get(&handle)
            .filter(|session| !session.closed)
            .map_or(0, |session| session.module)
    }

    /// Whether the client may give this handle to a new session.
    pub fn is_free(&self, handle: u64) -> bool {
        handle != 0 && !self.all.contains_key(&handle)
    }

    /// A session was opened.
    pub fn opened(&mut self, handle: u64, slot: u64, module: u64) {
        let messages = [Message::Inactive; 4];
        let session = Session {
            module,
            slot,
            messages,
            busy: false,
            closed: false,
            waiting: VecDeque::new(),
        };
        self.all.insert(handle, session);
        self.open += 1;
    }

    /// A session was closed.
    pub fn closed(&mut self, handle: u64) {
        self.close_where(|name, _| *name == handle);
    }

    /// All sessions of a slot were closed.
    pub fn closed_slot(&mut self, slot: u64) {
        self.close_where(|_, session| session.slot == slot);
    }

    /// All sessions were closed.
    pub fn closed_all(&mut self) {
        self.close_where(|_, _| true);
    }

    fn close_where(&mut self, which: impl Fn(&u64, &Session) -> bool) {
        let open = &mut self.open;
        self.all.retain(|handle, session| {
            if session.closed || !which(handle, session) {
                return true;
            }
            *open -= 1;
            session.closed = true;
            session.busy
        });
    }

    /// What is known of a session's message operation of this kind.
    pub fn message(&self, handle: u64, kind: usize) -> Message {
        self.all
            .get(&handle)
            .map_or(Message::Inactive, |session| session.messages[kind])
    }

    /// A message operation started or ended.
    pub fn set_message(&mut self, handle: u64, kind: usize, message: Message) {
        if let Some(session) = self.all.get_mut(&handle) {
            session.messages[kind] = message;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(target: u64, id: u64) -> Header {
        Header {
            target,
            id,
            ..Header::default()
        }
    }

    fn admit(sessions: &mut Sessions, target: u64, id: u64) -> bool {
        sessions.admit(&header(target, id), &mut vec![0; 10])
    }

    fn next(sessions: &mut Sessions, handle: u64) -> Option<u64> {
        sessions.next(handle).map(|request| request.header.id)
    }

    #[test]
    fn requests_of_a_session_keep_their_order() {
        let mut sessions = Sessions::default();
        sessions.opened(1, 0, 100);
        sessions.opened(2, 0, 200);
        assert!(admit(&mut sessions, 1, 10));
        assert!(!admit(&mut sessions, 1, 11));
        assert!(admit(&mut sessions, 2, 20), "another session does not wait");
        assert!(!admit(&mut sessions, 1, 12));
        assert_eq!(next(&mut sessions, 1), Some(11));
        assert!(!admit(&mut sessions, 1, 13));
        assert_eq!(next(&mut sessions, 1), Some(12));
        assert_eq!(next(&mut sessions, 1), Some(13));
        assert_eq!(next(&mut sessions, 1), None);
        assert!(admit(&mut sessions, 1, 14));
        assert_eq!(sessions.waiting, 0);
    }

    #[test]
    fn unknown_handles_go_to_the_module_as_zero_and_never_wait() {
        let mut sessions = Sessions::default();
        assert!(admit(&mut sessions, 9, 1));
        assert!(admit(&mut sessions, 9, 2));
        assert_eq!(sessions.module_handle(9), 0);
        assert_eq!(next(&mut sessions, 9), None);
    }

    #[test]
    fn closing_keeps_what_waits_for_the_thread_that_is_busy() {
        let mut sessions = Sessions::default();
        sessions.opened(1, 5, 100);
        sessions.opened(2, 5, 200);
        sessions.opened(3, 6, 300);
        assert!(admit(&mut sessions, 1, 10));
        assert!(!admit(&mut sessions, 1, 11));
        sessions.closed_slot(5);
        assert_eq!(sessions.open_count(), 1);
        assert_eq!(
            (
                sessions.module_handle(1),
                sessions.module_handle(2),
                sessions.module_handle(3)
            ),
            (0, 0, 300)
        );
        assert!(!sessions.is_free(1), "until its last request is answered");
        assert_eq!(next(&mut sessions, 1), Some(11));
        assert_eq!(next(&mut sessions, 1), None);
        assert!(sessions.is_free(1) && sessions.is_free(2) && !sessions.is_free(3) && !sessions.is_free(0));
        sessions.closed(3);
        sessions.closed(3);
        assert_eq!(sessions.open_count(), 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sessions = Sessions::default();
        sessions.opened(1, 0, 100);
        assert!(admit(&mut sessions, 1, 1));
        assert!(!sessions.admit(&header(1, 2), &mut vec![0; MAX_WAITING]));
        assert!(sessions.is_full());
        assert_eq!(next(&mut sessions, 1), Some(2));
        assert!(!sessions.is_full());
        for id in 0..20_000 {
            assert!(!admit(&mut sessions, 1, id));
        }
        assert!(sessions.is_full(), "so many small ones are too many");
    }
}
