//! Bytes to the daemon and back. Every interruption by a signal is gone over; a peer that went away never raises one.

use crate::config::Address;
use rustix::fd::OwnedFd;
use rustix::io::{fcntl_dupfd_cloexec, Errno};
use rustix::net::{
    connect, recv, send, shutdown, socket_with, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType,
};
use std::os::fd::{AsRawFd, RawFd};

/// The first descriptor that is not a standard stream.
const FIRST_FREE: RawFd = 3;

/// A connected stream socket, closed in programs that this process starts.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or the system refuses.
    pub fn connect(address: &Address) -> Result<Self, Errno> {
        let Address::Unix(path) = address;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // In a program that has closed its standard streams we would be one of them, and take what it prints.
        let socket = if socket.as_raw_fd() < FIRST_FREE {
            fcntl_dupfd_cloexec(&socket, FIRST_FREE)?
        } else {
            socket
        };
        let address = SocketAddrUnix::new(path.as_path())?;
        loop {
            match connect(&socket, &address) {
                Ok(()) | Err(Errno::ISCONN) => return Ok(Self(socket)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends everything. On an error, says how many bytes went out before.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&self, mut bytes: &[u8]) -> Result<(), usize> {
        let mut sent = 0;
        while !bytes.is_empty() {
            match send(&self.0, bytes, SendFlags::NOSIGNAL) {
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

    /// Receives what is there, at least one byte; 0 at the end of the stream and for a broken one.
    #[must_use]
    pub fn receive(&self, buffer: &mut [u8]) -> usize {
        loop {
            match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
                Ok((count, _)) => return count,
                Err(Errno::INTR) => {}
                Err(_) => return 0,
            }
        }
    }

    /// Whether there is something to receive, the end of the stream included. Waits for nothing.
    #[must_use]
    pub fn has_bytes(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        loop {
            match recv(&self.0, &mut [0_u8; 1][..], flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                _ => return true,
            }
        }
    }

    /// Ends the stream in both directions, also for threads that wait for bytes and for copies in forked processes.
    pub fn shut(&self) {
        // It can only fail if the peer was faster.
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// The descriptor's number.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
