//! How a module host ends: at once, but never within a call that may write the token. There are modules that lose a token which is half
//! written, and what asks for the end (the client has gone, or the daemon has) can wait for these calls.

use std::io::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// For so many seconds such calls are waited for.
const LONGEST: libc::c_uint = 60;

/// Calls in execution that may write the token.
static CHANGES: AtomicUsize = AtomicUsize::new(0);
/// Whether the process ends with the last of them.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// A call that may write the token, in execution as long as this is there.
#[derive(Debug)]
pub struct Change(());

impl Change {
    /// Notes that such a call begins.
    #[must_use]
    pub fn begin() -> Self {
        CHANGES.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        // Whoever asks for the end looks here after he has said so: one of the two sees the other.
        if CHANGES.fetch_sub(1, Ordering::SeqCst) == 1 && IS_ENDING.load(Ordering::SeqCst) {
            end_now(0);
        }
    }
}

/// Ends the process at once: a vendor module's own clean-up at exit may hang or crash.
pub fn end_now(status: i32) -> ! {
    // SAFETY: it takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Ends the process as soon as no call is in execution that may write the token.
pub fn end_unchanged() -> ! {
    ask_to_end();
    loop {
        std::thread::park();
    }
}

/// Lets SIGTERM, which is also what this process gets when its parent ends, ask for the end.
///
/// # Errors
/// The kernel refused.
pub(super) fn end_on_signal() -> Result<()> {
    // SAFETY: the structure is zeroed, as one without flags and with an empty mask is, and has a handler of the right type.
    let result = unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGTERM, &action, core::ptr::null_mut())
    };
    if result == -1 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_signal(_: libc::c_int) {
    ask_to_end();
}

/// Only what a signal handler may do.
fn ask_to_end() {
    IS_ENDING.store(true, Ordering::SeqCst);
    if CHANGES.load(Ordering::SeqCst) == 0 {
        end_now(0);
    }
    // SAFETY: it takes a number. The signal ends the process, since nothing handles it.
    unsafe { libc::alarm(LONGEST) };
}
