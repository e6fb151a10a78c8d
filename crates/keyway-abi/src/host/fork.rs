//! A second process that has the vendor module loaded already.

use std::io::{Error, Result};

/// Which of the two processes goes on here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The old one; the number of the new process.
    Parent(u32),
    /// The new one.
    Child,
}

/// How many threads this process has; None if the kernel does not tell.
#[must_use]
pub fn thread_count() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Makes a second process. It ends with this one, by SIGTERM.
///
/// # Errors
/// The kernel refused, or there are other threads: what they hold would be held for ever in the new process.
pub fn fork_alone() -> Result<Fork> {
    if thread_count() != Some(1) {
        return Err(Error::from_raw_os_error(libc::EDEADLK));
    }
    // SAFETY: they take no pointers. There is no other thread, so the new process finds no lock held by one it lacks.
    let (parent, pid) = unsafe { (libc::getpid(), libc::fork()) };
    match pid {
        -1 => Err(Error::last_os_error()),
        0 => {
            // SAFETY: plain numbers. The wish to end with the parent is not inherited; if the parent ended before it was
            // repeated, nobody would tell.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0);
                if libc::getppid() != parent {
                    libc::_exit(0);
                }
            }
            Ok(Fork::Child)
        }
        pid => Ok(Fork::Parent(pid.unsigned_abs())),
    }
}
