//! Memory for a secret that has to be kept for a while, such as a PIN.

use core::ptr::{null_mut, NonNull};
use core::slice;
use std::fmt;
use std::io;
use zeroize::Zeroize;

/// A secret. Its pages are never written to swap or to a core dump, and a forked process has zeroes in their place.
pub struct Secret {
    start: NonNull<u8>,
    length: usize,
    /// Bytes of memory: whole pages.
    size: usize,
}

// SAFETY: the memory belongs to this value alone, and is written only while nobody else has it.
unsafe impl Send for Secret {}
// SAFETY: as above; all that can be done to a shared secret is to read it.
unsafe impl Sync for Secret {}

impl Secret {
    /// A copy of `secret`.
    ///
    /// # Errors
    /// The system gives no memory that can be kept like that; RLIMIT_MEMLOCK may be too low.
    pub fn new(secret: &[u8]) -> io::Result<Self> {
        // SAFETY: it takes no pointer and changes nothing.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?;
        let size = secret.len().max(1).next_multiple_of(page);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the system chooses a place where nothing else is.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(null_mut(), size, access, flags, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let length = secret.len();
        // From here on it is given back whatever happens.
        let kept = Self { start, length, size };
        kept.guard()?;
        // SAFETY: the memory is new, can be written and is large enough.
        unsafe { start.as_ptr().copy_from_nonoverlapping(secret.as_ptr(), length) };
        Ok(kept)
    }

    /// Keeps the pages in memory, and in this process.
    fn guard(&self) -> io::Result<()> {
        let start = self.start.as_ptr().cast();
        // SAFETY: these are whole pages that are ours; none of these calls changes what is in them.
        let done = unsafe {
            libc::mlock(start, self.size) == 0
                && libc::madvise(start, self.size, libc::MADV_DONTDUMP) == 0
                // Before Linux 4.14 a forked process can't get zeroes; then it gets no pages at all.
                && (libc::madvise(start, self.size, libc::MADV_WIPEONFORK) == 0
                    || libc::madvise(start, self.size, libc::MADV_DONTFORK) == 0)
        };
        if done {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// The secret.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes were written, and nobody writes them before the value is dropped.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // SAFETY: nobody has the memory any more; these are whole pages that mmap gave.
        unsafe {
            slice::from_raw_parts_mut(self.start.as_ptr(), self.size).zeroize();
            libc::munmap(self.start.as_ptr().cast(), self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// What the system says of the pages at an address: the line VmFlags of /proc/self/smaps.
    fn flags(address: usize) -> Vec<String> {
        let maps = fs::read_to_string("/proc/self/smaps").expect("a file");
        let range = |line: &str| {
            let (from, to) = line.split_whitespace().next()?.split_once('-')?;
            Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?)
        };
        let mut lines = maps.lines();
        lines
            .find(|line| range(line).is_some_and(|range| range.contains(&address)))
            .expect("the pages");
        let line = lines.find_map(|line| line.strip_prefix("VmFlags:"));
        line.expect("flags").split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn its_pages_are_locked_and_go_into_no_dump_and_no_forked_process() {
        for secret in [&b"12345678"[..], &[7; 5_000], b""] {
            let kept = Secret::new(secret).expect("memory");
            assert_eq!(kept.bytes(), secret);
            let flags = flags(kept.bytes().as_ptr() as usize);
            for flag in ["lo", "dd", "wf"] {
                assert!(flags.iter().any(|other| other == flag), "{flag}: {flags:?}");
            }
            assert_eq!(format!("{kept:?}"), "Secret");
        }
    }
}
