//! The native wire of Keyway (docs/wire.md): values to bytes and back. No I/O, no unsafe code.
#![forbid(unsafe_code)]

pub mod table;
pub mod value;
