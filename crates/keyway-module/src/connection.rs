//! One connection to the daemon, shared by all threads of the application.

use crate::address::Address;
use crate::config::Config;
use crate::frames::Frames;
use crate::lock::lock;
use crate::seats::{Bells, Reply, Seats, Turn};
use crate::silence::{Next, HEARTBEAT, HEARTBEAT_ID};
use crate::stream::{Stream, Unreachable};
use keyway_wire::generated::rv::{CKR_GENERAL_ERROR, CKR_HOST_MEMORY};
use keyway_wire::limits::MAX_BODY;
use keyway_wire::{flag, Header, WireError, HEADER_LENGTH, VERSION};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// An output buffer that grew beyond this is not kept.
const KEPT: usize = 1 << 20;

/// Why a request has no reply, or a call no RV of the token's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The request can't be encoded, or the reply be handed on. The RV.
    Refused(u64),
    /// The connection was broken before the request went out: the daemon knows nothing of it.
    NotSent,
    /// The connection broke while the call was in flight.
    Lost,
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Refused(if error == WireError::Limit {
            CKR_HOST_MEMORY
        } else {
            CKR_GENERAL_ERROR
        })
    }
}

/// What a request's header says, but for its id and length.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// Call number.
    pub call: u16,
    /// FUSED and POSTED.
    pub flags: u16,
    /// Session handle, slot ID or 0.
    pub target: u64,
    /// The first object argument or 0.
    pub object: u64,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    output: Mutex<Vec<u8>>,
    seats: Mutex<Seats>,
    broken: AtomicBool,
    /// Whether a peer that is silent for too long is taken for gone.
    watched: AtomicBool,
    number: u64,
}

