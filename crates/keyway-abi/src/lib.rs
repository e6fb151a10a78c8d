//! The one place where Keyway touches C memory: C types, function lists, arguments to values and back.

pub mod ctypes;
mod generated_lists;
