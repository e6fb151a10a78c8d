//! Frames from the socket.

use keyway_wire::limits::MAX_BODY;
use keyway_wire::{Header, HEADER_LENGTH};
use std::io::{Error, ErrorKind, Read, Result};

/// Several small frames fit, so that a burst of them costs one system call.
const BUFFER: usize = 65_536;

/// Reads frames one after another.
pub struct Frames<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: Read> Frames<R> {
    /// Reads from `source`.
    pub fn new(source: R) -> Self {
        Self {
            source,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// Waits for the next frame and puts its body into `body`. None: the peer is gone.
    ///
    /// # Errors
    /// The stream can't be followed any more.
    pub fn next(&mut self, body: &mut Vec<u8>) -> Result<Option<Header>> {
        body.clear();
        while self.end - self.start < HEADER_LENGTH {
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
        let mut header = [0; HEADER_LENGTH];
        self.take(HEADER_LENGTH, |bytes| header.copy_from_slice(bytes));
        let header = Header::decode(&header);
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if length > MAX_BODY {
            return Err(Error::new(ErrorKind::InvalidData, "a frame is above the limit"));
        }
        self.take(length.min(self.end - self.start), |bytes| body.extend_from_slice(bytes));
        let missing = length - body.len();
        if missing > HEADER_LENGTH {
            // Grows with what arrives, whatever the header promises.
            self.source.by_ref().take(missing as u64).read_to_end(body)?;
        } else {
            while body.len() < length && self.fill()? > 0 {
                self.take((length - body.len()).min(self.end - self.start), |bytes| {
                    body.extend_from_slice(bytes)
                });
            }
        }
        Ok((body.len() == length).then_some(header))
    }

    /// Whether more than what was read is here already.
    pub fn has_more(&self) -> bool {
        self.start < self.end
    }

    /// Hands the next bytes on; they may be a PIN, so that they do not stay here.
    fn take(&mut self, length: usize, mut to: impl FnMut(&[u8])) {
        let bytes = &mut self.buffer[self.start..self.start + length];
        to(bytes);
        bytes.fill(0);
        self.start += length;
    }

    fn fill(&mut self) -> Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let count = self.0.len().min(self.1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn frame(id: u64, body: &[u8]) -> Vec<u8> {
        let header = Header {
            length: body.len() as u32,
            call: 1,
            id,
            ..Header::default()
        };
        [&header.encode()[..], body].concat()
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_arrive() {
        let large = vec![7; 3 * BUFFER + 5];
        let bodies: [&[u8]; 6] = [b"", b"one", &large, &large[..BUFFER], b"two", &large[..40]];
        let stream: Vec<u8> = bodies
            .iter()
            .enumerate()
            .flat_map(|(id, body)| frame(id as u64, body))
            .collect();
        for step in [1, 31, 33, 1000, usize::MAX] {
            let mut frames = Frames::new(Slow(&stream, step));
            let mut body = Vec::new();
            for (id, expected) in bodies.iter().enumerate() {
                let header = frames.next(&mut body).expect("readable").expect("a frame");
                assert_eq!((header.id, &body[..]), (id as u64, *expected));
            }
            assert!(frames.next(&mut body).expect("readable").is_none());
            assert!(frames.buffer.iter().all(|byte| *byte == 0), "nothing stays behind");
        }
    }

    #[test]
    fn a_cut_frame_is_the_end_and_an_absurd_one_an_error() {
        let mut body = Vec::new();
        let whole = frame(1, &[0; 100]);
        for length in [1, 32, 33, 131] {
            assert!(
                Frames::new(&whole[..length])
                    .next(&mut body)
                    .expect("readable")
                    .is_none(),
                "{length}"
            );
        }
        let header = Header {
            length: MAX_BODY as u32 + 1,
            ..Header::default()
        };
        assert!(Frames::new(&header.encode()[..]).next(&mut body).is_err());
        let header = Header {
            length: MAX_BODY as u32,
            ..Header::default()
        };
        assert!(Frames::new(&header.encode()[..])
            .next(&mut body)
            .expect("readable")
            .is_none());
        assert!(body.capacity() < MAX_BODY / 2, "a promise is not memory");
    }
}
