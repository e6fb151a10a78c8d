//! When a peer that says nothing is taken for gone. Pure decisions.
//!
//! Any byte that comes is a sign of life, and so is any that the peer takes: a large request may be on its way for long. Who hears
//! nothing for a while asks, by a call that every server answers at once (docs/wire.md, section 8), and gives up who says nothing to that.

/// Call number of a request that asks for nothing but an answer.
pub const HEARTBEAT: u16 = 0x3003;
/// The id of such a request. No seat ever has it, since seats are numbered from 1 in the lower half; nor has a posted call.
pub const HEARTBEAT_ID: u64 = 2 << 32;

/// What is to be done about a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask whether the peer is there, and wait for as long again.
    Ask,
    /// Wait for as long again.
    Wait,
    /// The peer is gone.
    GiveUp,
}

/// What is known of the peer's silence.
#[derive(Debug, Default)]
pub struct Silence {
    /// Since it was asked it has said nothing, and had so many bytes to take then.
    untaken: Option<usize>,
    /// The answer to a heartbeat is to come.
    outstanding: bool,
}

impl Silence {
    /// Something came.
    pub fn heard(&mut self) {
        self.untaken = None;
    }

    /// A heartbeat was sent.
    pub fn asked(&mut self) {
        self.outstanding = true;
    }

    /// A heartbeat was answered. Returns whether one was sent.
    pub fn answered(&mut self) -> bool {
        std::mem::take(&mut self.outstanding)
    }

    /// Nothing has come for as long as a peer may be silent; so many bytes that were sent to it are not taken.
    pub fn lasts(&mut self, untaken: usize) -> Next {
        if self.untaken.is_some_and(|before| untaken >= before) {
            return Next::GiveUp;
        }
        self.untaken = Some(untaken);
        if self.outstanding {
            Next::Wait
        } else {
            Next::Ask
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_is_asked_and_then_given_up() {
        let mut silence = Silence::default();
        assert_eq!(silence.lasts(0), Next::Ask);
        silence.asked();
        assert_eq!(silence.lasts(0), Next::GiveUp);
    }

    #[test]
    fn who_answers_is_asked_again_and_again() {
        let mut silence = Silence::default();
        for _ in 0..100 {
            assert_eq!(silence.lasts(0), Next::Ask);
            silence.asked();
            silence.heard();
            assert!(silence.answered());
        }
        assert!(!silence.answered(), "an answer that nobody asked for");
    }

    #[test]
    fn who_says_something_else_is_not_asked_twice_at_a_time() {
        let mut silence = Silence::default();
        assert_eq!(silence.lasts(0), Next::Ask);
        silence.asked();
        silence.heard();
        assert_eq!(silence.lasts(0), Next::Wait);
        assert_eq!(silence.lasts(0), Next::GiveUp);
    }

    #[test]
    fn who_takes_what_was_sent_is_alive() {
        let mut silence = Silence::default();
        assert_eq!(silence.lasts(3_000), Next::Ask);
        silence.asked();
        assert_eq!(silence.lasts(2_000), Next::Wait);
        assert_eq!(silence.lasts(1_999), Next::Wait);
        assert_eq!(silence.lasts(1_999), Next::GiveUp);
        // A heartbeat for which there was no room is tried again.
        let mut silence = Silence::default();
        assert_eq!(silence.lasts(3_000), Next::Ask);
        assert_eq!(silence.lasts(2_000), Next::Ask);
        assert_eq!(silence.lasts(2_500), Next::GiveUp);
    }
}
