//! The host half: values to C arguments, calls through a vendor module, and what it left there back to values.

mod arena;
mod arguments;
mod confine;
mod ending;
mod fork;
mod information;
mod landlock;
mod library;
mod parameter;
#[cfg(test)]
mod parameter_tests;
mod privileges;
mod sandbox;
mod seccomp;
mod segment;
mod template;
#[cfg(test)]
mod template_tests;

pub use arguments::{Arguments, Message};
pub use confine::{confine, inherit, inherit_memory, inherit_packets};
pub use ending::{end_now, end_unchanged, Change};
pub use fork::{fork_alone, thread_count, Fork};
pub use library::{Library, LoadError};
pub use sandbox::{Network, Refusal, Sandbox};
pub use segment::{Part, Segment};
