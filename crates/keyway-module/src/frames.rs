//! Bytes that arrive, cut into frames. No I/O: who reads puts the bytes in.

use keyway_wire::limits::MAX_BODY;
use keyway_wire::{Header, HEADER_LENGTH, VERSION};

/// Room for many small frames, so that one system call fetches what has arrived.
const CAPACITY: usize = 65_536;
/// A buffer that grew up to this stays as it is while large frames come, in bytes: to have it anew for each would cost as much as the copy.
const KEPT: usize = 2 << 20;
/// So many small frames in a row say that no more large ones come.
const FEW: u32 = 64;

/// The stream can't be followed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Bytes received and not yet taken.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Frames since the last one that does not fit into the usual size.
    small: u32,
    /// The server's version byte has not come yet.
    greeting: bool,
}

impl Frames {
    /// Nothing received.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buffer: vec![0; CAPACITY],
            start: 0,
            end: 0,
            small: 0,
            greeting: true,
        }
    }

    /// Where the next bytes go; never empty.
    pub fn room(&mut self) -> &mut [u8] {
        let needed = self
            .header()
            .map_or(HEADER_LENGTH, |header| HEADER_LENGTH + header.length as usize);
        if self.start > 0 && self.start + needed > self.buffer.len() || self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if needed > self.buffer.len() {
            self.buffer.resize(needed, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes have been put there.
    pub fn received(&mut self, count: usize) {
        self.end += count;
    }

    /// Whether there are no bytes that are not taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The next frame that is there in full.
    ///
    /// # Errors
    /// Another version than ours, or a body above the limit.
    pub fn next(&mut self) -> Result<Option<(Header, &[u8])>, Malformed> {
        if self.greeting && self.start < self.end {
            if self.buffer[self.start] != VERSION {
                return Err(Malformed);
            }
            self.greeting = false;
            self.start += 1;
        }
        let Some(header) = self.header() else {
            return self.idle();
        };
        let length = header.length as usize;
        if length > MAX_BODY {
            return Err(Malformed);
        }
        let body = self.start + HEADER_LENGTH;
        if self.end - body < length {
            return Ok(None);
        }
        self.start = body + length;
        self.small = if HEADER_LENGTH + length > CAPACITY {
            0
        } else {
            self.small.saturating_add(1)
        };
        Ok(Some((header, &self.buffer[body..self.start])))
    }

    /// Without a whole header; a buffer that grew for large frames goes back to its usual size when no more of them come.
    fn idle(&mut self) -> Result<Option<(Header, &[u8])>, Malformed> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            let is_idle = self.small >= FEW || self.buffer.len() > KEPT;
            if self.buffer.len() > CAPACITY && is_idle {
                self.buffer = vec![0; CAPACITY];
            }
        }
        Ok(None)
    }

    fn header(&self) -> Option<Header> {
        if self.greeting {
            return None;
        }
        self.buffer[self.start..self.end].first_chunk().map(Header::decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(id: u64, body: &[u8]) -> Vec<u8> {
        let header = Header {
            id,
            length: body.len() as u32,
            ..Header::default()
        };
        [header.encode().as_slice(), body].concat()
    }

    /// Feeds the bytes in pieces and collects what comes out.
    fn feed(bytes: &[u8], piece: usize) -> Result<Vec<(u64, Vec<u8>)>, Malformed> {
        let mut frames = Frames::new();
        let mut out = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = frames.room();
            let count = piece.min(rest.len()).min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            frames.received(count);
            while let Some((header, body)) = frames.next()? {
                out.push((header.id, body.to_vec()));
            }
        }
        Ok(out)
    }

    #[test]
    fn frames_come_out_whole_however_they_arrive() {
        let large: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let expected = vec![
            (1, b"one".to_vec()),
            (2, Vec::new()),
            (3, large.clone()),
            (4, vec![7; 60_000]),
            (5, vec![9]),
        ];
        let mut bytes = vec![VERSION];
        for (id, body) in &expected {
            bytes.extend(frame(*id, body));
        }
        for piece in [1, 31, 33, 4_096, 65_536, 1 << 20] {
            assert_eq!(feed(&bytes, piece), Ok(expected.clone()), "{piece}");
        }
    }

    /// Takes all that is there, and says how large the buffer is then.
    fn take(frames: &mut Frames, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = frames.room();
            let count = rest.len().min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            frames.received(count);
            while frames.next().expect("whole frames").is_some() {}
        }
        frames.buffer.len()
    }

    #[test]
    fn a_buffer_stays_large_while_large_frames_come_and_never_huge() {
        let mut frames = Frames::new();
        assert_eq!(take(&mut frames, &[VERSION]), CAPACITY);
        let large = take(&mut frames, &frame(1, &vec![1; 1 << 20]));
        assert!(large > 1 << 20);
        for _ in 0..3 {
            for _ in 0..FEW - 1 {
                assert_eq!(take(&mut frames, &frame(2, b"small")), large);
            }
            assert_eq!(take(&mut frames, &frame(1, &vec![1; 1 << 20])), large);
        }
        for _ in 0..FEW {
            take(&mut frames, &frame(2, b"small"));
        }
        assert_eq!(frames.buffer.len(), CAPACITY);
        assert_eq!(take(&mut frames, &frame(3, &vec![1; KEPT])), CAPACITY);
    }

    #[test]
    fn another_version_and_an_absurd_length_end_the_stream() {
        assert_eq!(feed(&[0x82], 1), Err(Malformed));
        let mut bytes = vec![VERSION];
        bytes.extend(
            Header {
                length: MAX_BODY as u32 + 1,
                ..Header::default()
            }
            .encode(),
        );
        assert_eq!(feed(&bytes, 33), Err(Malformed));
    }
}
