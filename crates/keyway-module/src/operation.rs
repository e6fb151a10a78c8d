//! What is known of the operations of a session, from the calls that were made and their RVs. Pure decisions.
//!
//! A token may allow one operation at a time or several; what is not understood makes the state unknown, and an unknown state
//! only costs a round trip.

use keyway_wire::generated::call::*;
use keyway_wire::generated::rv::{
    CKR_BUFFER_TOO_SMALL, CKR_OK, CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED, CKR_SIGNATURE_INVALID,
    CKR_SIGNATURE_LEN_RANGE,
};
use keyway_wire::table::{Call, Effect, Step};

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Find,
    Encrypt,
    Decrypt,
    Digest,
    Sign,
    SignRecover,
    Verify,
    VerifyRecover,
    VerifySignature,
    MessageEncrypt,
    MessageDecrypt,
    MessageSign,
    MessageVerify,
}

impl Operation {
    /// The operation that a call belongs to; the calls that belong to two have none.
    #[must_use]
    pub const fn of(call: u16) -> Option<Self> {
        Some(match call {
            C_FINDOBJECTSINIT..=C_FINDOBJECTSFINAL => Self::Find,
            C_ENCRYPTINIT..=C_ENCRYPTFINAL => Self::Encrypt,
            C_DECRYPTINIT..=C_DECRYPTFINAL => Self::Decrypt,
            C_DIGESTINIT..=C_DIGESTFINAL => Self::Digest,
            C_SIGNINIT..=C_SIGNFINAL => Self::Sign,
            C_SIGNRECOVERINIT..=C_SIGNRECOVER => Self::SignRecover,
            C_VERIFYINIT..=C_VERIFYFINAL => Self::Verify,
            C_VERIFYRECOVERINIT..=C_VERIFYRECOVER => Self::VerifyRecover,
            C_VERIFYSIGNATUREINIT..=C_VERIFYSIGNATUREFINAL => Self::VerifySignature,
            C_MESSAGEENCRYPTINIT..=C_MESSAGEENCRYPTFINAL => Self::MessageEncrypt,
            C_MESSAGEDECRYPTINIT..=C_MESSAGEDECRYPTFINAL => Self::MessageDecrypt,
            C_MESSAGESIGNINIT..=C_MESSAGESIGNFINAL => Self::MessageSign,
            C_MESSAGEVERIFYINIT..=C_MESSAGEVERIFYFINAL => Self::MessageVerify,
            _ => return None,
        })
    }

    /// Its bit in a set of operations.
    #[must_use]
    pub const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// What is known of a session's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Those that may be active, a bit each.
    possible: u16,
    /// Those of them that are.
    certain: u16,
    /// Those of them that have failed, and so are over by the standard. A token that keeps one, and has one at a time, starts no other.
    failed: u16,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The RV.
    pub rv: u64,
    /// Whether the caller offered a buffer for the result, or the call has no result: without one, only the length was asked for.
    pub wanted: bool,
    /// Whether a mechanism was given to an init call; without one it ends the operation.
    pub mechanism: bool,
}

impl Activity {
    /// None is active.
    pub const IDLE: Self = Self {
        possible: 0,
        certain: 0,
        failed: 0,
    };
    /// Anything may be.
    pub const UNKNOWN: Self = Self {
        possible: u16::MAX,
        certain: 0,
        failed: 0,
    };

    /// This one is active and no other.
    #[must_use]
    pub const fn active(operation: Operation) -> Self {
        Self {
            possible: operation.bit(),
            certain: operation.bit(),
            failed: 0,
        }
    }

    /// Whether this one is active for certain.
    #[must_use]
    pub const fn is_certain(self, operation: Operation) -> bool {
        self.certain & operation.bit() != 0
    }

    /// The same operations, but they may have ended.
    #[must_use]
    pub const fn doubted(self) -> Self {
        Self {
            possible: self.possible,
            certain: 0,
            failed: self.failed,
        }
    }

