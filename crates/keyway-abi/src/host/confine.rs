//! What a module host gives up before it loads foreign code.

use super::ending::end_on_signal;
use super::segment::Segment;
use std::io::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Gives up what no module host needs: new privileges, core dumps, being looked into, outliving its parent, and every
/// descriptor but the standard three and those to `keep`. The kernel forgets some of that when a process changes its user, so
/// that comes before.
///
/// # Errors
/// The kernel refused.
pub fn confine(keep: &[RawFd]) -> Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    end_on_signal()?;
    // SAFETY: the structure is there; the other arguments are plain numbers.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        check(libc::setrlimit(libc::RLIMIT_CORE, &none))?;
    }
    let mut kept = Vec::with_capacity(keep.len());
    for descriptor in keep {
        kept.push(libc::c_uint::try_from(*descriptor).map_err(|_| Error::from_raw_os_error(libc::EBADF))?);
    }
    kept.sort_unstable();
    let mut first = 3;
    for descriptor in kept {
        if descriptor > first {
            close_range(first, descriptor - 1)?;
        }
        first = first.max(descriptor + 1);
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<()> {
    // Not every C library has a function of this name.
    // SAFETY: nothing in this process has opened a descriptor yet, so nothing owns one in the range.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } as libc::c_int)
}

fn check(result: libc::c_int) -> Result<()> {
    if result == -1 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// The stream socket that the parent left open under this number.
///
/// # Errors
/// The number is not that of a stream socket.
pub fn inherit(descriptor: RawFd) -> Result<UnixStream> {
    Ok(UnixStream::from(inherit_socket(descriptor, libc::SOCK_STREAM)?))
}

/// The socket of packets that the parent left open under this number.
///
/// # Errors
/// The number is not that of such a socket.
pub fn inherit_packets(descriptor: RawFd) -> Result<OwnedFd> {
    inherit_socket(descriptor, libc::SOCK_SEQPACKET)
}

/// The memory that the parent left open under this number.
///
/// # Errors
/// It can't be mapped.
pub fn inherit_memory(descriptor: RawFd) -> Result<Segment> {
    if descriptor < 3 {
        return Err(Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: by the contract with the parent the descriptor is this process's to own; a wrong number fails at its first use.
    Segment::map(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn inherit_socket(descriptor: RawFd, wanted: libc::c_int) -> Result<OwnedFd> {
    let mut kind: libc::c_int = 0;
    let mut length = core::mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is an int, and there is room for one.
    check(unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            core::ptr::from_mut(&mut kind).cast(),
            &mut length,
        )
    })?;
    if kind != wanted {
        return Err(Error::from_raw_os_error(libc::EPROTOTYPE));
    }
    // SAFETY: the descriptor is open, and by the contract with the parent it is this process's to own.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
