//! Bytes to the daemon and back. Every interruption by a signal is gone over; a peer that went away never raises one.

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fd::OwnedFd;
use rustix::io::{fcntl_dupfd_cloexec, Errno};
use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_timeout, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl, set_tcp_nodelay,
    set_tcp_user_timeout, Timeout,
};
use rustix::net::{
    connect, recv, send, shutdown, socket_with, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType,
};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first descriptor that is not a standard stream.
const FIRST_FREE: RawFd = 3;

/// An idle peer is asked for a sign of life after this time, then as often as this, with these pauses.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_PROBES: u32 = 4;
const KEEPALIVE_PAUSE: Duration = Duration::from_secs(10);
/// A peer that does not acknowledge what it was sent is given up after this time, as an idle one is. In milliseconds.
const UNACKNOWLEDGED: u32 = 60_000;

/// A connected stream socket, closed in programs that this process starts.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    /// Where its number is noted for a forked child, which is to close it.
    noted: Arc<AtomicI32>,
}

impl Socket {
    /// Connects to a unix socket.
    ///
    /// # Errors
    /// Nobody listens there, or the system refuses.
    pub fn unix(path: &Path, noted: Arc<AtomicI32>) -> Result<Self, Errno> {
        let socket = Self::new(AddressFamily::UNIX, noted)?;
        socket.connect(&SocketAddrUnix::new(path)?, None)?;
        Ok(socket)
    }