    /// What is known after a call.
    #[must_use]
    pub fn after(self, call: &Call, outcome: Outcome) -> Self {
        let Some(operation) = Operation::of(call.number) else {
            return self.after_other(call);
        };
        match (call.step, outcome.rv) {
            (Step::Start, CKR_OK) if !outcome.mechanism => self.doubted(),
            (Step::Start, CKR_OK) => self.started(operation),
            (Step::Start, CKR_OPERATION_ACTIVE) if self == Self::IDLE => Self::UNKNOWN,
            // An init call that fails starts nothing and ends nothing.
            (Step::Start, _) => self,
            (Step::Whole | Step::End, CKR_OK) if outcome.wanted => self.ended(operation),
            // A signature that does not fit the data ends the operation as one that does.
            (Step::Whole | Step::End, CKR_SIGNATURE_INVALID | CKR_SIGNATURE_LEN_RANGE) => self.ended(operation),
            (_, CKR_OK | CKR_BUFFER_TOO_SMALL) => self,
            // Something has ended it, and maybe others, if it was taken for active.
            (_, CKR_OPERATION_NOT_INITIALIZED) if self.is_certain(operation) => self.doubted().ended(operation),
            (_, CKR_OPERATION_NOT_INITIALIZED) => self.ended(operation),
            _ => self.with_failed(operation),
        }
    }

    fn after_other(self, call: &Call) -> Self {
        match call.number {
            C_SETOPERATIONSTATE => Self::UNKNOWN,
            C_DIGESTENCRYPTUPDATE..=C_DECRYPTVERIFYUPDATE | C_SESSIONCANCEL | C_CANCELFUNCTION => self.doubted(),
            C_ASYNCCOMPLETE..=C_ASYNCJOIN => Self::UNKNOWN,
            _ => match call.effect {
                // A token may end operations with the login that they need.
                Effect::Login | Effect::Token => self.doubted(),
                _ => self,
            },
        }
    }

    /// Others go on for all we know, since tokens may have several at a time; those that failed do not.
    fn started(self, operation: Operation) -> Self {
        Self {
            possible: (self.possible & !self.failed) | operation.bit(),
            certain: self.certain | operation.bit(),
            failed: 0,
        }
    }

    fn ended(self, operation: Operation) -> Self {
        let others = !operation.bit();
        Self {
            possible: self.possible & others,
            certain: self.certain & others,
            failed: self.failed & others,
        }
    }

