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
}

/// What is known of a session's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// None is active.
    Idle,
    /// This one is active, and no other that we know of.
    Active(Operation),
    /// Anything may be.
    Unknown,
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
    /// What is known after a call.
    #[must_use]
    pub fn after(self, call: &Call, outcome: Outcome) -> Self {
        let Some(operation) = Operation::of(call.number) else {
            return self.after_other(call);
        };
        match (call.step, outcome.rv) {
            (Step::Start, CKR_OK) if !outcome.mechanism => self.unless_idle(),
            (Step::Start, CKR_OK) => match self {
                Self::Idle | Self::Unknown => Self::Active(operation),
                // Two at a time, or one that took the other's place.
                Self::Active(_) => Self::Unknown,
            },
            (Step::Start, CKR_OPERATION_ACTIVE) if self == Self::Idle => Self::Unknown,
            // An init call that fails starts nothing and ends nothing.
            (Step::Start, _) => self,
            (Step::Whole | Step::End, CKR_OK) if outcome.wanted => self.ended(operation),
            // A signature that does not fit the data ends the operation as one that does.
            (Step::Whole | Step::End, CKR_SIGNATURE_INVALID | CKR_SIGNATURE_LEN_RANGE) => self.ended(operation),
            (_, CKR_OK | CKR_BUFFER_TOO_SMALL) => self,
            (_, CKR_OPERATION_NOT_INITIALIZED) => self.unless_idle(),
            _ => Self::Unknown,
        }
    }

    /// After a call that belongs to no operation, or to two.
    fn after_other(self, call: &Call) -> Self {
        match call.number {
            C_SETOPERATIONSTATE => Self::Unknown,
            C_DIGESTENCRYPTUPDATE..=C_DECRYPTVERIFYUPDATE | C_SESSIONCANCEL | C_CANCELFUNCTION => self.unless_idle(),
            C_ASYNCCOMPLETE..=C_ASYNCJOIN => Self::Unknown,
            _ => match call.effect {
                // A token may end operations with the login that they need.
                Effect::Login | Effect::Token => self.unless_idle(),
                _ => self,
            },
        }
    }

    fn ended(self, operation: Operation) -> Self {
        if self == Self::Active(operation) {
            Self::Idle
        } else {
            self.unless_idle()
        }
    }

    /// After something that may end operations but starts none.
    fn unless_idle(self) -> Self {
        if self == Self::Idle {
            Self::Idle
        } else {
            Self::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Activity::{Active, Idle, Unknown};
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
        for (from, number, outcome, to) in [
            (Idle, C_SIGNINIT, WANTED, Active(Sign)),
            (Unknown, C_SIGNINIT, WANTED, Active(Sign)),
            (Active(Digest), C_SIGNINIT, WANTED, Unknown),
            (Idle, C_SIGNINIT, rv(CKR_KEY_HANDLE_INVALID), Idle),
            (Active(Sign), C_SIGNINIT, rv(CKR_OPERATION_ACTIVE), Active(Sign)),
            (Idle, C_SIGNINIT, rv(CKR_OPERATION_ACTIVE), Unknown),
            (Idle, C_SIGNINIT, cancel, Idle),
            (Active(Sign), C_SIGNINIT, cancel, Unknown),
            (Active(Sign), C_SIGN, length, Active(Sign)),
            (Active(Sign), C_SIGN, rv(CKR_BUFFER_TOO_SMALL), Active(Sign)),
            (Active(Sign), C_SIGN, WANTED, Idle),
            (Active(Digest), C_SIGN, WANTED, Unknown),
            (Active(Sign), C_SIGN, rv(CKR_DATA_LEN_RANGE), Unknown),
            (Idle, C_SIGN, rv(CKR_OPERATION_NOT_INITIALIZED), Idle),
            (Active(Sign), C_SIGN, rv(CKR_OPERATION_NOT_INITIALIZED), Unknown),
            (Active(Sign), C_SIGNUPDATE, WANTED, Active(Sign)),
            (Active(Sign), C_SIGNUPDATE, rv(CKR_DEVICE_ERROR), Unknown),
            (Active(Sign), C_SIGNFINAL, WANTED, Idle),
            (Active(Verify), C_VERIFY, rv(CKR_SIGNATURE_INVALID), Idle),
            (Active(Find), C_FINDOBJECTS, WANTED, Active(Find)),
            (Active(Find), C_FINDOBJECTSFINAL, WANTED, Idle),
            (Active(Sign), C_SETOPERATIONSTATE, WANTED, Unknown),
            (Idle, C_LOGIN, WANTED, Idle),
            (Active(Sign), C_LOGOUT, WANTED, Unknown),
            (Active(Sign), C_GENERATEKEY, WANTED, Active(Sign)),
            (Active(Sign), C_SESSIONCANCEL, WANTED, Unknown),
            (Active(Sign), C_SIGNENCRYPTUPDATE, WANTED, Unknown),
        ] {
            assert_eq!(after(from, number, outcome), to, "{from:?} {number} {outcome:?}");
        }
    }
}