    /// Connects to a TCP port.
    ///
    /// # Errors
    /// Nobody listens there, nobody answers before `deadline`, or the system refuses.
    pub fn tcp(address: &SocketAddr, deadline: Instant, noted: Arc<AtomicI32>) -> Result<Self, Errno> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = Self::new(family, noted)?;
        let descriptor = &socket.descriptor;
        // A request is written whole, and its reply waited for.
        set_tcp_nodelay(descriptor, true)?;
        set_socket_keepalive(descriptor, true)?;
        set_tcp_keepidle(descriptor, KEEPALIVE_IDLE)?;
        set_tcp_keepintvl(descriptor, KEEPALIVE_PAUSE)?;
        set_tcp_keepcnt(descriptor, KEEPALIVE_PROBES)?;
        set_tcp_user_timeout(descriptor, UNACKNOWLEDGED)?;
        socket.connect(address, Some(deadline))?;
        socket.limit(None)?;
        Ok(socket)
    }

    fn new(family: AddressFamily, noted: Arc<AtomicI32>) -> Result<Self, Errno> {
        let descriptor = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // In a program that has closed its standard streams we would be one of them, and take what it prints.
        let descriptor = if descriptor.as_raw_fd() < FIRST_FREE {
            fcntl_dupfd_cloexec(&descriptor, FIRST_FREE)?
        } else {
            descriptor
        };
        noted.store(descriptor.as_raw_fd(), Ordering::Relaxed);
        Ok(Self { descriptor, noted })
    }

    fn connect(&self, address: &impl SocketAddrArg, deadline: Option<Instant>) -> Result<(), Errno> {
        loop {
            // The limit for sending is the one for connecting, too.
            if deadline.is_some() {
                self.limit(deadline)?;
            }
            match connect(&self.descriptor, address) {
                Ok(()) | Err(Errno::ISCONN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::INPROGRESS | Errno::ALREADY) => return Err(Errno::TIMEDOUT),
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets sending and receiving fail with EAGAIN at `deadline`, or never.
    ///
    /// # Errors
    /// ETIMEDOUT if that has passed.
    pub fn limit(&self, deadline: Option<Instant>) -> Result<(), Errno> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // None is no limit at all, and less than the system can count would be, too.
        if left.is_some_and(|left| left < Duration::from_micros(1)) {
            return Err(Errno::TIMEDOUT);
        }
        set_socket_timeout(&self.descriptor, Timeout::Send, left)?;
        set_socket_timeout(&self.descriptor, Timeout::Recv, left)
    }

    /// Sends everything. On an error, says how many bytes went out before.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&self, mut bytes: &[u8]) -> Result<(), usize> {
        let mut sent = 0;
        while !bytes.is_empty() {
            match send(&self.descriptor, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    sent += count;
                    bytes = &bytes[count..];
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(sent),
            }
        }
        Ok(())
    }

    /// Sends what can be sent without waiting, for a peer that may not listen any more.
    pub fn send_now(&self, bytes: &[u8]) {
        let _ = send(&self.descriptor, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// Receives what is there, at least one byte; 0 at the end of the stream and for a broken one.
    #[must_use]
    pub fn receive(&self, buffer: &mut [u8]) -> usize {
        self.receive_with(buffer, RecvFlags::empty()).unwrap_or(0)
    }

    /// As `receive`, but tells of signals and of the limit.
    ///
    /// # Errors
    /// EINTR, EAGAIN at the limit, or the connection is broken.
    pub fn receive_once(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv(&self.descriptor, buffer, RecvFlags::empty()).map(|(count, _)| count)
    }

    /// As `receive`, but None if nothing is there.
    #[must_use]
    pub fn receive_now(&self, buffer: &mut [u8]) -> Option<usize> {
        match self.receive_with(buffer, RecvFlags::DONTWAIT) {
            Ok(count) => Some(count),
            Err(Errno::AGAIN) => None,
            Err(_) => Some(0),
        }
    }

    fn receive_with(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<usize, Errno> {
        loop {
            match recv(&self.descriptor, &mut *buffer, flags) {
                Ok((count, _)) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether `receive` would not wait; true when in doubt.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        self.is_any(PollFlags::IN)
    }

    /// Whether the peer has ended the stream. On a unix socket sending tells that; on a network it only does so afterwards.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_any(PollFlags::RDHUP)
    }

    /// Whether one of these is the case now, or the connection is broken.
    fn is_any(&self, flags: PollFlags) -> bool {
        let mut asked = [PollFd::new(&self.descriptor, flags)];
        loop {
            match poll(&mut asked, Some(&Timespec::default())) {
                Ok(count) => return count > 0,
                Err(Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    /// Ends the stream in both directions, also for threads that wait for bytes and for copies in forked processes.
    pub fn shut(&self) {
        // It can only fail if the peer was faster.
        let _ = shutdown(&self.descriptor, Shutdown::Both);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Before the descriptor is closed and its number means something else.
        let number = self.descriptor.as_raw_fd();
        let _ = self
            .noted
            .compare_exchange(number, -1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::{
        socket_keepalive, socket_timeout, tcp_keepcnt, tcp_keepidle, tcp_keepintvl, tcp_nodelay, tcp_user_timeout,
    };
    use std::net::TcpListener;

    #[test]
    fn a_peer_on_a_network_is_answered_at_once_and_not_waited_for_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let noted = Arc::new(AtomicI32::new(-1));
        let soon = Instant::now() + Duration::from_secs(5);
        let socket = Socket::tcp(&address, soon, Arc::clone(&noted)).expect("a connection");
        let descriptor = &socket.descriptor;
        assert_eq!(tcp_nodelay(descriptor), Ok(true));
        assert_eq!(socket_keepalive(descriptor), Ok(true));
        let silence = |probes| KEEPALIVE_IDLE + KEEPALIVE_PAUSE * probes;
        assert_eq!(tcp_keepcnt(descriptor).map(silence), Ok(Duration::from_secs(60)));
        assert_eq!(tcp_keepidle(descriptor), Ok(KEEPALIVE_IDLE));
        assert_eq!(tcp_keepintvl(descriptor), Ok(KEEPALIVE_PAUSE));
        assert_eq!(tcp_user_timeout(descriptor), Ok(60_000));
        // A call may take as long as it likes.
        assert_eq!(socket_timeout(descriptor, Timeout::Recv), Ok(None));
        assert_eq!(socket_timeout(descriptor, Timeout::Send), Ok(None));

        assert_eq!(noted.load(Ordering::Relaxed), descriptor.as_raw_fd());
        drop(socket);
        assert_eq!(noted.load(Ordering::Relaxed), -1);
    }

    #[test]
    fn a_connection_that_fails_is_noted_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let noted = Arc::new(AtomicI32::new(-1));
        let soon = Instant::now() + Duration::from_secs(5);
        let refused = Socket::tcp(&address, soon, Arc::clone(&noted)).map(drop);
        assert_eq!(refused, Err(Errno::CONNREFUSED));
        let late = Socket::tcp(&address, Instant::now(), Arc::clone(&noted)).map(drop);
        assert_eq!(late, Err(Errno::TIMEDOUT));
        assert_eq!(noted.load(Ordering::Relaxed), -1);
    }
}
