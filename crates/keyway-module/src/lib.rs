//! `libkeyway.so`: a Cryptoki module whose tokens are wherever a Keyway daemon has them.
//!
//! From the C functions inwards: `library` (the process), `context` (C_Initialize to C_Finalize), `sessions` and
//! `session_calls`, `search_calls`, `link` and `connection` (the wire); `renewal` makes sessions anew when a connection was lost. What
//! to ask and what is known already is decided in `learn`, `operation`, `mechanisms`, `search`, `query`, `ahead` and `readings`, what can be made again in
//! `journal` and `logins`, how long to wait in `outage`; these do nothing themselves.
#![deny(unsafe_code)]

mod absent;
mod address;
mod ahead;
mod config;
mod connection;
mod context;
mod credentials;
mod frames;
mod journal;
mod knowledge;
mod learn;
mod library;
mod link;
mod lock;
mod logins;
mod mechanisms;
mod operation;
mod outage;
mod query;
mod readings;
mod renewal;
mod search;
mod search_calls;
mod seats;
mod secured;
mod session_calls;
mod sessions;
mod setting;
mod silence;
mod socket;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod toml;

static LIBRARY: library::Library = library::Library::new();

/// The exported symbols.
// A symbol that C finds by its name is unsafe code in itself; what is behind it is in keyway-abi.
#[allow(unsafe_code)]
mod symbols {
    keyway_abi::export!(&crate::LIBRARY);
}
