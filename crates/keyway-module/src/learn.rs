//! What the module learns, and what it therefore need not ask. Pure decisions; docs/architecture.md tells why they are exact.
//!
//! Once an init call and the call that it is for have both succeeded on a token, the same init call on a session without an
//! operation is answered at once and *deferred*: it travels with the call that follows (docs/wire.md, section 5). Whatever
//! else happens on the session sends it first.

use crate::ahead::Ahead;
use crate::journal::Journal;
use crate::knowledge::{Facts, Init, Knowledge, Lesson};
use crate::operation::{Activity, Operation, Outcome};
use crate::search::Search;
use keyway_wire::generated::call::{
    C_CLOSEALLSESSIONS, C_CLOSESESSION, C_DESTROYOBJECT, C_FINDOBJECTSFINAL, C_GETSLOTLIST, C_SETATTRIBUTEVALUE,
    C_WAITFORSLOTEVENT,
};
use keyway_wire::generated::rv::{
    CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY, CKR_DEVICE_REMOVED, CKR_OK, CKR_SESSION_CLOSED, CKR_SESSION_HANDLE_INVALID,
    CKR_TOKEN_NOT_PRESENT,
};
use keyway_wire::generated::{shapes_of, CALLS};
use keyway_wire::header_object;
use keyway_wire::table::{Call, Effect, MemberKind, Step};
use keyway_wire::value::{Bytes, Mechanism, Member, Output, Parameter, Room, Value};

/// What the module knows of one session.
#[derive(Debug)]
pub struct View {
    /// Its operations.
    pub activity: Activity,
    /// How many calls that change a token had begun or ended when that was looked at.
    pub token_changes: u64,
    /// The init call that was answered and has not been sent.
    pub deferred: Option<(Init, Facts)>,
    /// The init call of the active operation, if it was one that can be learned.
    pub current: Option<Lesson>,
    /// A deferred init call that failed when it was sent: its operation and RV.
    pub failed: Option<(Operation, u64)>,
    /// Whether objects were made in this session; some may end with it.
    pub created: bool,
    /// Whether it was open when its closing began, and others of its slot were to stay.
    pub leaves_others: bool,
    /// Its last search.
    pub search: Search,
    /// What is known ahead of what that search has found.
    pub ahead: Ahead,
    /// What makes its operations again; None if it is lost with its connection.
    pub journal: Option<Journal>,
}

impl View {
    /// That of a session just opened.
    #[must_use]
    pub fn new() -> Self {
        Self {
            journal: None,
            activity: Activity::IDLE,
            token_changes: 0,
            deferred: None,
            current: None,
            failed: None,
            created: false,
            leaves_others: false,
            search: Search::default(),
            ahead: Ahead::default(),
        }
    }
}

/// What is to be done about a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// Send the call.
    Send,
    /// Send it and wait for nothing: its RV is CKR_OK.
    Post,
    /// Send it together with the deferred init call.
    Fuse,
    /// Send the deferred init call, then look again.
    Flush,
    /// Answer with the length of the result.
    Length(u64),
    /// Answer with this RV: it is that of the init call.
    Fail(u64),
    /// Drop the deferred init call, then send this one.
    Drop,
}

