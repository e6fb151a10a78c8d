//! Bytes to the daemon and back. Every interruption by a signal is gone over; a peer that went away never raises one.

use keyway_abi::socket::untaken;
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
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first descriptor that is not a standard stream.
const FIRST_FREE: RawFd = 3;

/// So often an idle peer on a network is asked for a sign of life before it is given up.
const KEEPALIVE_PROBES: u32 = 5;
/// What counts as a silence on a network if none is configured.
const USUAL_SILENCE: Duration = Duration::from_secs(30);

/// A connected stream socket, closed in programs that this process starts.
#[derive(Debug)]
pub struct Socket {
    descriptor: OwnedFd,
    /// So long the peer may say nothing before `receive` tells.
    silence: Option<Duration>,
    /// Where its number is noted for a forked child, which is to close it.
    noted: Arc<AtomicI32>,
}

impl Socket {
    /// Connects to a unix socket.
    ///
    /// # Errors
    /// Nobody listens there, nobody has room for one more client before `deadline`, or the system refuses.
    pub fn unix(
        path: &Path,
        deadline: Instant,
        silence: Option<Duration>,
        noted: Arc<AtomicI32>,
    ) -> Result<Self, Errno> {
        let socket = Self::new(AddressFamily::UNIX, silence, noted)?;
        socket.connect(&SocketAddrUnix::new(path)?, deadline)?;
        socket.limit(None)?;
        Ok(socket)
    }

