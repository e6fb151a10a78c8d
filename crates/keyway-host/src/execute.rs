//! One request: decoded, executed by the module, answered.

use crate::ahead::read_ahead;
use crate::sessions::Sessions;
use keyway_abi::host::{Arguments, Library, Message};
use keyway_wire::ahead::READ_AHEAD;
use keyway_wire::generated::{call, initialize_flag, rv, session_flag};
use keyway_wire::limits::MAX_BODY;
use keyway_wire::table::{Call, Target};
use keyway_wire::value::{Bytes, Value};
use keyway_wire::{decode_request, decode_request_prefix, encode_reply, flag, Header, HEADER_LENGTH};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The context that this host serves: a module and the sessions that it has open.
pub struct Context {
    library: Library,
    sessions: Mutex<Sessions>,
    initialised: AtomicBool,
    locking: AtomicBool,
}

/// What a call came to: the RV, and whether its reply's body was written.
struct Outcome {
    rv: u64,
    init_failed: bool,
}

impl Outcome {
    const fn of(rv: u64) -> Self {
        Self { rv, init_failed: false }
    }
}

impl Context {
    /// A context without sessions, not initialised.
    pub fn new(library: Library) -> Self {
        Self {
            library,
            sessions: Mutex::default(),
            initialised: AtomicBool::new(false),
            locking: AtomicBool::new(false),
        }
    }

    /// The sessions, for as long as the guard lives.
    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the module may be called from several threads at once: it was told so when it was initialised.
    pub fn is_concurrent(&self) -> bool {
        self.locking.load(Ordering::Relaxed)
    }

    /// Finalises the module if the client did not.
    pub fn close(&self) {
        if self.initialised.swap(false, Ordering::Relaxed) {
            let _ = self.library.finalize();
        }
    }

