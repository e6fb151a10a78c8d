//! What the module counts, for those who want to know what fusion saves (KEYWAY_STATS).

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since C_Initialize.
#[derive(Debug, Default)]
pub struct Stats {
    /// Calls of the application, but for C_Initialize and C_Finalize.
    pub calls: AtomicU64,
    /// Requests that were waited for.
    pub round_trips: AtomicU64,
    /// Requests that were not.
    pub posted: AtomicU64,
    /// Queries that were answered by what had been read ahead.
    pub ahead: AtomicU64,
}

impl Stats {
    /// Adds one.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }

    /// The counts as a line of JSON.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{{\"round_trips\":{},\"posted\":{},\"calls\":{},\"ahead\":{}}}\n",
            self.round_trips.load(Relaxed),
            self.posted.load(Relaxed),
            self.calls.load(Relaxed),
            self.ahead.load(Relaxed)
        )
    }

    /// Appends the line to a file; an application does not fail because of a file of numbers.
    pub fn append(&self, file: &Path) {
        if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(file) {
            // One write, so that processes that share the file do not mix their lines.
            let _ = file.write_all(self.line().as_bytes());
        }
    }
}
