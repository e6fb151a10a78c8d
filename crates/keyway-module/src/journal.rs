//! The operations of a session, so that they can be made again where nobody knows of them: on another connection. Pure decisions.
//!
//! An operation is made again by its init call and the updates so far. Some can't be: those whose parameter the token writes,
//! those that use something up, and those that have grown too long.

use crate::knowledge::Init;
use crate::operation::{Operation, Outcome};
use keyway_wire::generated::call::*;
use keyway_wire::generated::mechanism::{CKM_ACTI, CKM_HOTP, CKM_HSS, CKM_SECURID, CKM_XMSS, CKM_XMSSMT};
use keyway_wire::generated::mechanism_flag::*;
use keyway_wire::generated::rv::{CKR_BUFFER_TOO_SMALL, CKR_OK};
use keyway_wire::generated::user_type::CKU_CONTEXT_SPECIFIC;
use keyway_wire::table::{Call, Effect, Step};
use keyway_wire::value::{Mechanism, Member, Parameter, Room, Value};
use keyway_wire::{call, decode_request, encode_request, header_object};
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use zeroize::Zeroizing;

/// What an entry takes besides its body, so that many small ones count, too.
const OVERHEAD: usize = 64;

/// The operations that a saved state may have in it.
const SAVED: u16 = Operation::Encrypt.bit()
    | Operation::Decrypt.bit()
    | Operation::Digest.bit()
    | Operation::Sign.bit()
    | Operation::Verify.bit();

/// The operations that C_SessionCancel ends, by its flags.
const CANCELLED: [(u64, u16); 13] = [
    (CKF_MESSAGE_ENCRYPT, Operation::MessageEncrypt.bit()),
    (CKF_MESSAGE_DECRYPT, Operation::MessageDecrypt.bit()),
    (CKF_MESSAGE_SIGN, Operation::MessageSign.bit()),
    (CKF_MESSAGE_VERIFY, Operation::MessageVerify.bit()),
    (CKF_FIND_OBJECTS, Operation::Find.bit()),
    (CKF_ENCRYPT, Operation::Encrypt.bit()),
    (CKF_DECRYPT, Operation::Decrypt.bit()),
    (CKF_DIGEST, Operation::Digest.bit()),
    (CKF_SIGN, Operation::Sign.bit()),
    (CKF_SIGN_RECOVER, Operation::SignRecover.bit()),
    (CKF_VERIFY, Operation::Verify.bit()),
    (CKF_VERIFY_RECOVER, Operation::VerifyRecover.bit()),
    (CKF_VERIFY, Operation::VerifySignature.bit()),
];

/// A call that is made again.
pub struct Entry {
    /// Its operation.
    pub operation: Operation,
    /// Call number.
    pub call: u16,
    /// The first object argument or 0.
    pub object: u64,
    /// The body, which may be worth hiding.
    pub body: Zeroizing<Vec<u8>>,
    /// What the reply must be like: for an update, its fingerprint.
    reply: Option<u64>,
}

impl Entry {
    /// Whether this is what came of the call before, so that the operation goes on as it would have.
    #[must_use]
    pub fn is_as_before(&self, rv: u64, reply: &[u8]) -> bool {
        rv == CKR_OK && self.reply.map_or(true, |before| before == fingerprint(reply))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body is the application's data.
        write!(f, "Entry({})", self.call)
    }
}

fn fingerprint(reply: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    reply.hash(&mut hasher);
    hasher.finish()
}

/// The active operations of a session.
#[derive(Debug)]
pub struct Journal {
    /// What makes them again, in the order in which it was made.
    entries: Vec<Entry>,
    size: usize,
    limit: usize,
    /// Operations that are active and can't be made again, a bit each.
    fixed: u16,
    /// Operations that went with a connection, which the application has not been told.
    lost: u16,
}