    /// Connects to a TCP port. A peer that is gone without a word breaks the connection after twice the `silence`.
    ///
    /// # Errors
    /// Nobody listens there, nobody answers before `deadline`, or the system refuses.
    pub fn tcp(
        address: &SocketAddr,
        deadline: Instant,
        silence: Option<Duration>,
        noted: Arc<AtomicI32>,
    ) -> Result<Self, Errno> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = Self::new(family, silence, noted)?;
        let descriptor = &socket.descriptor;
        // A request is written whole, and its reply waited for.
        set_tcp_nodelay(descriptor, true)?;
        // The system counts in whole seconds. The last limit is for what is not acknowledged, and for the probes.
        let idle = silence.unwrap_or(USUAL_SILENCE).max(Duration::from_secs(1));
        set_socket_keepalive(descriptor, true)?;
        set_tcp_keepidle(descriptor, idle)?;
        set_tcp_keepintvl(descriptor, (idle / KEEPALIVE_PROBES).max(Duration::from_secs(1)))?;
        set_tcp_keepcnt(descriptor, KEEPALIVE_PROBES)?;
        set_tcp_user_timeout(descriptor, (idle * 2).as_millis() as u32)?;
        socket.connect(address, deadline)?;
        socket.limit(None)?;
        Ok(socket)
    }

    fn new(family: AddressFamily, silence: Option<Duration>, noted: Arc<AtomicI32>) -> Result<Self, Errno> {
        let descriptor = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // In a program that has closed its standard streams we would be one of them, and take what it prints.
        let descriptor = if descriptor.as_raw_fd() < FIRST_FREE {
            fcntl_dupfd_cloexec(&descriptor, FIRST_FREE)?
        } else {
            descriptor
        };
        noted.store(descriptor.as_raw_fd(), Ordering::Relaxed);
        Ok(Self {
            descriptor,
            silence,
            noted,
        })
    }

    fn connect(&self, address: &impl SocketAddrArg, deadline: Instant) -> Result<(), Errno> {
        loop {
            // The limit for sending is the one for connecting, too.
            self.limit(Some(deadline))?;
            match connect(&self.descriptor, address) {
                Ok(()) | Err(Errno::ISCONN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::INPROGRESS | Errno::ALREADY) => return Err(Errno::TIMEDOUT),
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets sending and receiving fail with EAGAIN at `deadline`; without one only receiving, after each silence.
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
        set_socket_timeout(&self.descriptor, Timeout::Recv, left.or(self.silence))
    }

    /// Whether a peer that takes nothing for twice the silence is given up by `send`.
    pub fn watch(&self, watched: bool) {
        // It fails for no socket that is connected.
        let _ = set_socket_timeout(&self.descriptor, Timeout::Send, self.silence.filter(|_| watched));
    }

    /// Sends everything. On an error, says how many bytes went out before.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&self, mut bytes: &[u8]) -> Result<(), usize> {
        let (mut sent, mut stuck) = (0, false);
        while !bytes.is_empty() {
            match send(&self.descriptor, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    sent += count;
                    bytes = &bytes[count..];
                    stuck = false;
                }
                Err(Errno::INTR) => {}
                // It may have taken less than the system waits for.
                Err(Errno::AGAIN) if !stuck => stuck = true,
                Err(_) => return Err(sent),
            }
        }
        Ok(())
    }

    /// Sends what can be sent without waiting, for a peer that may not listen any more.
    pub fn send_now(&self, bytes: &[u8]) {
        let _ = send(&self.descriptor, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// Receives what is there, at least one byte; 0 at the end of the stream and for a broken one, None after a silence.
    #[must_use]
    pub fn receive(&self, buffer: &mut [u8]) -> Option<usize> {
        let mut interrupted = None;
        loop {
            match self.receive_once(buffer) {
                Ok(count) => return Some(count),
                // The system begins to count anew after each signal.
                Err(Errno::INTR) => {
                    let since = *interrupted.get_or_insert_with(Instant::now);
                    if self.silence.is_some_and(|silence| since.elapsed() >= silence) {
                        return None;
                    }
                }
                Err(Errno::AGAIN) => return None,
                Err(_) => return Some(0),
            }
        }
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
        loop {
            match recv(&self.descriptor, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((count, _)) => return Some(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => return Some(0),
            }
        }
    }

    /// Whether `receive` would not wait; true when in doubt.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        self.is_any(PollFlags::IN)
    }

    /// Whether a few bytes can be sent without waiting; true for a broken connection.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.is_any(PollFlags::OUT)
    }

    /// How many bytes that were sent the peer has not taken.
    #[must_use]
    pub fn untaken(&self) -> usize {
        untaken(self.descriptor.as_fd())
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
    use rustix::net::{bind, listen};
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn a_peer_on_a_network_is_answered_at_once_and_not_waited_for_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let noted = Arc::new(AtomicI32::new(-1));
        let soon = Instant::now() + Duration::from_secs(5);
        let seconds = Duration::from_secs;
        for (silence, idle, pause, limit) in [
            (None, 30, 6, 60_000),
            (Some(seconds(5)), 5, 1, 10_000),
            (Some(seconds(1)), 1, 1, 2_000),
            (Some(seconds(3_600)), 3_600, 720, 7_200_000),
        ] {
            let socket = Socket::tcp(&address, soon, silence, Arc::clone(&noted)).expect("a connection");
            let descriptor = &socket.descriptor;
            assert_eq!(tcp_nodelay(descriptor), Ok(true));
            assert_eq!(socket_keepalive(descriptor), Ok(true));
            assert_eq!(tcp_keepidle(descriptor), Ok(seconds(idle)));
            assert_eq!(tcp_keepintvl(descriptor), Ok(seconds(pause)));
            assert_eq!(tcp_keepcnt(descriptor), Ok(5));
            assert_eq!(tcp_user_timeout(descriptor), Ok(limit));
            // A call may take as long as it likes, but who waits for it asks now and then.
            assert_eq!(socket_timeout(descriptor, Timeout::Recv), Ok(silence));
            assert_eq!(socket_timeout(descriptor, Timeout::Send), Ok(None));
            for (watched, limit) in [(true, silence), (false, None)] {
                socket.watch(watched);
                assert_eq!(socket_timeout(descriptor, Timeout::Send), Ok(limit));
            }

            assert_eq!(noted.load(Ordering::Relaxed), descriptor.as_raw_fd());
            drop(socket);
            assert_eq!(noted.load(Ordering::Relaxed), -1);
        }
    }

    #[test]
    fn a_socket_that_nobody_serves_is_given_up() {
        let name = format!("keyway-full-{}", std::process::id());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("a name");
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
        bind(&listener, &address).expect("a name");
        listen(&listener, 0).expect("to listen");
        let connect = || {
            let socket = Socket::new(AddressFamily::UNIX, None, Arc::default())?;
            socket.connect(&address, Instant::now() + Duration::from_millis(100))?;
            Ok(socket)
        };
        // As many as fit are there until somebody takes them.
        let waiting: Result<Vec<Socket>, Errno> = (0..9).map(|_| connect()).collect();
        assert_eq!(waiting.map(drop), Err(Errno::AGAIN));
    }

    #[test]
    fn a_peer_that_says_or_takes_nothing_is_told_of() {
        let (here, mut there) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let socket = Socket {
            descriptor: here.into(),
            silence: Some(Duration::from_millis(10)),
            noted: Arc::default(),
        };
        socket.limit(None).expect("a limit");
        socket.watch(true);
        assert_eq!(socket.receive(&mut [0; 9]), None);
        there.write_all(b"hallo").expect("to send");
        assert_eq!(socket.receive(&mut [0; 9]), Some(5));
        assert!(socket.has_room());
        assert_eq!(socket.untaken(), 0);
        let sent = socket.send(&vec![0; 16 << 20]).expect_err("nobody takes it");
        assert!(sent > 0 && socket.untaken() >= sent && !socket.has_room());
        assert_eq!(socket.send(b"x"), Err(0));
        drop(there);
        assert_eq!(socket.receive(&mut [0; 9]), Some(0));
    }

    #[test]
    fn a_connection_that_fails_is_noted_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let noted = Arc::new(AtomicI32::new(-1));
        let soon = Instant::now() + Duration::from_secs(5);
        let refused = Socket::tcp(&address, soon, None, Arc::clone(&noted)).map(drop);
        assert_eq!(refused, Err(Errno::CONNREFUSED));
        let late = Socket::tcp(&address, Instant::now(), None, Arc::clone(&noted)).map(drop);
        assert_eq!(late, Err(Errno::TIMEDOUT));
        assert_eq!(noted.load(Ordering::Relaxed), -1);
    }
}
