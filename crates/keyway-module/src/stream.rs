//! The bytes of a connection, on whatever they travel.

use crate::address::{Address, Port};
use crate::config::Config;
use crate::secured::Secured;
use crate::socket::Socket;
use std::net::ToSocketAddrs;
use std::sync::atomic::AtomicI32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So long an address may take to connect, the look-up of its name not counted, and again for its handshake.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody is there.
    Absent,
    /// Somebody is there with whom TLS fails; why.
    Distrusted(String),
}

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// A unix socket.
    Unix(Socket),
    /// TCP.
    Tcp(Socket),
    /// TLS.
    Tls(Box<Secured>),
}

impl Stream {
    /// Connects to one of the addresses of `config`. The descriptor is noted from the beginning, and as long as it lives.
    ///
    /// # Errors
    /// It can't be reached.
    pub fn connect(address: &Address, config: &Config, noted: &Arc<AtomicI32>) -> Result<Self, Unreachable> {
        let silence = Some(config.renewal.silence).filter(|silence| !silence.is_zero());
        match address {
            Address::Unix(path) => Socket::unix(path, Instant::now() + PATIENCE, silence, Arc::clone(noted))
                .map(Self::Unix)
                .map_err(|_| Unreachable::Absent),
            Address::Tcp(port) => tcp(port, silence, noted).map(Self::Tcp).ok_or(Unreachable::Absent),
            Address::Tls(port) => {
                let credentials = config.credentials.as_ref().ok_or(Unreachable::Absent)?;
                let socket = tcp(port, silence, noted).ok_or(Unreachable::Absent)?;
                let tls = credentials.connection(port).map_err(Unreachable::Distrusted)?;
                let secured = Secured::handshake(tls, socket, Instant::now() + PATIENCE)
                    .map_err(|reason| reason.map_or(Unreachable::Absent, Unreachable::Distrusted))?;
                Ok(Self::Tls(Box::new(secured)))
            }
        }
    }

    /// Sends everything. On an error, says how many bytes went out before.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&self, bytes: &[u8]) -> Result<(), usize> {
        match self {
            Self::Unix(socket) => socket.send(bytes),
            // Else the bytes would be lost, where a unix socket refuses them.
            Self::Tcp(socket) if socket.is_over() => Err(0),
            Self::Tcp(socket) => socket.send(bytes),
            Self::Tls(secured) => secured.send(bytes),
        }
    }

    /// Receives what is there, at least one byte; 0 at the end of the stream and for a broken one, None after a silence of the peer.
    /// Only one thread at a time.
    #[must_use]
    pub fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Unix(socket) | Self::Tcp(socket) => socket.receive(buffer),
            Self::Tls(secured) => secured.receive(buffer),
        }
    }

    /// Whether `receive` would not wait.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        match self {
            Self::Unix(socket) | Self::Tcp(socket) => socket.has_bytes(),
            Self::Tls(secured) => secured.has_bytes(),
        }
    }

    /// Whether a few bytes can be sent without waiting; true for a broken connection.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.socket().has_room()
    }

    /// How many bytes that were sent the peer has not taken.
    #[must_use]
    pub fn untaken(&self) -> usize {
        self.socket().untaken()
    }

    /// Whether a peer that takes nothing for twice the silence is given up by `send`.
    pub fn watch(&self, watched: bool) {
        self.socket().watch(watched);
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Unix(socket) | Self::Tcp(socket) => socket,
            Self::Tls(secured) => secured.socket(),
        }
    }

    /// Ends the stream in both directions, also for threads that wait for bytes.
    pub fn shut(&self) {
        match self {
            Self::Unix(socket) | Self::Tcp(socket) => socket.shut(),
            Self::Tls(secured) => secured.shut(),
        }
    }

    /// What TLS tells of a connection that was lost before anything was received.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Unix(_) | Self::Tcp(_) => None,
            Self::Tls(secured) => Some(secured.reason()),
        }
    }
}

/// Tries the IP addresses of a host; each gets its part of the time that is left.
fn tcp(port: &Port, silence: Option<Duration>, noted: &Arc<AtomicI32>) -> Option<Socket> {
    let addresses: Vec<_> = (port.host.as_str(), port.number).to_socket_addrs().ok()?.collect();
    let end = Instant::now() + PATIENCE;
    let mut left = addresses.len() as u32;
    for address in addresses {
        let now = Instant::now();
        let deadline = now + end.saturating_duration_since(now) / left;
        if let Ok(socket) = Socket::tcp(&address, deadline, silence, Arc::clone(noted)) {
            return Some(socket);
        }
        left -= 1;
    }
    None
}
