//! What the module has to know of its sockets, and can't ask for without unsafe code.

use std::os::fd::{AsRawFd, BorrowedFd};

/// How many bytes that were sent the other end has not taken yet: on a network those that are not acknowledged, on a unix socket those
/// that are not read. 0 if the system does not know.
#[must_use]
pub fn untaken(socket: BorrowedFd<'_>) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one int, and there is one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut count) };
    if result == 0 {
        usize::try_from(count).unwrap_or(0)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_not_read_is_not_taken() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        assert_eq!(untaken(here.as_fd()), 0);
        here.write_all(&[0; 100]).expect("to send");
        let before = untaken(here.as_fd());
        assert!(before >= 100);
        here.write_all(&[0; 100]).expect("to send");
        assert!(untaken(here.as_fd()) > before);
        there.read_exact(&mut [0; 200]).expect("to receive");
        assert_eq!(untaken(here.as_fd()), 0);
        let file = std::fs::File::open("/dev/null").expect("a file");
        assert_eq!(untaken(file.as_fd()), 0);
    }
}
