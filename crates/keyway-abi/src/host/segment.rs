//! Memory that the daemon shares with this host alone.
//!
//! The daemon chooses where a body is, and neither reads nor writes there from its request to the reply; in between the place is
//! the request's. It has sealed the memory's size, so what is mapped stays there.

use core::ptr::{null_mut, NonNull};
use keyway_wire::shared::Lent;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};

/// The memory, mapped for as long as the process lives.
#[derive(Debug)]
pub struct Segment {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is mapped for good, and who uses which part of it is settled between daemon and requests (see above).
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// A place in the memory: first the body of a request, then that of its reply.
#[derive(Debug)]
pub struct Part<'a> {
    segment: &'a Segment,
    offset: usize,
    length: usize,
    room: usize,
}

impl Segment {
    /// Maps the memory behind a descriptor, which is closed.
    ///
    /// # Errors
    /// It is no memory, or can't be mapped.
    pub fn map(descriptor: OwnedFd) -> Result<Self> {
        // SAFETY: an all-zero stat is a valid value, and there is room for one.
        let mut found: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: as above.
        if unsafe { libc::fstat(descriptor.as_raw_fd(), &mut found) } == -1 {
            return Err(Error::last_os_error());
        }
        let length = usize::try_from(found.st_size).unwrap_or(0);
        // SAFETY: a new mapping, which overlaps nothing; the kernel checks the rest.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { start, length })
    }

    /// The place that the daemon has given to a request; None if it is not in the memory.
    pub fn part(&self, lent: Lent) -> Option<Part<'_>> {
        let [offset, length, room] =
            [lent.offset, lent.length, lent.room].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let is_inside = offset.checked_add(room).is_some_and(|end| end <= self.length) && length <= room;
        is_inside.then_some(Part {
            segment: self,
            offset,
            length,
            room,
        })
    }
}

impl Part<'_> {
    /// The body of the request.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        // SAFETY: the place is in the memory, and until the reply nobody writes there but `replace`, which borrows it alone.
        unsafe { core::slice::from_raw_parts(self.segment.start.as_ptr().add(self.offset), self.length) }
    }

    /// Puts the body of the reply there; returns whether it fits.
    pub fn replace(&mut self, body: &[u8]) -> bool {
        if body.len() > self.room {
            return false;
        }
        // SAFETY: there is room, the place is this request's, and the body lies elsewhere: it is not borrowed from here.
        unsafe {
            core::ptr::copy_nonoverlapping(body.as_ptr(), self.segment.start.as_ptr().add(self.offset), body.len());
        }
        self.length = body.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::FromRawFd;

    fn segment(length: libc::off_t) -> Segment {
        // SAFETY: the name is terminated; the descriptor is new and nobody else's.
        let descriptor = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC)) };
        // SAFETY: plain numbers.
        assert_eq!(unsafe { libc::ftruncate(descriptor.as_raw_fd(), length) }, 0);
        Segment::map(descriptor).expect("memory")
    }

    fn lent(offset: u32, length: u32, room: u32) -> Lent {
        Lent { offset, length, room }
    }

    #[test]
    fn a_place_has_the_request_and_then_the_reply() {
        let segment = segment(8192);
        let mut part = segment.part(lent(4096, 3, 10)).expect("a place");
        assert_eq!(part.body(), [0; 3]);
        assert!(part.replace(b"0123456789"));
        assert_eq!(part.body(), b"0123456789");
        assert!(!part.replace(&[0; 11]), "too long");
        let again = segment.part(lent(4095, 4, 4)).expect("a place");
        assert_eq!(again.body(), [0, b'0', b'1', b'2']);
    }

    #[test]
    fn what_is_not_in_the_memory_is_no_place() {
        let segment = segment(4096);
        assert!(segment.part(lent(0, 4096, 4096)).is_some());
        for outside in [
            (1, 0, 4096),
            (4097, 0, 0),
            (0, 5, 4),
            (u32::MAX, 1, u32::MAX),
            (0, 0, 4097),
        ] {
            assert!(
                segment.part(lent(outside.0, outside.1, outside.2)).is_none(),
                "{outside:?}"
            );
        }
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        let nothing = std::fs::File::open("/dev/null").expect("a file");
        assert!(Segment::map(nothing.into()).is_err());
    }
}