impl Journal {
    /// That of a session without operations, for entries of so many bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            size: 0,
            limit,
            fixed: 0,
            lost: 0,
        }
    }

    /// A call was executed, with this reply.
    pub fn note(&mut self, row: &Call, args: &[Value<'_>], outcome: Outcome, reply: &[u8]) {
        let Some(operation) = Operation::of(row.number) else {
            return self.note_other(row, args, outcome.rv);
        };
        match (row.step, outcome.rv) {
            (Step::Start, CKR_OK) => {
                self.end(operation);
                self.lost &= !operation.bit();
                if outcome.mechanism {
                    self.start(operation, row, args);
                }
            }
            // An init call that fails starts nothing and ends nothing.
            (Step::Start, _) => {}
            (Step::Continue, CKR_OK) => self.go_on(operation, row, args, reply),
            (_, CKR_BUFFER_TOO_SMALL) => {}
            (_, CKR_OK) if !outcome.wanted => {}
            _ => self.end(operation),
        }
    }

    fn note_other(&mut self, row: &Call, args: &[Value<'_>], rv: u64) {
        match (row.number, rv, args) {
            (C_DIGESTENCRYPTUPDATE..=C_DECRYPTVERIFYUPDATE, _, _) => self.fix(u16::MAX),
            (C_SETOPERATIONSTATE, CKR_OK, _) => {
                self.remove(SAVED);
                self.fixed |= SAVED;
            }
            (C_LOGIN | C_LOGINUSER, CKR_OK, [Value::Ulong(CKU_CONTEXT_SPECIFIC), ..]) => self.fix(u16::MAX),
            (C_SESSIONCANCEL, CKR_OK, [Value::Ulong(flags)]) => {
                let ended = CANCELLED.iter().filter(|(flag, _)| flags & flag != 0);
                self.remove(ended.fold(0, |bits, (_, bit)| bits | bit));
            }
            _ => {}
        }
    }

    fn start(&mut self, operation: Operation, row: &Call, args: &[Value<'_>]) {
        if can_be_made_again(operation, args) {
            self.put(operation, row, args, None);
        } else {
            self.fixed |= operation.bit();
        }
    }

    fn go_on(&mut self, operation: Operation, row: &Call, args: &[Value<'_>], reply: &[u8]) {
        let asks_for_length = args
            .iter()
            .any(|arg| matches!(arg, Value::Room(Room { buffer: false, .. })));
        // The objects that a search has found have a place of their own.
        if operation == Operation::Find || asks_for_length || self.fixed & operation.bit() != 0 {
            return;
        }
        if self.entries.iter().any(|entry| entry.operation == operation) {
            self.put(operation, row, args, Some(fingerprint(reply)));
        } else {
            self.fixed |= operation.bit();
        }
    }

    /// An operation was started by an init call that had been kept back.
    pub fn started(&mut self, init: &Init) {
        let Some((operation, row)) = Operation::of(init.call).zip(call(init.call)) else {
            return;
        };
        self.end(operation);
        if let Ok(args) = decode_request(row, init.object, &init.body) {
            self.start(operation, row, &args);
        }
    }

    fn put(&mut self, operation: Operation, row: &Call, args: &[Value<'_>], reply: Option<u64>) {
        let mut body = Zeroizing::new(Vec::new());
        let encoded = encode_request(row, args, &mut body);
        self.size += body.len() + OVERHEAD;
        self.entries.push(Entry {
            operation,
            call: row.number,
            object: header_object(row, args),
            body,
            reply,
        });
        if encoded.is_err() || self.size > self.limit {
            self.fix(operation.bit());
        }
    }

    /// The operation is over, or the application takes it to be.
    pub fn end(&mut self, operation: Operation) {
        self.remove(operation.bit());
    }

    fn remove(&mut self, bits: u16) {
        self.fixed &= !bits;
        self.entries.retain(|entry| entry.operation.bit() & bits == 0);
        self.size = self.entries.iter().map(|entry| entry.body.len() + OVERHEAD).sum();
    }

    /// Those of these operations that are active, but for a search, can't be made again from now on.
    fn fix(&mut self, bits: u16) {
        let bits = bits & !Operation::Find.bit();
        let active = self
            .entries
            .iter()
            .fold(self.fixed, |active, entry| active | entry.operation.bit());
        self.remove(bits);
        self.fixed |= active & bits;
    }

    /// The connection is lost, and with it what can't be made again.
    pub fn lose(&mut self) {
        self.lost |= std::mem::take(&mut self.fixed);
    }

    /// What makes the others again, in this order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// These operations could not be made again, a bit each.
    pub fn fail(&mut self, bits: u16) {
        self.remove(bits);
        self.lost |= bits;
    }

    /// Whether this call belongs to an operation that was lost. It is told once.
    pub fn tell_lost(&mut self, row: &Call) -> bool {
        let bits = bits_of(row);
        let told = self.lost & bits != 0 && row.step != Step::Start;
        self.lost &= !bits;
        told
    }

    /// Whether a call whose reply was lost along with the connection can be made again: it had no effect, or none that
    /// outlasts the session. `deferred` is the init call that travelled with it.
    #[must_use]
    pub fn can_repeat(&self, row: &Call, deferred: Option<&Init>) -> bool {
        if !row.repeat && row.effect != Effect::Session {
            return false;
        }
        match deferred.filter(|init| init.call == row.init) {
            Some(init) => is_harmless(init),
            None => row.step == Step::Start || self.fixed & bits_of(row) == 0,
        }
    }
}

/// The operations that a call belongs to.
fn bits_of(row: &Call) -> u16 {
    match Operation::of(row.number) {
        Some(operation) => operation.bit(),
        None if row.step == Step::None => 0,
        None => !Operation::Find.bit(),
    }
}

fn is_harmless(init: &Init) -> bool {
    let decoded = call(init.call).and_then(|row| decode_request(row, init.object, &init.body).ok());
    Operation::of(init.call)
        .zip(decoded)
        .is_some_and(|(operation, args)| can_be_made_again(operation, &args))
}

/// Whether an operation that an init call with these arguments starts is the same when it is started once more.
fn can_be_made_again(operation: Operation, args: &[Value<'_>]) -> bool {
    use Operation::{MessageDecrypt, MessageEncrypt, MessageSign, MessageVerify};
    !matches!(operation, MessageEncrypt | MessageDecrypt | MessageSign | MessageVerify)
        && args.iter().all(|arg| match arg {
            Value::Mechanism(Some(mechanism)) => !uses_up(operation, mechanism.mechanism) && !is_written(mechanism),
            _ => true,
        })
}

/// Whether each operation uses something up: a one-time key or password.
fn uses_up(operation: Operation, mechanism: u64) -> bool {
    match mechanism {
        CKM_HSS | CKM_XMSS | CKM_XMSSMT => operation == Operation::Sign,
        CKM_SECURID | CKM_HOTP | CKM_ACTI => true,
        _ => false,
    }
}

/// Whether the token may write into the parameter.
fn is_written(mechanism: &Mechanism<'_>) -> bool {
    fn parameter(value: &Parameter<'_>) -> bool {
        match value {
            Parameter::Structured(id, members) => {
                keyway_wire::shape(*id).map_or(true, |shape| shape.out) || members.iter().any(member)
            }
            Parameter::Null(_) | Parameter::Flat(_) | Parameter::Unchanged => false,
        }
    }
    fn member(value: &Member<'_>) -> bool {
        match value {
            Member::Struct(members) | Member::Pointer(Some(members)) => members.iter().any(member),
            Member::Structs(Ok(all)) => all.iter().flatten().any(member),
            Member::Mechanism(Some(mechanism)) => is_written(mechanism),
            Member::Parameter(value) => parameter(value),
            _ => false,
        }
    }
    parameter(&mechanism.parameter)
}
