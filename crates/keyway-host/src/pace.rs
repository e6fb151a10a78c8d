//! How long calls take, to tell whether a second thread is worth waking.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Waking a thread costs some microseconds: calls that are quicker than this are not worth it.
const WORTH: Duration = Duration::from_micros(20);
/// For so many calls a function counts as slow after one that was.
const MEMORY: u8 = 64;
/// Call numbers are below this.
const NUMBERS: usize = 128;

/// What the last calls of each function were like; a function that was never called counts as slow.
pub struct Pace([AtomicU8; NUMBERS]);

impl Pace {
    /// Nothing is known.
    pub const fn new() -> Self {
        // A constant, so that the array can be made of it.
        #[allow(clippy::declare_interior_mutable_const)]
        const UNKNOWN: AtomicU8 = AtomicU8::new(1);
        Self([UNKNOWN; NUMBERS])
    }

    /// Whether a call of this function may well be slow.
    pub fn is_slow(&self, number: u16) -> bool {
        self.of(number).map_or(true, |left| left.load(Ordering::Relaxed) > 0)
    }

    /// A call of this function took so long.
    pub fn took(&self, number: u16, time: Duration) {
        let Some(left) = self.of(number) else { return };
        // Two threads may overwrite each other's view; both are recent.
        let next = if time > WORTH {
            MEMORY
        } else {
            left.load(Ordering::Relaxed).saturating_sub(1)
        };
        left.store(next, Ordering::Relaxed);
    }

    fn of(&self, number: u16) -> Option<&AtomicU8> {
        self.0.get(usize::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_call_is_remembered_for_a_while() {
        let pace = Pace::new();
        assert!(pace.is_slow(44), "unknown");
        pace.took(44, Duration::ZERO);
        assert!(!pace.is_slow(44));
        pace.took(44, Duration::from_millis(1));
        for _ in 0..MEMORY {
            assert!(pace.is_slow(44));
            pace.took(44, WORTH);
        }
        assert!(!pace.is_slow(44));
        assert!(pace.is_slow(45), "each function for itself");
        pace.took(u16::MAX, Duration::ZERO);
        assert!(pace.is_slow(u16::MAX));
    }
}
