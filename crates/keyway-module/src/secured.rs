//! A TLS connection that one thread reads while others write.
//!
//! The state of TLS is one for both directions, so it has a lock; it is held while bytes are encrypted or decrypted, never
//! while the system is asked to send or to receive. So a thread that waits for the peer to take a large request does not
//! keep another one from reading what the peer has to send first.
//!
//! Whoever reads never writes, but for an alert before the end: an answer to a key update goes out with the next request.

use crate::lock::lock;
use crate::socket::Socket;
use rustls::{AlertDescription, CertificateError, ClientConnection, Error};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Mutex;
use std::time::Instant;

/// So much is encrypted at once. The reader waits that long at most.
const PIECE: usize = 65_536;
/// So much is received at once: two records of the largest size.
const INCOMING: usize = 33_280;

/// A TLS connection.
#[derive(Debug)]
pub struct Secured {
    socket: Socket,
    tls: Mutex<ClientConnection>,
    /// Encrypted bytes on their way out. The lock keeps them in order.
    outgoing: Mutex<Vec<u8>>,
    /// Encrypted bytes that came. Locked by whoever reads, also while it waits.
    incoming: Mutex<Incoming>,
    /// Why TLS has failed.
    failure: Mutex<Option<Error>>,
}

#[derive(Debug)]
struct Incoming {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Incoming {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn put(&mut self, count: usize) {
        self.start = 0;
        self.end = count;
    }
}

/// What can be read without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Nothing,
    Bytes,
    /// The end of the stream.
    Over,
}

impl Secured {
    /// Does the handshake.
    ///
    /// # Errors
    /// Why it failed; None if the peer went away or was not done before `deadline`.
    pub fn handshake(mut tls: ClientConnection, socket: Socket, deadline: Instant) -> Result<Self, Option<String>> {
        tls.set_buffer_limit(None);
        let mut limited = Limited {
            socket: &socket,
            deadline,
        };
        while tls.is_handshaking() {
            tls.complete_io(&mut limited).map_err(|error| reason_in(&error))?;
        }
        socket.limit(None).map_err(|_| None)?;
        Ok(Self {
            socket,
            tls: Mutex::new(tls),
            outgoing: Mutex::default(),
            incoming: Mutex::new(Incoming {
                buffer: vec![0; INCOMING].into_boxed_slice(),
                start: 0,
                end: 0,
            }),
            failure: Mutex::new(None),
        })
    }

    /// Sends everything. On an error, says how many bytes went out before, encrypted.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&self, bytes: &[u8]) -> Result<(), usize> {
        let mut outgoing = lock(&self.outgoing);
        // The peer may have said that it goes, and nobody was there to hear it.
        if self.look() == Some(Look::Over) {
            return Err(0);
        }
        let mut sent = 0;
        for piece in bytes.chunks(PIECE) {
            outgoing.clear();
            {
                let mut tls = lock(&self.tls);
                tls.writer().write_all(piece).map_err(|_| sent)?;
                drain(&mut tls, &mut outgoing);
            }
            self.socket.send(&outgoing).map_err(|more| sent + more)?;
            sent += outgoing.len();
        }
        outgoing.shrink_to(PIECE);
        Ok(())
    }

    /// What the bytes travel on.
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Receives what is there, at least one byte; 0 at the end of the stream and for a broken one, None after a silence.
    #[must_use]
    pub fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut incoming = lock(&self.incoming);
        loop {
            {
                let mut tls = lock(&self.tls);
                match self.feed(&mut tls, &mut incoming) {
                    Look::Bytes => return Some(tls.reader().read(buffer).unwrap_or(0)),
                    Look::Over => return Some(0),
                    Look::Nothing => {}
                }
            }
            match self.socket.receive(&mut incoming.buffer)? {
                0 => return Some(0),
                count => incoming.put(count),
            }
        }
    }

    /// Whether `receive` would not wait; true if somebody else just looks.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        self.look() != Some(Look::Nothing)
    }

    /// Ends the stream in both directions, also for threads that wait for bytes.
    pub fn shut(&self) {
        // A thread that is sending would be cut off in the middle of a record in any case.
        if let Ok(mut outgoing) = self.outgoing.try_lock() {
            self.take_leave(&mut outgoing);
        }
        self.socket.shut();
    }

    /// What to say if the connection was lost before anything was received. A server that refuses our certificate says so
    /// after the handshake, if it says anything.
    pub fn reason(&self) -> String {
        let _ = self.look();
        let silent = || "the handshake succeeds, but then nobody answers; does it accept our certificate?".to_owned();
        lock(&self.failure).as_ref().map_or_else(silent, reason)
    }

    /// Takes in what has come while nobody was reading; None if somebody is.
    fn look(&self) -> Option<Look> {
        let mut incoming = self.incoming.try_lock().ok()?;
        loop {
            match self.feed(&mut lock(&self.tls), &mut incoming) {
                Look::Nothing => {}
                seen => return Some(seen),
            }
            match self.socket.receive_now(&mut incoming.buffer) {
                None => return Some(Look::Nothing),
                Some(0) => return Some(Look::Over),
                Some(count) => incoming.put(count),
            }
        }
    }

    /// Decrypts what has come, as far as there is room.
    fn feed(&self, tls: &mut ClientConnection, incoming: &mut Incoming) -> Look {
        loop {
            match tls.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() > 0 => return Look::Bytes,
                Ok(state) if state.peer_has_closed() => return Look::Over,
                Ok(_) if incoming.is_empty() => return Look::Nothing,
                Ok(_) => {}
                Err(error) => {
                    lock(&self.failure).get_or_insert(error);
                    return Look::Over;
                }
            }
            let mut bytes = &incoming.buffer[incoming.start..incoming.end];
            match tls.read_tls(&mut bytes) {
                Ok(count) if count > 0 => incoming.start += count,
                _ => return Look::Over,
            }
        }
    }

    /// Says goodbye, or what was wrong, if that can be done at once.
    fn take_leave(&self, outgoing: &mut Vec<u8>) {
        outgoing.clear();
        {
            let mut tls = lock(&self.tls);
            tls.send_close_notify();
            drain(&mut tls, outgoing);
        }
        self.socket.send_now(outgoing);
    }
}

/// Takes out what is to be sent.
fn drain(tls: &mut ClientConnection, outgoing: &mut Vec<u8>) {
    while tls.wants_write() {
        // Memory takes everything.
        let _ = tls.write_tls(outgoing);
    }
}

/// A socket until a point in time.
struct Limited<'s> {
    socket: &'s Socket,
    deadline: Instant,
}

impl Limited<'_> {
    fn limit(&self) -> io::Result<()> {
        Ok(self.socket.limit(Some(self.deadline))?)
    }
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Also after a signal, or signals would put the end off.
        self.limit()?;
        Ok(self.socket.receive_once(buffer)?)
    }
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.limit()?;
        match self.socket.send(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What TLS says in an error of I/O; None if it is one.
fn reason_in(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref().map(reason)
}

/// Says in plain words what usually goes wrong.
fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => "its certificate is not signed by one in ca".to_owned(),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet; is the clock right?".to_owned()
            }
            error => format!("its certificate is refused: {error}"),
        },
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it demands a client certificate; set certificate and key".to_owned()
        }
        Error::AlertReceived(alert) => format!("it refuses us: {alert:?}"),
        Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        error => error.to_string(),
    }
}
