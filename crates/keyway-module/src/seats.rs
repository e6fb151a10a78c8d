//! Who waits for which reply. Each call in flight has a seat; its number and the seat's turn make up the request id.
//!
//! Nobody waits for a thread of its own: one of the waiting threads, the reader, reads for all. It hands each reply to the
//! seat that it belongs to and wakes only that thread; when it leaves with its own, it wakes one other thread, which goes on reading.
//! Bells are rung when the lock around the seats is free again, or the thread that wakes would sleep again at once.

use crate::frames::Frames;
use crate::lock::lock;
use crate::silence::{Silence, HEARTBEAT, HEARTBEAT_ID};
use keyway_wire::ahead::OBJECTS_CHANGED;
use keyway_wire::{flag, Header};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A reply.
#[derive(Debug)]
pub struct Reply {
    /// Its header.
    pub header: Header,
    /// Its body.
    pub body: Vec<u8>,
}

/// Wakes the one thread that waits for it.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    rings: Condvar,
}

impl Bell {
    /// Wakes the thread, now or when it comes to wait.
    pub fn ring(&self) {
        *lock(&self.rung) = true;
        self.rings.notify_one();
    }

    /// Sleeps until the bell is rung.
    pub fn wait(&self) {
        let rung = lock(&self.rung);
        let mut rung = self
            .rings
            .wait_while(rung, |rung| !*rung)
            .unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

/// Bells to be rung.
pub type Bells = Vec<Arc<Bell>>;

#[derive(Debug, Default)]
struct Seat {
    /// How often the seat was taken; ids of earlier turns are not valid any more.
    turn: u32,
    state: State,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Free,
    /// A call is in flight; when it was made, and whether its thread sleeps.
    Taken {
        since: u64,
        asleep: bool,
    },
    Answered(Reply),
}

/// All seats, and the bytes that wait for a reader.
#[derive(Debug)]
pub struct Seats {
    seats: Vec<Seat>,
    free: Vec<u32>,
    taken: u64,
    /// Not there while somebody reads.
    frames: Option<Frames>,
    lost: bool,
    news: u64,
    /// Looked after by whoever reads.
    pub silence: Silence,
}

/// What a thread is to do that waits for its reply.
#[derive(Debug)]
pub enum Turn {
    /// Its reply is there; the seat is free again. The bell is that of the thread that is to read next.
    Leave(Reply, Option<Arc<Bell>>),
    /// The connection is lost; the seat is free again.
    Lost,
    /// Read for all, then come back.
    Read(Frames),
    /// Sleep until the bell rings, then come back.
    Sleep(Arc<Bell>),
}

impl Seats {
    /// No call in flight.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seats: Vec::new(),
            free: Vec::new(),
            taken: 0,
            frames: Some(Frames::new()),
            lost: false,
            news: 0,
            silence: Silence::default(),
        }
    }

    /// Takes a seat and returns the request id; None if the connection is lost.
    pub fn take(&mut self) -> Option<u64> {
        if self.lost {
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.seats.push(Seat::default());
            (self.seats.len() - 1) as u32
        });
        self.taken += 1;
        let seat = &mut self.seats[index as usize];
        seat.turn = seat.turn.wrapping_add(1);
        seat.state = State::Taken {
            since: self.taken,
            asleep: false,
        };
        // Never zero, since the number of the seat counts from 1.
        Some(u64::from(seat.turn) << 32 | u64::from(index + 1))
    }

    /// Whether no reply will come any more.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// How often the daemon has told that others changed objects.
    pub fn news(&self) -> u64 {
        self.news
    }

    /// Whether all that was received has been dealt out: nobody is reading, and no frame is there in part.
    pub fn is_dealt(&self) -> bool {
        !self.lost && self.frames.as_ref().is_some_and(Frames::is_empty)
    }

    /// Gives a seat up whose request was not sent.
    pub fn give_up(&mut self, id: u64) {
        if let Some(index) = self.find(id) {
            self.release(index);
        }
    }

    /// What the owner of `id` is to do now.
    pub fn turn(&mut self, id: u64) -> Turn {
        let Some(index) = self.find(id) else {
            return Turn::Lost;
        };
        let seat = &mut self.seats[index];
        match std::mem::take(&mut seat.state) {
            State::Answered(reply) => {
                self.release(index);
                let next = self.frames.is_some().then(|| self.next_reader()).flatten();
                Turn::Leave(reply, next)
            }
            _ if self.lost => {
                self.release(index);
                Turn::Lost
            }
            State::Free => Turn::Lost,
            State::Taken { since, .. } => {
                let frames = self.frames.take();
                seat.state = State::Taken {
                    since,
                    asleep: frames.is_none(),
                };
                frames.map_or_else(|| Turn::Sleep(Arc::clone(&seat.bell)), Turn::Read)
            }
        }
    }

    /// Deals out what the owner of `reader` has read, and lets the next one read. Returns the bells of the other owners.
    pub fn deliver(&mut self, mut frames: Frames, reader: u64) -> Bells {
        let mut bells = Vec::new();
        self.silence.heard();
        loop {
            match frames.next() {
                Ok(Some((header, _))) if is_news(&header) => self.news += 1,
                // Whatever the answer is, it is one.
                Ok(Some((header, _))) if is_pulse(&header) && self.silence.answered() => {}
                Ok(Some((header, body))) => {
                    let Some(index) = self.find(header.id) else {
                        return self.lose();
                    };
                    let seat = &mut self.seats[index];
                    let State::Taken { asleep, .. } = seat.state else {
                        return self.lose();
                    };
                    seat.state = State::Answered(Reply {
                        header,
                        body: body.to_vec(),
                    });
                    if header.id != reader && asleep {
                        bells.push(Arc::clone(&seat.bell));
                    }
                }
                Ok(None) => break,
                Err(_) => return self.lose(),
            }
        }
        self.frames = Some(frames);
        bells
    }

    /// No reply will come any more. Returns the bells of all who wait.
    pub fn lose(&mut self) -> Bells {
        self.lost = true;
        self.seats.iter().map(|seat| Arc::clone(&seat.bell)).collect()
    }

    /// The thread that has waited longest: its reply is the likeliest to come next, and it is spared a second waking.
    fn next_reader(&self) -> Option<Arc<Bell>> {
        let since = |seat: &&Seat| match seat.state {
            State::Taken { since, asleep: true } => Some(since),
            _ => None,
        };
        let longest = self
            .seats
            .iter()
            .filter(|seat| since(seat).is_some())
            .min_by_key(since)?;
        Some(Arc::clone(&longest.bell))
    }

    fn find(&self, id: u64) -> Option<usize> {
        let index = (id as u32 as usize).checked_sub(1)?;
        let seat = self.seats.get(index)?;
        (u64::from(seat.turn) == id >> 32).then_some(index)
    }

    fn release(&mut self, index: usize) {
        self.seats[index].state = State::Free;
        self.free.push(index as u32);
    }
}

/// Whether a frame answers nothing, but tells that others changed objects.
const fn is_news(header: &Header) -> bool {
    header.call == OBJECTS_CHANGED && header.id == 0 && header.flags == flag::REPLY | flag::POSTED
}

/// Whether a frame answers a heartbeat.
const fn is_pulse(header: &Header) -> bool {
    header.call == HEARTBEAT && header.id == HEARTBEAT_ID && header.flags & flag::REPLY != 0
}
