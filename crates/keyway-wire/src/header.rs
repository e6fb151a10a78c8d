//! The header of a frame (docs/wire.md, section 2).

/// The byte that asks for version 1 and answers that it is in force.
pub const VERSION: u8 = 0x81;

/// Length of an encoded header in bytes.
pub const HEADER_LENGTH: usize = 32;

/// The flags of a frame.
pub mod flag {
    /// This frame answers a request.
    pub const REPLY: u16 = 0x0001;
    /// Request: the body starts with the arguments of the operation's init call.
    pub const FUSED: u16 = 0x0002;
    /// Reply to a fused request: the init call failed, RV and body are the init call's.
    pub const INIT: u16 = 0x0004;
    /// Request: no reply is wanted.
    pub const POSTED: u16 = 0x0008;
    /// Reply to C_OpenSession: the session can be made anew on another connection.
    pub const RENEWABLE: u16 = 0x0010;
    /// Between a daemon and its module host: the body lies in shared memory ([`crate::shared`]).
    pub const SHARED: u16 = 0x0020;
    /// What a request may carry.
    pub const OF_REQUESTS: u16 = FUSED | POSTED;
}

/// The first 32 bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Length of the body in bytes.
    pub length: u32,
    /// Call number.
    pub call: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Request id; not zero.
    pub id: u64,
    /// Session handle, slot ID or 0.
    pub target: u64,
    /// Requests: the first object argument or 0. Replies: the CK_RV.
    pub object: u64,
}

impl Header {
    /// The 32 bytes of the header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[0..4].copy_from_slice(&self.length.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.call.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.flags.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.target.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.object.to_be_bytes());
        bytes
    }

    /// Reads a header; every 32 bytes are one.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_LENGTH]) -> Self {
        let [l0, l1, l2, l3, c0, c1, f0, f1, rest @ ..] = *bytes;
        let number = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&rest[at..at + 8]);
            u64::from_be_bytes(word)
        };
        Self {
            length: u32::from_be_bytes([l0, l1, l2, l3]),
            call: u16::from_be_bytes([c0, c1]),
            flags: u16::from_be_bytes([f0, f1]),
            id: number(0),
            target: number(8),
            object: number(16),
        }
    }

    /// The header of the reply to this request.
    #[must_use]
    pub fn reply(&self, rv: u64, flags: u16) -> Self {
        Self {
            length: 0,
            flags: flag::REPLY | flags,
            object: rv,
            ..*self
        }
    }
}
