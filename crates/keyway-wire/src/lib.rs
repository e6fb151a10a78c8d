//! The native wire of Keyway (docs/wire.md): values to bytes and back. No I/O, no unsafe code.
#![forbid(unsafe_code)]

pub mod ahead;
mod codec;
mod cursor;
mod error;
pub mod generated;
mod header;
pub mod limits;
mod lookup;
pub mod shared;
pub mod table;
pub mod value;

pub use codec::{decode_reply, decode_request, decode_request_prefix, encode_reply, encode_request, header_object};
pub use error::WireError;
pub use header::{flag, Header, HEADER_LENGTH, VERSION};
pub use lookup::{call, shape};
