//! Who is logged in to which slot, so that it can be said again on another connection.

use crate::lock::lock;
use keyway_abi::secret::Secret;
use keyway_wire::generated::call::{C_LOGIN, C_LOGINUSER, C_LOGOUT, C_SETPIN};
use keyway_wire::generated::rv::*;
use keyway_wire::generated::user_type::CKU_CONTEXT_SPECIFIC;
use keyway_wire::table::{Call, Effect};
use keyway_wire::value::{Bytes, Value};
use keyway_wire::{call, decode_request, encode_request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Once};
use zeroize::Zeroizing;

/// So often a login that nobody has answered is made again before the PIN is forgotten: a token may count it as a wrong one.
const UNANSWERED: u32 = 3;

/// C_Login or C_LoginUser as it was made.
#[derive(Debug)]
pub struct Kept {
    /// Call number.
    pub call: u16,
    /// The body.
    pub body: Secret,
}

/// The login of a slot.
#[derive(Debug, Default)]
pub struct Login {
    kept: Option<Kept>,
    /// The number of the connection on which it was made, or on which there is none to be made.
    on: Option<u64>,
    /// Whether somebody is logged in there.
    is_in: bool,
    unanswered: u32,
}

/// What is to be done about the login of a session on a new connection.
#[derive(Debug)]
pub enum Due<'l> {
    /// It is there already.
    Nothing,
    /// Nobody is logged in, or it is not known how.
    Unknown,
    /// This call is to be made.
    Login(&'l Kept),
}

/// What came of a login that was made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is as before.
    In,
    /// The token does not want it any more.
    Refused,
    /// It is not known, or may work later. The RV.
    Failed(u64),
}

/// What an RV of a login that was made again tells.
const fn verdict(rv: u64) -> Verdict {
    match rv {
        CKR_OK | CKR_USER_ALREADY_LOGGED_IN => Verdict::In,
        CKR_PIN_INCORRECT..=CKR_PIN_LOCKED
        | CKR_PIN_TOO_WEAK
        | CKR_USER_PIN_NOT_INITIALIZED
        | CKR_USER_TYPE_INVALID
        | CKR_USER_ANOTHER_ALREADY_LOGGED_IN
        | CKR_USER_TOO_MANY_TYPES => Verdict::Refused,
        rv => Verdict::Failed(rv),
    }
}

/// What a call means for the login that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    Forget,
    /// This call is to be made again.
    Keep,
    /// The PIN is another one.
    Replace,
}

/// Whether a call may change the login of its slot.
#[must_use]
pub const fn may_change(call: &Call) -> bool {
    matches!(call.effect, Effect::Login) || call.number == C_SETPIN
}