    /// Executes a request and makes `reply` the whole frame of its reply.
    pub fn answer(&self, header: &Header, body: &[u8], reply: &mut Vec<u8>) {
        reply.clear();
        reply.resize(HEADER_LENGTH, 0);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.execute(header, body, reply)));
        let mut outcome = outcome.unwrap_or_else(|_| {
            reply.truncate(HEADER_LENGTH);
            Outcome::of(rv::CKR_GENERAL_ERROR)
        });
        if reply.len() - HEADER_LENGTH > MAX_BODY {
            reply.truncate(HEADER_LENGTH);
            outcome.rv = rv::CKR_HOST_MEMORY;
        }
        let flags = if outcome.init_failed { flag::INIT } else { 0 };
        let mut answer = header.reply(outcome.rv, flags);
        answer.length = u32::try_from(reply.len() - HEADER_LENGTH).unwrap_or(0);
        reply[..HEADER_LENGTH].copy_from_slice(&answer.encode());
    }

    fn execute(&self, header: &Header, body: &[u8], reply: &mut Vec<u8>) -> Outcome {
        if header.call == READ_AHEAD && header.flags == 0 {
            return Outcome::of(read_ahead(self, header.target, body, reply));
        }
        let Some(row) = keyway_wire::call(header.call).filter(|row| is_sent(row.number)) else {
            return Outcome::of(rv::CKR_FUNCTION_NOT_SUPPORTED);
        };
        if header.flags & !flag::OF_REQUESTS != 0 {
            return Outcome::of(rv::CKR_ARGUMENTS_BAD);
        }
        if header.flags & flag::FUSED != 0 {
            return self.execute_fused(row, header, body, reply);
        }
        match decode_request(row, header.object, body) {
            Ok(values) => Outcome::of(self.invoke(row, header.target, &values, reply)),
            Err(_) => Outcome::of(rv::CKR_ARGUMENTS_BAD),
        }
    }

    fn execute_fused(&self, row: &'static Call, header: &Header, body: &[u8], reply: &mut Vec<u8>) -> Outcome {
        let Some(init) = keyway_wire::call(row.init) else {
            return Outcome::of(rv::CKR_ARGUMENTS_BAD);
        };
        let decoded = decode_request_prefix(init, header.object, body)
            .and_then(|(first, rest)| decode_request(row, 0, rest).map(|second| (first, second)));
        let Ok((first, second)) = decoded else {
            return Outcome::of(rv::CKR_ARGUMENTS_BAD);
        };
        let rv = self.invoke(init, header.target, &first, reply);
        if rv != rv::CKR_OK {
            return Outcome { rv, init_failed: true };
        }
        reply.truncate(HEADER_LENGTH);
        Outcome::of(self.invoke(row, header.target, &second, reply))
    }

    /// Makes one call and appends the body of its reply. Returns the RV.
    pub fn invoke(&self, row: &'static Call, target: u64, values: &[Value<'_>], reply: &mut Vec<u8>) -> u64 {
        match row.number {
            call::C_INITIALIZE => return self.initialize(row, values, reply),
            call::C_FINALIZE => return self.finalize(),
            call::C_OPENSESSION => return self.open_session(row, target, values),
            call::C_ASYNCCOMPLETE | call::C_ASYNCGETID | call::C_ASYNCJOIN => return self.asynchronous(),
            _ => {}
        }
        let kind = message_kind(row.number);
        let (handle, message) = match row.target {
            Target::Session => {
                let sessions = self.sessions();
                let message = kind.map_or(Message::Inactive, |kind| sessions.message(target, kind));
                (sessions.module_handle(target), message)
            }
            Target::Slot | Target::None => (target, Message::Inactive),
        };
        let arguments = match Arguments::build(row, values, message) {
            Ok(arguments) => arguments,
            Err(rv) => return rv,
        };
        let rv = self.library.call(row, handle, &arguments);
        if rv == rv::CKR_OK {
            self.follow(row, target, values);
        }
        respond(row, rv, &arguments.reply(rv), reply)
    }

    /// Notes what a successful call changed.
    fn follow(&self, row: &Call, target: u64, values: &[Value<'_>]) {
        match row.number {
            call::C_CLOSESESSION => self.sessions().closed(target),
            call::C_CLOSEALLSESSIONS => self.sessions().closed_slot(target),
            number => {
                let Some(kind) = message_kind(number) else { return };
                match number {
                    call::C_MESSAGEENCRYPTINIT
                    | call::C_MESSAGEDECRYPTINIT
                    | call::C_MESSAGESIGNINIT
                    | call::C_MESSAGEVERIFYINIT => {
                        let message = match values.first() {
                            Some(Value::Mechanism(Some(mechanism))) => Message::Active(mechanism.mechanism),
                            _ => Message::Inactive,
                        };
                        self.sessions().set_message(target, kind, message);
                    }
                    call::C_MESSAGEENCRYPTFINAL
                    | call::C_MESSAGEDECRYPTFINAL
                    | call::C_MESSAGESIGNFINAL
                    | call::C_MESSAGEVERIFYFINAL => self.sessions().set_message(target, kind, Message::Inactive),
                    _ => {}
                }
            }
        }
    }

    fn initialize(&self, row: &Call, values: &[Value<'_>], reply: &mut Vec<u8>) -> u64 {
        let (Some(Value::Ulong(flags)), Some(Value::Bytes(reserved))) = (values.first(), values.get(1)) else {
            return rv::CKR_ARGUMENTS_BAD;
        };
        let reserved = match reserved {
            Bytes::Null(_) => None,
            Bytes::Data(text) => Some(*text),
        };
        let rv = self.library.initialize(*flags, reserved);
        if rv == rv::CKR_OK {
            self.initialised.store(true, Ordering::Relaxed);
            self.locking
                .store(flags & initialize_flag::CKF_OS_LOCKING_OK != 0, Ordering::Relaxed);
        }
        respond(row, rv, &[Value::Bytes(Bytes::Data(&[]))], reply)
    }

    fn finalize(&self) -> u64 {
        let rv = self.library.finalize();
        if rv == rv::CKR_OK {
            self.initialised.store(false, Ordering::Relaxed);
            self.sessions().closed_all();
        }
        rv
    }

    fn open_session(&self, row: &Call, slot: u64, values: &[Value<'_>]) -> u64 {
        let (Some(Value::Ulong(flags)), Some(Value::Cell(handle))) = (values.first(), values.get(1)) else {
            return rv::CKR_ARGUMENTS_BAD;
        };
        if handle.is_some_and(|handle| !self.sessions().is_free(handle)) {
            return rv::CKR_ARGUMENTS_BAD;
        }
        // Before 3.2 the flag has no meaning that the gateway would have to keep from the module.
        if flags & session_flag::CKF_ASYNC_SESSION != 0 && self.library.version() >= (3, 2) {
            return rv::CKR_SESSION_ASYNC_NOT_SUPPORTED;
        }
        let arguments = match Arguments::build(row, values, Message::Inactive) {
            Ok(arguments) => arguments,
            Err(rv) => return rv,
        };
        let rv = self.library.call(row, slot, &arguments);
        if let (rv::CKR_OK, Some(handle), Some(module)) = (rv, handle, arguments.session()) {
            self.sessions().opened(*handle, slot, module);
        }
        rv
    }

    /// The output buffers of an asynchronous call would be another process's.
    fn asynchronous(&self) -> u64 {
        if self.library.version() >= (3, 2) {
            rv::CKR_SESSION_ASYNC_NOT_SUPPORTED
        } else {
            rv::CKR_FUNCTION_NOT_SUPPORTED
        }
    }
}

/// Appends the body of a reply and returns the RV that goes with it.
fn respond(row: &Call, rv: u64, values: &[Value<'_>], reply: &mut Vec<u8>) -> u64 {
    let start = reply.len();
    match encode_reply(row, values, reply) {
        Ok(()) => rv,
        Err(_) => {
            reply.truncate(start);
            rv::CKR_HOST_MEMORY
        }
    }
}

/// Whether a call travels at all.
fn is_sent(number: u16) -> bool {
    !matches!(
        number,
        call::C_GETFUNCTIONLIST | call::C_GETINTERFACELIST | call::C_GETINTERFACE
    )
}

/// Which of the four message operations a call belongs to.
fn message_kind(number: u16) -> Option<usize> {
    match number {
        call::C_MESSAGEENCRYPTINIT..=call::C_MESSAGEENCRYPTFINAL => Some(0),
        call::C_MESSAGEDECRYPTINIT..=call::C_MESSAGEDECRYPTFINAL => Some(1),
        call::C_MESSAGESIGNINIT..=call::C_MESSAGESIGNFINAL => Some(2),
        call::C_MESSAGEVERIFYINIT..=call::C_MESSAGEVERIFYFINAL => Some(3),
        _ => None,
    }
}
