//! Reading and writing the elements that everything else is made of.

use crate::error::WireError;

/// Marks NULL where a u32 length or count is expected.
pub(crate) const NULL: u32 = u32::MAX;

/// Takes values from the front of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails if anything is left.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing)
        }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        if self.rest.len() < length {
            return Err(WireError::Truncated);
        }
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// A byte that tells whether something is there.
    pub(crate) fn present(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Tag(other)),
        }
    }

    /// Two presence bits.
    pub(crate) fn bits(&mut self) -> Result<(bool, bool), WireError> {
        match self.u8()? {
            bits @ 0..=3 => Ok((bits & 1 != 0, bits & 2 != 0)),
            other => Err(WireError::Tag(other)),
        }
    }

    /// Checks a count of entries against its limit and against what the remaining bytes can hold, before anything is allocated for it.
    pub(crate) fn count(&self, count: u32, limit: usize, smallest: usize) -> Result<usize, WireError> {
        let count = usize::try_from(count).map_err(|_| WireError::Limit)?;
        if count > limit {
            return Err(WireError::Limit);
        }
        if self.rest.len() / smallest < count {
            return Err(WireError::Truncated);
        }
        Ok(count)
    }

    /// So many numbers.
    pub(crate) fn numbers(&mut self, count: usize) -> Result<Vec<u64>, WireError> {
        let bytes = self.bytes(count.checked_mul(8).ok_or(WireError::Limit)?)?;
        let mut words = Reader::new(bytes);
        (0..count).map(|_| words.u64()).collect()
    }
}

/// Appends values to a body.
#[derive(Debug)]
pub(crate) struct Writer<'v> {
    body: &'v mut Vec<u8>,
}

impl<'v> Writer<'v> {
    pub(crate) fn new(body: &'v mut Vec<u8>) -> Self {
        Self { body }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.body.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn bits(&mut self, first: bool, second: bool) {
        self.u8(u8::from(first) | u8::from(second) << 1);
    }

    /// A count of entries within its limit.
    pub(crate) fn count(&mut self, count: usize, limit: usize) -> Result<(), WireError> {
        if count > limit {
            return Err(WireError::Limit);
        }
        self.u32(u32::try_from(count).map_err(|_| WireError::Limit)?);
        Ok(())
    }

    pub(crate) fn numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.u64(*number);
        }
    }
}