/// What a call means whose RV is this; None if it was lost with the connection.
fn change(call: u16, args: &[Value<'_>], rv: Option<u64>) -> Change {
    match (call, rv, args) {
        (C_LOGIN | C_LOGINUSER, _, [Value::Ulong(CKU_CONTEXT_SPECIFIC), ..]) => Change::Nothing,
        (C_LOGIN | C_LOGINUSER, Some(CKR_OK), _) => Change::Keep,
        (C_LOGOUT, Some(CKR_OK | CKR_USER_NOT_LOGGED_IN), _) => Change::Forget,
        (C_SETPIN, Some(CKR_OK), _) => Change::Replace,
        // One that may be wrong is not tried.
        (C_LOGOUT | C_SETPIN, None, _) => Change::Forget,
        _ => Change::Nothing,
    }
}

impl Login {
    /// What is due on the connection with this number.
    pub fn due(&mut self, connection: u64) -> Due<'_> {
        if self.on == Some(connection) {
            return Due::Nothing;
        }
        match &self.kept {
            Some(kept) => Due::Login(kept),
            None => {
                (self.on, self.is_in) = (Some(connection), false);
                Due::Unknown
            }
        }
    }

    /// The login was made again on the connection with this number. Without an RV the connection was lost.
    pub fn made(&mut self, connection: u64, rv: Option<u64>) -> Verdict {
        let verdict = verdict(rv.unwrap_or(CKR_DEVICE_ERROR));
        match verdict {
            Verdict::In => {
                (self.on, self.is_in) = (Some(connection), true);
                self.unanswered = 0;
            }
            Verdict::Refused => self.forget(),
            // The token has not been asked.
            Verdict::Failed(CKR_DEVICE_REMOVED | CKR_TOKEN_NOT_PRESENT | CKR_HOST_MEMORY) => {}
            Verdict::Failed(_) => {
                self.unanswered += 1;
                if self.unanswered >= UNANSWERED {
                    self.forget();
                }
            }
        }
        verdict
    }

    /// Whether somebody is logged in on the connection with this number.
    #[must_use]
    pub fn is_in(&self, connection: u64) -> bool {
        self.is_in && self.on == Some(connection)
    }

    /// It may not be there any more.
    pub fn doubt(&mut self) {
        self.on = None;
    }

    /// Nobody is logged in, or nobody who can be again. The PIN is wiped.
    pub fn forget(&mut self) {
        self.kept = None;
        self.is_in = false;
        self.unanswered = 0;
    }

    /// The application has made a call on the connection with this number. Without an RV the connection was lost.
    pub fn note(&mut self, row: &Call, args: &[Value<'_>], rv: Option<u64>, connection: u64, remember: bool) {
        match change(row.number, args, rv) {
            Change::Nothing => {}
            Change::Forget => self.forget(),
            Change::Keep => {
                self.forget();
                (self.on, self.is_in) = (Some(connection), true);
                if remember {
                    self.kept = Kept::new(row, args);
                }
            }
            Change::Replace => self.kept = self.kept.take().and_then(|kept| kept.with(args)),
        }
    }
}

impl Kept {
    fn new(row: &Call, args: &[Value<'_>]) -> Option<Self> {
        // Room for the whole, so that no part of it is left behind in a buffer that was too small.
        let room: usize = args.iter().map(|arg| length(arg) + 16).sum();
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        encode_request(row, args, &mut body).ok()?;
        static TOLD: Once = Once::new();
        let body = Secret::new(&body)
            .inspect_err(|error| {
                // There is nobody else to tell.
                TOLD.call_once(|| {
                    eprintln!("keyway: a PIN is not remembered, since it can't be kept in memory: {error}")
                });
            })
            .ok()?;
        Some(Self { call: row.number, body })
    }

    /// The same with the new PIN of C_SetPIN. One that was typed elsewhere is not known.
    fn with(self, args: &[Value<'_>]) -> Option<Self> {
        let row = call(self.call)?;
        let mut own = decode_request(row, 0, self.body.bytes()).ok()?;
        match (own.get_mut(1)?, args) {
            (Value::Bytes(Bytes::Null(_)), _) => {}
            (Value::Bytes(pin), [_, Value::Bytes(new @ Bytes::Data(_))]) => *pin = *new,
            _ => return None,
        }
        Self::new(row, &own)
    }
}

fn length(arg: &Value<'_>) -> usize {
    match arg {
        Value::Bytes(Bytes::Data(bytes)) => bytes.len(),
        _ => 0,
    }
}

/// The logins of a context.
#[derive(Debug, Default)]
pub struct Logins(Mutex<HashMap<u64, Arc<Mutex<Login>>>>);

impl Logins {
    /// That of a slot. Its lock is held while a call is made that may change it; so threads that renew sessions of one slot
    /// wait for the one that logs in. It is taken after the lock of a session, never before.
    pub fn of(&self, slot: u64) -> Arc<Mutex<Login>> {
        Arc::clone(lock(&self.0).entry(slot).or_default())
    }

    /// That of a slot, if it was asked for before.
    pub fn known(&self, slot: u64) -> Option<Arc<Mutex<Login>>> {
        lock(&self.0).get(&slot).cloned()
    }

    /// The context ends.
    pub fn forget_all(&self) {
        let all = std::mem::take(&mut *lock(&self.0));
        all.into_values().for_each(|login| lock(&login).forget());
    }
}
