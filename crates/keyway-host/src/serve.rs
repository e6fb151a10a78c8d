//! The threads: whoever reads a request executes it himself, and lets another read meanwhile where that is of use.
//!
//! A client that has one session gets no wake-up of a second thread; with several sessions, calls that are worth it run side by
//! side, while those of one session keep their order.

use crate::execute::Context;
use crate::frames::Frames;
use crate::pace::Pace;
use crate::sessions::Request;
use keyway_abi::host::{end_unchanged, Change, Segment};
use keyway_wire::ahead::READ_AHEAD;
use keyway_wire::generated::call;
use keyway_wire::shared::{returned, Lent};
use keyway_wire::table::{Effect, Kind, Target};
use keyway_wire::{flag, Header, HEADER_LENGTH};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;
use zeroize::Zeroize;

/// Vendor modules expect the stack of a main thread, in bytes.
const STACK: usize = 8 << 20;
/// Buffers that have grown beyond this are given back, in bytes. What is a little above is cut and grows again where it is, without a page fault.
const KEPT: usize = 1 << 20;

/// Bodies of replies from this length on are put into shared memory, in bytes.
const LARGE: usize = 65_536;

/// One connection and the threads that serve it.
pub struct Server {
    context: Context,
    frames: Mutex<Frames<UnixStream>>,
    replies: Mutex<UnixStream>,
    /// Memory that is shared with the daemon, for large bodies.
    segment: Option<Segment>,
    /// Waited for by a reader who must not read on before there is room.
    room: Condvar,
    most_threads: usize,
    threads: AtomicUsize,
    /// Threads that wait for their turn to read.
    idle: AtomicUsize,
    /// Requests in execution.
    executing: AtomicUsize,
    pace: Pace,
}

impl Server {
    /// A server of this connection with at most so many threads.
    ///
    /// # Errors
    /// The socket can't be duplicated.
    pub fn new(
        context: Context,
        stream: UnixStream,
        segment: Option<Segment>,
        most_threads: usize,
    ) -> std::io::Result<Arc<Self>> {
        let replies = Mutex::new(stream.try_clone()?);
        Ok(Arc::new(Self {
            context,
            frames: Mutex::new(Frames::new(stream)),
            replies,
            segment,
            room: Condvar::new(),
            most_threads,
            threads: AtomicUsize::new(1),
            idle: AtomicUsize::new(0),
            executing: AtomicUsize::new(0),
            pace: Pace::new(),
        }))
    }

    /// Serves until the peer is gone, then ends the process.
    pub fn run(self: &Arc<Self>) -> ! {
        let mut body = Vec::new();
        let mut reply = Vec::new();
        loop {
            self.idle.fetch_add(1, Ordering::SeqCst);
            let mut frames = lock(&self.frames);
            self.idle.fetch_sub(1, Ordering::SeqCst);
            let mut header = self.read(&mut frames, &mut body);
            while !self.is_shared(&header, frames.has_more()) {
                self.execute(header, &mut body, &mut reply);
                header = self.read(&mut frames, &mut body);
            }
            drop(frames);
            self.wake_reader();
            self.execute(header, &mut body, &mut reply);
        }
    }