    fn with_failed(self, operation: Operation) -> Self {
        Self {
            possible: self.possible | operation.bit(),
            certain: self.certain & !operation.bit(),
            failed: self.failed | operation.bit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Operation::{Digest, Find, Sign, Verify};
    use super::*;
    use keyway_wire::call;
    use keyway_wire::generated::rv::{CKR_DATA_LEN_RANGE, CKR_DEVICE_ERROR, CKR_KEY_HANDLE_INVALID};

    const WANTED: Outcome = Outcome {
        rv: CKR_OK,
        wanted: true,
        mechanism: true,
    };

    fn after(from: Activity, number: u16, outcome: Outcome) -> Activity {
        from.after(call(number).expect("a call"), outcome)
    }

    #[test]
    fn every_operation_call_of_the_table_has_its_operation() {
        for call in &keyway_wire::generated::CALLS {
            let dual = (C_DIGESTENCRYPTUPDATE..=C_DECRYPTVERIFYUPDATE).contains(&call.number);
            assert_eq!(
                Operation::of(call.number).is_some(),
                call.step != Step::None && !dual,
                "{}",
                call.name
            );
        }
    }

    #[test]
    fn what_is_known_after_each_call() {
        let rv = |rv| Outcome { rv, ..WANTED };
        let length = Outcome {
            wanted: false,
            ..WANTED
        };
        let cancel = Outcome {
            mechanism: false,
            ..WANTED
        };
        const IDLE: Activity = Activity::IDLE;
        const UNKNOWN: Activity = Activity::UNKNOWN;
        let active = Activity::active;
        let maybe = |operation| Activity::active(operation).doubted();
        let failed = |operation| IDLE.with_failed(operation);
        let both = active(Digest).started(Sign);
        for (from, number, outcome, to) in [
            (IDLE, C_SIGNINIT, WANTED, active(Sign)),
            (maybe(Sign), C_SIGNINIT, WANTED, active(Sign)),
            // Nothing but its end ends an operation that nobody has seen fail.
            (maybe(Digest), C_SIGNINIT, WANTED, maybe(Digest).started(Sign)),
            (maybe(Digest).started(Sign), C_SIGN, WANTED, maybe(Digest)),
            (failed(Digest), C_SIGNINIT, WANTED, active(Sign)),
            // A token with several operations at a time goes on with the other one.
            (active(Digest), C_SIGNINIT, WANTED, both),
            (both, C_SIGN, WANTED, active(Digest)),
            (both, C_SIGN, rv(CKR_DATA_LEN_RANGE), active(Digest).with_failed(Sign)),
            (maybe(Digest), C_DIGESTINIT, WANTED, active(Digest)),
            (IDLE, C_SIGNINIT, rv(CKR_KEY_HANDLE_INVALID), IDLE),
            (active(Sign), C_SIGNINIT, rv(CKR_OPERATION_ACTIVE), active(Sign)),
            (IDLE, C_SIGNINIT, rv(CKR_OPERATION_ACTIVE), UNKNOWN),
            (IDLE, C_SIGNINIT, cancel, IDLE),
            (active(Sign), C_SIGNINIT, cancel, maybe(Sign)),
            (active(Sign), C_SIGN, length, active(Sign)),
            (active(Sign), C_SIGN, rv(CKR_BUFFER_TOO_SMALL), active(Sign)),
            (active(Sign), C_SIGN, WANTED, IDLE),
            (active(Digest), C_SIGN, WANTED, active(Digest)),
            (active(Sign), C_SIGN, rv(CKR_DATA_LEN_RANGE), failed(Sign)),
            (IDLE, C_SIGN, rv(CKR_DATA_LEN_RANGE), failed(Sign)),
            (IDLE, C_SIGN, rv(CKR_OPERATION_NOT_INITIALIZED), IDLE),
            (active(Sign), C_SIGN, rv(CKR_OPERATION_NOT_INITIALIZED), IDLE),
            (both, C_SIGN, rv(CKR_OPERATION_NOT_INITIALIZED), maybe(Digest)),
            (
                active(Digest),
                C_SIGN,
                rv(CKR_OPERATION_NOT_INITIALIZED),
                active(Digest),
            ),
            (active(Sign), C_SIGNUPDATE, WANTED, active(Sign)),
            (active(Sign), C_SIGNUPDATE, rv(CKR_DEVICE_ERROR), failed(Sign)),
            (active(Sign), C_SIGNFINAL, WANTED, IDLE),
            (active(Verify), C_VERIFY, rv(CKR_SIGNATURE_INVALID), IDLE),
            (active(Find), C_FINDOBJECTS, WANTED, active(Find)),
            (active(Find), C_FINDOBJECTSFINAL, WANTED, IDLE),
            (active(Sign), C_SETOPERATIONSTATE, WANTED, UNKNOWN),
            (IDLE, C_LOGIN, WANTED, IDLE),
            (active(Sign), C_LOGOUT, WANTED, maybe(Sign)),
            (active(Sign), C_GENERATEKEY, WANTED, active(Sign)),
            (active(Sign), C_SESSIONCANCEL, WANTED, maybe(Sign)),
            (active(Sign), C_SIGNENCRYPTUPDATE, WANTED, maybe(Sign)),
        ] {
            assert_eq!(after(from, number, outcome), to, "{from:?} {number} {outcome:?}");
        }
    }
}
