//! What can be wrong with a frame.

use std::fmt;

/// Why a frame can't be encoded or decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// The body ends before its last value does.
    Truncated,
    /// Bytes are left over behind the last value.
    Trailing,
    /// A tag, or a byte that can only be 0 or 1, has another value.
    Tag(u8),
    /// No shape has this number.
    Shape(u16),
    /// A count, a length or the nesting is above its limit.
    Limit,
    /// Encoding only: a value is not of the kind that the table names, or is not there.
    Mismatch,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the body is too short"),
            Self::Trailing => f.write_str("bytes are left over behind the last value"),
            Self::Tag(tag) => write!(f, "unknown tag {tag}"),
            Self::Shape(id) => write!(f, "unknown shape {id}"),
            Self::Limit => f.write_str("a limit of the wire is exceeded"),
            Self::Mismatch => f.write_str("the values do not fit the call table"),
        }
    }
}

impl std::error::Error for WireError {}