impl Connection {
    /// Connects to one of the addresses of `config`. The version byte goes out with the first request.
    ///
    /// # Errors
    /// The daemon is not there, or not to be trusted.
    pub fn open(address: &Address, config: &Config, noted: &Arc<AtomicI32>) -> Result<Self, Unreachable> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            stream: Stream::connect(address, config, noted)?,
            output: Mutex::new(vec![VERSION]),
            seats: Mutex::new(Seats::new()),
            broken: AtomicBool::new(false),
            watched: AtomicBool::new(false),
        })
    }

    /// Its number, which no other connection of this process has.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Whether it is known that nothing can be sent any more.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Ends the connection; whoever waits for a reply is told that it is lost.
    pub fn shut(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.stream.shut();
    }

    /// Whether a peer that is silent for too long is to be asked whether it is there, and taken for gone if it does not answer.
    pub fn watch(&self, watched: bool) {
        if self.watched.swap(watched, Ordering::Relaxed) != watched {
            self.stream.watch(watched);
        }
    }

    /// What its encryption tells of a connection that was lost before anything was received.
    pub fn reason(&self) -> Option<String> {
        self.stream.reason()
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// There is no reply.
    pub fn call(
        &self,
        request: Request,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<Reply, Failure> {
        let id = lock(&self.seats).take().ok_or(Failure::NotSent)?;
        if let Err(failure) = self.send(request, id, body) {
            lock(&self.seats).give_up(id);
            return Err(failure);
        }
        let reply = self.wait(id).ok_or(Failure::Lost)?;
        let header = reply.header;
        if header.call == request.call && header.flags & flag::REPLY != 0 {
            Ok(reply)
        } else {
            self.shut();
            Err(Failure::Lost)
        }
    }

    /// Sends a request that has no reply.
    ///
    /// # Errors
    /// It could not be sent.
    pub fn post(
        &self,
        request: Request,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), Failure> {
        // An id that no seat ever has, since seats are numbered from 1 in the lower half.
        let request = Request {
            flags: request.flags | flag::POSTED,
            ..request
        };
        self.send(request, 1 << 32, body)
    }

    /// How often the daemon has told that others changed objects, as far as that was read.
    pub fn news(&self) -> u64 {
        lock(&self.seats).news()
    }

    /// The same, if nothing is there that was not read: None is said when in doubt.
    pub fn heard(&self) -> Option<u64> {
        let seats = lock(&self.seats);
        (seats.is_dealt() && !self.stream.has_bytes()).then(|| seats.news())
    }

    fn send(
        &self,
        request: Request,
        id: u64,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), Failure> {
        if self.is_broken() {
            return Err(Failure::NotSent);
        }
        self.send_by(&mut lock(&self.output), request, id, body)
    }

    fn send_by(
        &self,
        output: &mut Vec<u8>,
        request: Request,
        id: u64,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), Failure> {
        // The version byte, if this is the first request.
        let start = output.len();
        let sent = write_frame(output, request, id, body).and_then(|()| {
            self.stream
                .send(output)
                .map_err(|sent| if sent == 0 { Failure::NotSent } else { Failure::Lost })
        });
        // PINs and key values do not stay in a buffer.
        output[start..].fill(0);
        match sent {
            Err(Failure::Refused(_)) => output.truncate(start),
            _ => output.clear(),
        }
        if output.capacity() > KEPT {
            output.shrink_to(0);
        }
        if matches!(sent, Err(Failure::NotSent | Failure::Lost)) {
            self.broken.store(true, Ordering::Relaxed);
            self.stream.shut();
        }
        sent
    }

    /// Nothing has come for as long as the peer may be silent. Returns whether to go on reading; never waits.
    fn bear_silence(&self) -> bool {
        if !self.watched.load(Ordering::Relaxed) {
            return true;
        }
        // Whoever is sending finds out for itself whether the peer takes anything.
        let Ok(mut output) = self.output.try_lock() else {
            return true;
        };
        let next = lock(&self.seats).silence.lasts(self.stream.untaken());
        // A peer with so much to read that there is no room has been asked something.
        if next == Next::Ask && self.stream.has_room() {
            let request = Request {
                call: HEARTBEAT,
                ..Request::default()
            };
            if self.send_by(&mut output, request, HEARTBEAT_ID, |_| Ok(())).is_ok() {
                lock(&self.seats).silence.asked();
            }
        }
        next != Next::GiveUp
    }

    /// Waits for the reply to `id`; None if the connection is lost.
    fn wait(&self, id: u64) -> Option<Reply> {
        let mut seats = lock(&self.seats);
        let mut bells = Bells::new();
        loop {
            let turn = seats.turn(id);
            drop(seats);
            for bell in bells.drain(..) {
                bell.ring();
            }
            match turn {
                Turn::Leave(reply, next) => {
                    if let Some(bell) = next {
                        bell.ring();
                    }
                    return Some(reply);
                }
                Turn::Lost => return None,
                Turn::Sleep(bell) => {
                    bell.wait();
                    seats = lock(&self.seats);
                }
                Turn::Read(frames) => {
                    let reading = Reading {
                        connection: self,
                        done: false,
                    };
                    (seats, bells) = reading.read(frames, id);
                }
            }
        }
    }
}

/// Appends a frame.
fn write_frame(
    output: &mut Vec<u8>,
    request: Request,
    id: u64,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), Failure> {
    let start = output.len();
    output.extend([0; HEADER_LENGTH]);
    body(output)?;
    let length = output.len() - start - HEADER_LENGTH;
    if length > MAX_BODY {
        return Err(Failure::Refused(CKR_HOST_MEMORY));
    }
    let Request {
        call,
        flags,
        target,
        object,
    } = request;
    let header = Header {
        length: length as u32,
        call,
        flags,
        id,
        target,
        object,
    };
    output[start..start + HEADER_LENGTH].copy_from_slice(&header.encode());
    Ok(())
}

/// A thread that reads for all. Should it panic, the others must not wait for it for ever.
struct Reading<'c> {
    connection: &'c Connection,
    done: bool,
}

impl<'c> Reading<'c> {
    /// Reads once and deals out what came. Returns the bells to be rung when the seats are free.
    fn read(mut self, mut frames: Frames, id: u64) -> (MutexGuard<'c, Seats>, Bells) {
        let connection = self.connection;
        let count = loop {
            match connection.stream.receive(frames.room()) {
                Some(count) => break count,
                None if connection.bear_silence() => {}
                None => break 0,
            }
        };
        frames.received(count);
        let mut seats = lock(&connection.seats);
        let bells = if count == 0 {
            seats.lose()
        } else {
            seats.deliver(frames, id)
        };
        if seats.is_lost() {
            connection.shut();
        }
        self.done = true;
        (seats, bells)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.shut();
            let bells = lock(&self.connection.seats).lose();
            bells.iter().for_each(|bell| bell.ring());
        }
    }
}