/// Decides about a call that is not an init call to be deferred.
#[must_use]
pub fn plan(view: &View, call: &Call, args: &[Value<'_>]) -> Plan {
    let operation = Operation::of(call.number);
    if let Some((init, facts)) = &view.deferred {
        return if call.init == init.call {
            match (facts.length, args) {
                (
                    Some(length),
                    [Value::Bytes(Bytes::Data(_)), Value::Room(Room {
                        length: Some(_),
                        buffer: false,
                    })],
                ) => Plan::Length(length),
                _ => Plan::Fuse,
            }
        } else if call.number == C_CLOSESESSION {
            Plan::Drop
        } else {
            Plan::Flush
        };
    }
    match view.failed {
        Some((failed, rv)) if Some(failed) == operation && call.step != Step::Start => Plan::Fail(rv),
        _ if call.number == C_FINDOBJECTSFINAL && view.activity == Activity::active(Operation::Find) => Plan::Post,
        // Nothing ends but a session that is there.
        _ if call.number == C_CLOSESESSION && view.leaves_others && !view.created => Plan::Post,
        _ => Plan::Send,
    }
}

/// Whether this is an init call that could be deferred at all.
#[must_use]
pub fn can_be_learned(call: &Call, args: &[Value<'_>]) -> bool {
    call.step == Step::Start
        && CALLS.iter().any(|other| other.init == call.number)
        && args.iter().all(|arg| match arg {
            Value::Mechanism(mechanism) => mechanism.as_ref().is_some_and(is_repeatable),
            _ => true,
        })
}

/// Whether a mechanism means the same whenever it is given: the token writes nothing into its parameter (a fused call could not
/// bring that back), and it names no object (which might go, and another come).
fn is_repeatable(mechanism: &Mechanism<'_>) -> bool {
    let plain = |member: &Member<'_>| {
        matches!(
            member,
            Member::Ulong(_)
                | Member::Byte(_)
                | Member::Array(_)
                | Member::Ulongs(_)
                | Member::String(_)
                | Member::Version(_)
        )
    };
    match &mechanism.parameter {
        Parameter::Null(_) | Parameter::Flat(_) => true,
        Parameter::Structured(id, members) => {
            shapes_of(mechanism.mechanism).contains(id)
                && keyway_wire::shape(*id).is_some_and(|shape| {
                    !shape.out && shape.members.iter().all(|member| member.kind != MemberKind::Object)
                })
                && members.iter().all(plain)
        }
        Parameter::Unchanged => false,
    }
}

/// Whether an init call is to be deferred, and what is known of it then.
pub fn defer(view: &View, knowledge: &mut Knowledge, init: &Init) -> Option<Facts> {
    let ready = view.activity == Activity::IDLE && view.deferred.is_none();
    ready.then(|| knowledge.get(init)).flatten()
}

/// What a call and its reply tell, apart from the reply's data.
#[must_use]
pub fn outcome(call: &Call, args: &[Value<'_>], rv: u64) -> Outcome {
    let wanted = args
        .iter()
        .all(|arg| !matches!(arg, Value::Room(Room { buffer: false, .. })));
    let mechanism = args.iter().all(|arg| !matches!(arg, Value::Mechanism(None)));
    Outcome {
        rv,
        wanted: wanted || call.step != Step::Whole && call.step != Step::End,
        mechanism,
    }
}

/// What a reply teaches about the init call of its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teaching {
    Nothing,
    /// How long the result will be, whatever the data.
    Length(u64),
    /// That it leads to success.
    Success,
}

/// What a call and its reply teach.
#[must_use]
pub fn teaching(call: &Call, args: &[Value<'_>], reply: &[Value<'_>], outcome: Outcome) -> Teaching {
    if outcome.rv != CKR_OK || call.init == 0 {
        return Teaching::Nothing;
    }
    if outcome.wanted {
        return Teaching::Success;
    }
    let constant = matches!(Operation::of(call.number), Some(Operation::Sign | Operation::Digest));
    match (args, reply) {
        (
            [Value::Bytes(Bytes::Data(_)), _],
            [Value::Output(Output {
                length: Some(length), ..
            })],
        ) if constant => Teaching::Length(*length),
        _ => Teaching::Nothing,
    }
}

/// What a call may do to what is known and to what is deferred in other sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The token's objects: deferred calls go first, nothing is forgotten.
    Objects,
    /// This object.
    Object(u64),
    /// The token's state: everything.
    Token,
}

