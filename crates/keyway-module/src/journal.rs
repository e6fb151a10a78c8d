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
        self.lost &= !operation.bit();
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

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_wire::generated::mechanism::{CKM_AES_CBC, CKM_AES_GCM, CKM_ECDSA, CKM_SHA256};
    use keyway_wire::generated::rv::{CKR_DATA_LEN_RANGE, CKR_SIGNATURE_INVALID};
    use keyway_wire::generated::{shapes_of, CALLS};
    use keyway_wire::table::Target;
    use keyway_wire::value::{Bytes, ObjectsRoom};

    const OK: Outcome = Outcome {
        rv: CKR_OK,
        wanted: true,
        mechanism: true,
    };

    fn row(number: u16) -> &'static Call {
        call(number).expect("a call")
    }

    fn mechanism(mechanism: u64, parameter: Parameter<'static>) -> Value<'static> {
        Value::Mechanism(Some(Mechanism { mechanism, parameter }))
    }

    /// Begins an operation with a mechanism without a parameter.
    fn begin(journal: &mut Journal, number: u16, kind: u64) {
        let mut args = vec![mechanism(kind, Parameter::Null(0)), Value::Ulong(7)];
        args.truncate(row(number).args.len());
        journal.note(row(number), &args, OK, b"");
    }

    fn go_on(journal: &mut Journal, number: u16, part: &[u8]) {
        let room = Room {
            length: Some(99),
            buffer: true,
        };
        let mut args = vec![Value::Bytes(Bytes::Data(part)), Value::Room(room)];
        args.truncate(row(number).args.len());
        journal.note(row(number), &args, OK, b"reply");
    }

    fn calls(journal: &Journal) -> Vec<u16> {
        journal.entries().iter().map(|entry| entry.call).collect()
    }

    #[test]
    fn what_must_not_be_made_twice() {
        let journal = Journal::new(1_000);
        let never: Vec<u16> = CALLS
            .iter()
            .filter(|row| row.target == Target::Session && !journal.can_repeat(row, None))
            .map(|row| row.number)
            .collect();
        let expected = [
            C_INITPIN,
            C_SETPIN,
            C_LOGIN,
            C_LOGOUT,
            C_CREATEOBJECT,
            C_COPYOBJECT,
            C_DESTROYOBJECT,
            C_SETATTRIBUTEVALUE,
            C_GENERATEKEY,
            C_GENERATEKEYPAIR,
            C_UNWRAPKEY,
            C_DERIVEKEY,
            C_LOGINUSER,
            C_ENCAPSULATEKEY,
            C_DECAPSULATEKEY,
            C_ASYNCCOMPLETE,
            C_ASYNCGETID,
            C_ASYNCJOIN,
            C_UNWRAPKEYAUTHENTICATED,
        ];
        assert_eq!(never, expected);
    }

    #[test]
    fn an_operation_is_made_again_by_its_init_call_and_its_updates() {
        let mut journal = Journal::new(1_000);
        begin(&mut journal, C_ENCRYPTINIT, CKM_AES_CBC);
        go_on(&mut journal, C_ENCRYPTUPDATE, b"one");
        begin(&mut journal, C_DIGESTINIT, CKM_SHA256);
        go_on(&mut journal, C_DIGESTUPDATE, b"two");
        go_on(&mut journal, C_ENCRYPTUPDATE, b"three");
        let all = [
            C_ENCRYPTINIT,
            C_ENCRYPTUPDATE,
            C_DIGESTINIT,
            C_DIGESTUPDATE,
            C_ENCRYPTUPDATE,
        ];
        assert_eq!(calls(&journal), all);
        let update = &journal.entries()[1];
        assert!(update.is_as_before(CKR_OK, b"reply"));
        assert!(!update.is_as_before(CKR_OK, b"other"));
        assert!(!update.is_as_before(CKR_DATA_LEN_RANGE, b"reply"));
        assert_eq!(journal.entries()[0].object, 7);
        assert!(journal.entries()[0].is_as_before(CKR_OK, b"whatever"));

        let end = |rv, wanted| Outcome { rv, wanted, ..OK };
        for (outcome, left) in [
            (end(CKR_OK, false), all.as_slice()),
            (end(CKR_BUFFER_TOO_SMALL, true), &all),
            (end(CKR_OK, true), &[C_DIGESTINIT, C_DIGESTUPDATE]),
        ] {
            journal.note(row(C_ENCRYPTFINAL), &[], outcome, b"");
            assert_eq!(calls(&journal), left);
        }
        journal.note(row(C_DIGESTUPDATE), &[], end(CKR_DATA_LEN_RANGE, true), b"");
        assert_eq!(calls(&journal), [], "an error ends it, too");
        begin(&mut journal, C_VERIFYINIT, CKM_ECDSA);
        journal.note(row(C_VERIFY), &[], end(CKR_SIGNATURE_INVALID, true), b"");
        assert_eq!((calls(&journal), journal.size), (vec![], 0));
    }

    #[test]
    fn what_asks_or_fails_begins_nothing() {
        let mut journal = Journal::new(1_000);
        begin(&mut journal, C_ENCRYPTINIT, CKM_AES_CBC);
        let query = Room {
            length: Some(0),
            buffer: false,
        };
        let args = [Value::Bytes(Bytes::Data(b"part")), Value::Room(query)];
        journal.note(row(C_ENCRYPTUPDATE), &args, OK, b"");
        journal.note(row(C_ENCRYPTINIT), &[], Outcome { rv: 5, ..OK }, b"");
        assert_eq!(calls(&journal), [C_ENCRYPTINIT]);
        // Without a mechanism it ends what there is.
        let cancel = Outcome { mechanism: false, ..OK };
        journal.note(
            row(C_ENCRYPTINIT),
            &[Value::Mechanism(None), Value::Ulong(0)],
            cancel,
            b"",
        );
        assert_eq!(calls(&journal), []);
    }

    #[test]
    fn an_operation_that_grows_too_long_is_lost_and_told_once() {
        let mut journal = Journal::new(500);
        begin(&mut journal, C_DIGESTINIT, CKM_SHA256);
        begin(&mut journal, C_SIGNINIT, CKM_ECDSA);
        for _ in 0..100 {
            go_on(&mut journal, C_DIGESTUPDATE, b"");
            assert!(journal.size <= 500);
        }
        assert_eq!(calls(&journal), [C_SIGNINIT]);
        assert!(!journal.can_repeat(row(C_DIGESTFINAL), None) && journal.can_repeat(row(C_SIGNFINAL), None));
        assert!(journal.can_repeat(row(C_DIGESTINIT), None) && journal.can_repeat(row(C_GENERATERANDOM), None));
        assert!(!journal.tell_lost(row(C_DIGESTFINAL)), "the connection is there");
        journal.lose();
        assert!(!journal.tell_lost(row(C_SIGNUPDATE)) && !journal.tell_lost(row(C_GENERATERANDOM)));
        assert!(journal.tell_lost(row(C_DIGESTFINAL)) && !journal.tell_lost(row(C_DIGESTFINAL)));
        // Or it is not told at all, if the application begins another one.
        begin(&mut journal, C_DIGESTINIT, CKM_SHA256);
        go_on(&mut journal, C_DIGESTUPDATE, &[0; 600]);
        journal.lose();
        assert!(!journal.tell_lost(row(C_DIGESTINIT)) && !journal.tell_lost(row(C_DIGESTFINAL)));
    }

    #[test]
    fn which_mechanisms_are_made_again() {
        let gcm = vec![
            Member::String(Bytes::Data(b"iv")),
            Member::Ulong(96),
            Member::String(Bytes::Null(0)),
            Member::Ulong(128),
        ];
        let gcm = Parameter::Structured(shapes_of(CKM_AES_GCM)[0], gcm);
        let null = Parameter::Null(0);
        for (number, kind, parameter, again) in [
            (C_SIGNINIT, CKM_ECDSA, null.clone(), true),
            (C_ENCRYPTINIT, CKM_AES_CBC, Parameter::Flat(b"iv"), true),
            (C_ENCRYPTINIT, CKM_AES_GCM, gcm, false),
            (C_SIGNINIT, CKM_HSS, null.clone(), false),
            (C_SIGNINIT, CKM_XMSS, null.clone(), false),
            (C_SIGNINIT, CKM_XMSSMT, null.clone(), false),
            // Looking at a one-time signature uses nothing up.
            (C_VERIFYINIT, CKM_HSS, null.clone(), true),
            (C_SIGNINIT, CKM_HOTP, null.clone(), false),
            (C_VERIFYINIT, CKM_HOTP, null.clone(), false),
            (C_VERIFYINIT, CKM_SECURID, null.clone(), false),
            (C_SIGNINIT, CKM_ACTI, null.clone(), false),
            (C_MESSAGEENCRYPTINIT, CKM_AES_CBC, null.clone(), false),
            (C_MESSAGEVERIFYINIT, CKM_ECDSA, null, false),
        ] {
            let args = [mechanism(kind, parameter), Value::Ulong(7)];
            let mut journal = Journal::new(1_000);
            journal.note(row(number), &args, OK, b"");
            assert_eq!(!journal.entries().is_empty(), again, "{number} {kind:#x}");
            journal.lose();
            let next = CALLS.iter().find(|row| {
                Operation::of(row.number) == Operation::of(number) && matches!(row.step, Step::Whole | Step::Continue)
            });
            assert_eq!(journal.tell_lost(next.expect("a call")), !again, "{number} {kind:#x}");
            // The same, where the init call travels along.
            let mut body = Vec::new();
            encode_request(row(number), &args, &mut body).expect("a body");
            let init = Init {
                slot: 1,
                call: number,
                object: 7,
                body,
            };
            let whole = CALLS.iter().find(|row| row.init == number);
            if let Some(whole) = whole {
                assert_eq!(
                    Journal::new(0).can_repeat(whole, Some(&init)),
                    again,
                    "{number} {kind:#x}"
                );
                let mut journal = Journal::new(1_000);
                journal.started(&init);
                assert_eq!(!journal.entries().is_empty(), again, "{number} {kind:#x}");
            }
        }
    }

    #[test]
    fn what_ends_or_fixes_several_operations() {
        let both = || {
            let mut journal = Journal::new(1_000);
            begin(&mut journal, C_DIGESTINIT, CKM_SHA256);
            begin(&mut journal, C_ENCRYPTINIT, CKM_AES_CBC);
            let template = Value::Template(keyway_wire::value::Template::Null(0));
            journal.note(row(C_FINDOBJECTSINIT), &[template], OK, b"");
            journal
        };
        let flags = |flags| vec![Value::Ulong(flags)];
        let pin = |user| vec![Value::Ulong(user), Value::Bytes(Bytes::Data(b"1"))];
        let (digest, encrypt, find) = (C_DIGESTINIT, C_ENCRYPTINIT, C_FINDOBJECTSINIT);
        for (number, args, left, fixed) in [
            (C_SESSIONCANCEL, flags(CKF_DIGEST | CKF_SIGN), vec![encrypt, find], 0),
            (C_SESSIONCANCEL, flags(CKF_FIND_OBJECTS), vec![digest, encrypt], 0),
            (C_SESSIONCANCEL, flags(0), vec![digest, encrypt, find], 0),
            (C_DIGESTENCRYPTUPDATE, vec![], vec![find], 2),
            (C_SETOPERATIONSTATE, vec![], vec![find], 5),
            (C_LOGIN, pin(CKU_CONTEXT_SPECIFIC), vec![find], 2),
            (C_LOGIN, pin(1), vec![digest, encrypt, find], 0),
            (C_GENERATERANDOM, vec![], vec![digest, encrypt, find], 0),
        ] {
            let mut journal = both();
            journal.note(row(number), &args, OK, b"");
            assert_eq!(calls(&journal), left, "{number}");
            assert_eq!(journal.fixed.count_ones(), fixed, "{number}");
        }
        // The objects of a search are kept elsewhere.
        let mut journal = both();
        let room = ObjectsRoom {
            maximum: 1,
            count: true,
            buffer: true,
        };
        journal.note(row(C_FINDOBJECTS), &[Value::ObjectsRoom(room)], OK, b"");
        assert_eq!(calls(&journal), [digest, encrypt, find]);
        assert!(!format!("{journal:?}").contains("body"));
    }
}