    /// The next request that can be executed at once; those of a busy session wait for the thread that is busy with it.
    fn read(&self, frames: &mut Frames<UnixStream>, body: &mut Vec<u8>) -> Header {
        loop {
            let Ok(Some(header)) = frames.next(body) else {
                self.end()
            };
            self.executing.fetch_add(1, Ordering::SeqCst);
            if target(&header) != Target::Session {
                return header;
            }
            let mut sessions = self.context.sessions();
            if sessions.admit(&header, body) {
                return header;
            }
            while sessions.is_full() {
                sessions = self.room.wait(sessions).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Whether another thread should read while this request is executed.
    fn is_shared(&self, header: &Header, more: bool) -> bool {
        // What is sent behind it may depend on the session's end (docs/wire.md, section 6).
        if header.call == call::C_CLOSESESSION && header.flags & flag::POSTED != 0 {
            return false;
        }
        if self.most_threads == 1 || !self.context.is_concurrent() {
            return false;
        }
        may_take_long(header) || self.context.sessions().open_count() > 1 && (more || self.pace.is_slow(header.call))
    }

    /// Sees to it that somebody reads, if there may be one more thread. An idle one is woken by the free lock alone.
    fn wake_reader(self: &Arc<Self>) {
        if self.idle.load(Ordering::SeqCst) > 0 || self.threads.load(Ordering::SeqCst) >= self.most_threads {
            return;
        }
        self.threads.fetch_add(1, Ordering::SeqCst);
        let server = Arc::clone(self);
        let started = thread::Builder::new().stack_size(STACK).spawn(move || server.run());
        if started.is_err() {
            self.threads.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Executes a request, and then those that came for its session meanwhile.
    fn execute(&self, header: Header, body: &mut Vec<u8>, reply: &mut Vec<u8>) {
        self.answer(&header, body, reply);
        if target(&header) != Target::Session {
            return;
        }
        loop {
            let next = self.context.sessions().next(header.target);
            let Some(Request { header, mut body }) = next else {
                return;
            };
            self.room.notify_all();
            self.answer(&header, &mut body, reply);
        }
    }

    fn answer(&self, header: &Header, body: &mut Vec<u8>, reply: &mut Vec<u8>) {
        let start = Instant::now();
        let change = may_change(header).then(Change::begin);
        self.call(header, body, reply);
        drop(change);
        self.pace.took(header.call, start.elapsed());
        if header.flags & flag::POSTED == 0 && lock(&self.replies).write_all(reply).is_err() {
            self.end();
        }
        if carries_secrets(header) {
            body.as_mut_slice().zeroize();
            reply.as_mut_slice().zeroize();
        }
        for buffer in [body, reply] {
            buffer.clear();
            buffer.shrink_to(KEPT);
        }
        self.executing.fetch_sub(1, Ordering::SeqCst);
    }

    /// Makes a call whose body came with the frame, or lies in shared memory. Then the reply's goes there, too, if it is worth it.
    fn call(&self, header: &Header, body: &[u8], reply: &mut Vec<u8>) {
        if header.flags & flag::SHARED == 0 {
            self.context.answer(header, body, reply);
            return;
        }
        let segment = self.segment.as_ref();
        let Some(mut part) = Lent::decode(body).and_then(|lent| segment?.part(lent)) else {
            self.end()
        };
        let whole = Header {
            flags: header.flags & !flag::SHARED,
            ..*header
        };
        self.context.answer(&whole, part.body(), reply);
        let Some((head, result)) = reply.split_first_chunk::<HEADER_LENGTH>() else {
            return;
        };
        let mut head = Header::decode(head);
        if result.len() >= LARGE && part.replace(result) {
            let told = returned(head.length);
            head.flags |= flag::SHARED;
            head.length = told.len() as u32;
            if carries_secrets(header) {
                // Once the buffer is shorter nobody sees what is behind its end.
                reply.as_mut_slice().zeroize();
            }
            reply.clear();
            reply.extend_from_slice(&head.encode());
            reply.extend_from_slice(&told);
        }
    }

    /// Ends the process. The module is finalised first, but not while it is busy, since that may wait for ever.
    fn end(&self) -> ! {
        if self.executing.load(Ordering::SeqCst) == 0 {
            self.context.close();
        }
        end_unchanged()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn target(header: &Header) -> Target {
    if header.call == READ_AHEAD {
        return Target::Session;
    }
    keyway_wire::call(header.call).map_or(Target::None, |row| row.target)
}

/// Whether a call may take so long that even a client with one session may have other calls to make meanwhile: key
/// generation, anything that waits for a person or for an event.
fn may_take_long(header: &Header) -> bool {
    keyway_wire::call(header.call).is_some_and(|row| {
        row.number == call::C_WAITFORSLOTEVENT || matches!(row.effect, Effect::Login | Effect::Objects | Effect::Token)
    })
}

/// Whether a call may write the token. A login does: what is known of wrong PINs is kept there.
fn may_change(header: &Header) -> bool {
    keyway_wire::call(header.call)
        .is_some_and(|row| matches!(row.effect, Effect::Login | Effect::Objects | Effect::Token))
}

/// Whether the frames of a call hold a PIN or the value of a key.
fn carries_secrets(header: &Header) -> bool {
    header.call == READ_AHEAD
        || keyway_wire::call(header.call).is_some_and(|row| {
            row.args
                .iter()
                .any(|kind| matches!(kind, Kind::Pin | Kind::Template | Kind::TemplateOut))
        })
}