/// What a call disturbs, before it is made. `ending` tells that C_CloseSession ends more than the session:
/// objects made in it, or the login.
#[must_use]
pub fn disturbance(call: &Call, args: &[Value<'_>], ending: bool) -> Option<Disturbance> {
    match (call.number, call.effect) {
        (C_DESTROYOBJECT | C_SETATTRIBUTEVALUE, _) => Some(Disturbance::Object(header_object(call, args))),
        (C_CLOSEALLSESSIONS, _) => Some(Disturbance::Token),
        (C_CLOSESESSION, _) => ending.then_some(Disturbance::Token),
        (_, Effect::Objects) => Some(Disturbance::Objects),
        (_, Effect::Login | Effect::Token) => Some(Disturbance::Token),
        (_, Effect::None | Effect::Session | Effect::Context) => None,
    }
}

/// Whether success of this call makes an object.
#[must_use]
pub fn creates(call: &Call) -> bool {
    call.effect == Effect::Objects && !matches!(call.number, C_DESTROYOBJECT | C_SETATTRIBUTEVALUE)
}

/// Whether success of this call may mean that there are other tokens than before, or that the application wants to know.
#[must_use]
pub fn looks_anew(call: &Call, args: &[Value<'_>]) -> bool {
    match call.number {
        C_GETSLOTLIST => args
            .iter()
            .any(|arg| matches!(arg, Value::Room(Room { buffer: false, .. }))),
        C_WAITFORSLOTEVENT => true,
        _ => false,
    }
}

/// Whether this RV says that the token may not be the one any more that we know.
#[must_use]
pub const fn is_upheaval(rv: u64) -> bool {
    matches!(
        rv,
        CKR_DEVICE_ERROR | CKR_DEVICE_MEMORY | CKR_DEVICE_REMOVED | CKR_TOKEN_NOT_PRESENT
    )
}

/// Whether this RV of a session's call says that the session is over, though the application has not closed it; so may the login be.
/// A session that can be made anew lives on when its token is away.
#[must_use]
pub const fn is_lost(rv: u64, renewable: bool) -> bool {
    match rv {
        CKR_SESSION_HANDLE_INVALID | CKR_SESSION_CLOSED => true,
        CKR_DEVICE_REMOVED => !renewable,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyway_wire::call;
    use keyway_wire::generated::call::*;
    use keyway_wire::generated::mechanism::{
        CKM_AES_CTR, CKM_AES_GCM, CKM_ECDSA, CKM_RSA_PKCS_PSS, CKM_SHA256, CKM_VENDOR_DEFINED,
    };
    use keyway_wire::generated::rv::{CKR_KEY_HANDLE_INVALID, CKR_SIGNATURE_INVALID};
    use keyway_wire::value::Numbers;

    const OK: Outcome = Outcome {
        rv: CKR_OK,
        wanted: true,
        mechanism: true,
    };

    fn row(number: u16) -> &'static Call {
        call(number).expect("a call")
    }

    fn init(object: u64) -> Init {
        Init {
            slot: 5,
            call: C_SIGNINIT,
            object,
            body: vec![1, 2, 3],
        }
    }

    fn lesson(object: u64, length: Option<u64>, age: u64) -> Lesson {
        Lesson {
            init: init(object),
            facts: Facts { length },
            age,
        }
    }

    fn deferred(length: Option<u64>) -> View {
        View {
            deferred: Some((init(7), Facts { length })),
            ..View::new()
        }
    }

    fn data() -> Value<'static> {
        Value::Bytes(Bytes::Data(b"data"))
    }

    fn room(buffer: bool) -> Value<'static> {
        Value::Room(Room {
            length: Some(100),
            buffer,
        })
    }

    #[test]
    fn an_init_call_is_deferred_only_where_no_operation_can_be_active() {
        let mut knowledge = Knowledge::default();
        knowledge.learn(&lesson(7, None, 0));
        let mut view = View::new();
        assert!(defer(&view, &mut knowledge, &init(7)).is_some());
        assert!(defer(&view, &mut knowledge, &init(8)).is_none());
        for activity in [Activity::UNKNOWN, Activity::active(Operation::Find)] {
            view.activity = activity;
            assert!(defer(&view, &mut knowledge, &init(7)).is_none());
        }
        assert!(defer(&deferred(None), &mut knowledge, &init(7)).is_none());
    }

    #[test]
    fn what_follows_a_deferred_init_call() {
        let query = [data(), room(false)];
        let sign = [data(), room(true)];
        for (view, number, args, plan_) in [
            (deferred(None), C_SIGN, sign.as_slice(), Plan::Fuse),
            (deferred(Some(64)), C_SIGN, &sign, Plan::Fuse),
            (deferred(None), C_SIGN, &query, Plan::Fuse),
            (deferred(Some(64)), C_SIGN, &query, Plan::Length(64)),
            // The module looks at the arguments before it tells the length.
            (
                deferred(Some(64)),
                C_SIGN,
                &[Value::Bytes(Bytes::Null(4)), room(false)],
                Plan::Fuse,
            ),
            (
                deferred(Some(64)),
                C_SIGN,
                &[
                    data(),
                    Value::Room(Room {
                        length: None,
                        buffer: false,
                    }),
                ],
                Plan::Fuse,
            ),
            (deferred(None), C_SIGNUPDATE, &[data()], Plan::Flush),
            (deferred(None), C_VERIFY, &[data(), data()], Plan::Flush),
            (deferred(None), C_GETSESSIONINFO, &[Value::Pointer(true)], Plan::Flush),
            (deferred(None), C_LOGIN, &[], Plan::Flush),
            (deferred(None), C_CLOSESESSION, &[], Plan::Drop),
            (View::new(), C_SIGN, &sign, Plan::Send),
        ] {
            assert_eq!(plan(&view, row(number), args), plan_, "{number} {args:?}");
        }
    }

    #[test]
    fn a_deferred_init_call_that_failed_is_told_to_the_next_call_of_its_operation() {
        let view = View {
            failed: Some((Operation::Sign, CKR_KEY_HANDLE_INVALID)),
            ..View::new()
        };
        assert_eq!(
            plan(&view, row(C_SIGNUPDATE), &[data()]),
            Plan::Fail(CKR_KEY_HANDLE_INVALID)
        );
        assert_eq!(plan(&view, row(C_SIGNINIT), &[]), Plan::Send);
        assert_eq!(plan(&view, row(C_VERIFY), &[data(), data()]), Plan::Send);
    }

    #[test]
    fn the_end_of_a_search_is_posted_only_if_it_is_known_to_be_active() {
        let mut view = View::new();
        assert_eq!(plan(&view, row(C_FINDOBJECTSFINAL), &[]), Plan::Send);
        view.activity = Activity::active(Operation::Sign);
        assert_eq!(plan(&view, row(C_FINDOBJECTSFINAL), &[]), Plan::Send);
        view.activity = Activity::active(Operation::Find);
        assert_eq!(plan(&view, row(C_FINDOBJECTSFINAL), &[]), Plan::Post);
    }

    #[test]
    fn the_end_of_a_session_is_posted_only_if_nothing_else_ends() {
        for (leaves_others, created, plan_) in [
            (true, false, Plan::Post),
            (true, true, Plan::Send),
            (false, false, Plan::Send),
            (false, true, Plan::Send),
        ] {
            let view = View {
                leaves_others,
                created,
                ..View::new()
            };
            assert_eq!(plan(&view, row(C_CLOSESESSION), &[]), plan_);
        }
        let view = View {
            leaves_others: true,
            ..deferred(None)
        };
        assert_eq!(plan(&view, row(C_CLOSESESSION), &[]), Plan::Drop);
    }

    #[test]
    fn which_calls_look_for_other_tokens() {
        let list = |buffer| [Value::Bool(1), room(buffer)];
        assert!(looks_anew(row(C_GETSLOTLIST), &list(false)));
        assert!(!looks_anew(row(C_GETSLOTLIST), &list(true)));
        assert!(looks_anew(row(C_WAITFORSLOTEVENT), &[]));
        assert!(!looks_anew(row(C_GETMECHANISMLIST), &[room(false)]));
    }

    #[test]
    fn mechanisms_that_the_token_writes_to_or_that_name_objects_are_not_learned() {
        let with = |mechanism, parameter| {
            [
                Value::Mechanism(Some(Mechanism { mechanism, parameter })),
                Value::Ulong(7),
            ]
        };
        let structured = |mechanism, members| with(mechanism, Parameter::Structured(shapes_of(mechanism)[0], members));
        let yes = |args: &[Value<'_>]| can_be_learned(row(C_SIGNINIT), args);
        assert!(yes(&with(CKM_ECDSA, Parameter::Null(0))));
        assert!(yes(&with(CKM_VENDOR_DEFINED, Parameter::Flat(b"x"))));
        assert!(yes(&structured(
            CKM_RSA_PKCS_PSS,
            vec![Member::Ulong(CKM_SHA256), Member::Ulong(1), Member::Ulong(32)]
        )));
        assert!(yes(&structured(
            CKM_AES_CTR,
            vec![Member::Ulong(128), Member::Array(&[0; 16])]
        )));
        assert!(!yes(&structured(
            CKM_AES_GCM,
            vec![Member::String(Bytes::Data(b"iv")), Member::Ulong(96)]
        )));
        assert!(!yes(&[Value::Mechanism(None), Value::Ulong(7)]));
        assert!(!can_be_learned(row(C_SIGN), &[data(), room(true)]));
        assert!(!can_be_learned(
            row(C_MESSAGESIGNINIT),
            &with(CKM_ECDSA, Parameter::Null(0))
        ));
        assert!(can_be_learned(
            row(C_FINDOBJECTSINIT),
            &[Value::Template(keyway_wire::value::Template::Null(0))]
        ));
    }

    #[test]
    fn what_replies_teach() {
        let output = |length| {
            Value::Output(Output {
                length: Some(length),
                data: None,
            })
        };
        let length = Outcome { wanted: false, ..OK };
        let teach =
            |number, args: &[Value<'_>], reply: &[Value<'_>], outcome| teaching(row(number), args, reply, outcome);
        assert_eq!(
            teach(C_SIGN, &[data(), room(true)], &[output(64)], OK),
            Teaching::Success
        );
        assert_eq!(
            teach(C_SIGN, &[data(), room(false)], &[output(64)], length),
            Teaching::Length(64)
        );
        assert_eq!(
            teach(C_DIGEST, &[data(), room(false)], &[output(32)], length),
            Teaching::Length(32)
        );
        // The length of what is encrypted depends on the data.
        assert_eq!(
            teach(C_ENCRYPT, &[data(), room(false)], &[output(16)], length),
            Teaching::Nothing
        );
        assert_eq!(teach(C_VERIFY, &[data(), data()], &[], OK), Teaching::Success);
        assert_eq!(
            teach(
                C_VERIFY,
                &[data(), data()],
                &[],
                Outcome {
                    rv: CKR_SIGNATURE_INVALID,
                    ..OK
                }
            ),
            Teaching::Nothing
        );
        assert_eq!(teach(C_SIGNFINAL, &[room(true)], &[output(64)], OK), Teaching::Nothing);
        let found = Value::Numbers(Numbers {
            count: Some(0),
            data: Some(Vec::new()),
        });
        assert_eq!(teach(C_FINDOBJECTS, &[], &[found], OK), Teaching::Success);
    }

    #[test]
    fn what_calls_disturb() {
        let object = [Value::Ulong(9)];
        for (number, args, ending, disturbance_) in [
            (C_DESTROYOBJECT, object.as_slice(), false, Some(Disturbance::Object(9))),
            (
                C_SETATTRIBUTEVALUE,
                &[Value::Ulong(9), Value::Template(keyway_wire::value::Template::Null(0))],
                false,
                Some(Disturbance::Object(9)),
            ),
            (C_GENERATEKEY, &[], false, Some(Disturbance::Objects)),
            (C_LOGIN, &[], false, Some(Disturbance::Token)),
            (C_LOGOUT, &[], false, Some(Disturbance::Token)),
            (C_INITTOKEN, &[], false, Some(Disturbance::Token)),
            (C_CLOSEALLSESSIONS, &[], false, Some(Disturbance::Token)),
            (C_CLOSESESSION, &[], true, Some(Disturbance::Token)),
            (C_CLOSESESSION, &[], false, None),
            (C_OPENSESSION, &[], false, None),
            (C_SIGN, &[data(), room(true)], false, None),
            (C_GETATTRIBUTEVALUE, &object, false, None),
        ] {
            assert_eq!(disturbance(row(number), args, ending), disturbance_, "{number}");
        }
    }
}
