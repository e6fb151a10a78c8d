//! The host half: values to C arguments, calls through a vendor module, and what it left there back to values.

mod arena;
mod arguments;
mod confine;
mod fork;
mod information;
mod library;
mod parameter;
#[cfg(test)]
mod parameter_tests;
mod template;
#[cfg(test)]
mod template_tests;

pub use arguments::{Arguments, Message};
pub use confine::{confine, end_now, inherit, inherit_packets};
pub use fork::{fork_alone, thread_count, Fork};
pub use library::{Library, LoadError};
