//! Bodies that lie in memory shared by a daemon and its module host: what travels in their place (docs/wire.md, section 11).

/// Where the body of a request is, and how much room that of its reply has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent {
    /// Bytes from the beginning of the segment.
    pub offset: u32,
    /// Bytes of the request's body.
    pub length: u32,
    /// Bytes that the reply's body may have at the same place.
    pub room: u32,
}

impl Lent {
    /// Reads what travels instead of a body; None if it is something else.
    #[must_use]
    pub fn decode(body: &[u8]) -> Option<Self> {
        let [o0, o1, o2, o3, l0, l1, l2, l3, r0, r1, r2, r3] = *<&[u8; 12]>::try_from(body).ok()?;
        Some(Self {
            offset: u32::from_be_bytes([o0, o1, o2, o3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            room: u32::from_be_bytes([r0, r1, r2, r3]),
        })
    }
}

/// What travels instead of a reply's body of so many bytes that is where the request's was.
#[must_use]
pub fn returned(length: u32) -> [u8; 4] {
    length.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_bytes_are_a_place() {
        let bytes = [0, 0, 0x10, 0, 0, 0, 0, 5, 0, 1, 0, 0];
        let place = Lent {
            offset: 4096,
            length: 5,
            room: 65_536,
        };
        assert_eq!(Lent::decode(&bytes), Some(place));
        assert_eq!(Lent::decode(&bytes[..11]), None);
        assert_eq!(Lent::decode(&[0; 13]), None);
        assert_eq!(returned(258), [0, 0, 1, 2]);
    }
}
