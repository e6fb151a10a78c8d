//! The one place where Keyway touches C memory: C types, function lists, arguments to values and back.

mod arguments;
pub mod attributes;
pub mod ctypes;
pub mod exports;
mod generated_dispatch;
mod generated_exports;
mod generated_lists;
pub mod guard;
pub mod host;
mod information;
pub mod layout;
mod memory;
mod parameter;
pub mod process;
pub mod secret;
pub mod socket;
mod structure;
pub mod ulong;
