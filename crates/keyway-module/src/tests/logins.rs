//! Logins that outlast their connection, and what is done with PINs.

use super::application::{bench, data, patient, Application};
use super::gateway::{Fate, Gateway, Token, PIN};
use crate::config::Renewal;
use crate::lock::lock;
use crate::logins::Due;
use keyway_wire::generated::call::*;
use keyway_wire::generated::mechanism::CKM_ECDSA;
use keyway_wire::generated::rv::*;
use keyway_wire::value::{Bytes, Value};

const OTHER: &[u8] = b"87654321";

impl Application {
    /// The body of the login that would be made on another connection.
    fn kept(&self) -> Option<Vec<u8>> {
        let login = self.context.logins.of(1);
        let mut login = lock(&login);
        match login.due(u64::MAX) {
            Due::Login(kept) => Some(kept.body.bytes().to_vec()),
            Due::Nothing | Due::Unknown => None,
        }
    }
}

/// A session logged in by another connection, which is broken now.
fn left_behind() -> (super::server::Place, Gateway, Application, u64) {
    let (place, gateway, application) = bench(patient());
    let session = application.logged_in();
    gateway.cut();
    (place, gateway, application, session)
}

#[test]
fn a_pin_that_is_wrong_by_now_is_tried_once() {
    let (_place, gateway, application, session) = left_behind();
    application.token.with(|world| world.pin = OTHER.to_vec());
    assert_eq!(application.sign(session), CKR_USER_NOT_LOGGED_IN);
    assert_eq!(application.kept(), None);
    for _ in 0..2 {
        assert_eq!(application.sign(session), CKR_USER_NOT_LOGGED_IN);
        gateway.cut();
    }
    assert_eq!(application.token.count(C_LOGIN), (2, 2));
    // The session is there, though, and the application can log in with the new one.
    assert_eq!(
        application.call(C_LOGIN, session, &[Value::Ulong(1), data(OTHER)]),
        CKR_OK
    );
    gateway.cut();
    assert_eq!(application.sign(session), CKR_OK);
}

#[test]
fn whatever_is_said_of_the_pin_it_is_forgotten() {
    for rv in [
        CKR_PIN_INCORRECT,
        CKR_PIN_INVALID,
        CKR_PIN_LEN_RANGE,
        CKR_PIN_EXPIRED,
        CKR_PIN_LOCKED,
        CKR_PIN_TOO_WEAK,
        CKR_USER_PIN_NOT_INITIALIZED,
    ] {
        let (_place, _gateway, application, session) = left_behind();
        application.token.at(C_LOGIN, Fate::Refused(rv));
        assert_eq!(application.sign(session), CKR_USER_NOT_LOGGED_IN);
        assert_eq!(application.kept(), None, "{rv:#x}");
    }
}

#[test]
fn a_login_that_fails_for_another_reason_is_made_by_the_next_call() {
    for (rv, times) in [
        (CKR_DEVICE_REMOVED, 9),
        (CKR_TOKEN_NOT_PRESENT, 9),
        (CKR_FUNCTION_FAILED, 2),
    ] {
        let (_place, _gateway, application, session) = left_behind();
        for _ in 0..times {
            application.token.at(C_LOGIN, Fate::Refused(rv));
            assert_eq!(application.sign(session), rv);
        }
        assert_eq!(application.sign(session), CKR_OK);
    }
}

#[test]
fn a_login_that_is_never_answered_is_not_made_for_ever() {
    // A token may count each of them as a wrong PIN.
    for fate in [Fate::CutBefore, Fate::CutAfter] {
        let (_place, _gateway, application, session) = left_behind();
        for _ in 0..9 {
            application.token.at(C_LOGIN, fate.clone());
        }
        assert_eq!(application.sign(session), CKR_USER_NOT_LOGGED_IN);
        assert_eq!(application.token.count(C_LOGIN).0, 4);
        assert_eq!(application.kept(), None);
    }
    let (_place, _gateway, application, session) = left_behind();
    for _ in 0..3 {
        application.token.at(C_LOGIN, Fate::Refused(CKR_DEVICE_ERROR));
        assert_eq!(application.sign(session), CKR_DEVICE_ERROR);
    }
    assert_eq!(application.sign(session), CKR_USER_NOT_LOGGED_IN);
    assert_eq!(application.token.count(C_LOGIN).0, 4);
}

#[test]
fn a_pin_that_is_not_to_be_remembered_is_not() {
    let (_place, gateway, application) = bench(Renewal {
        remember_pin: false,
        ..patient()
    });
    let session = application.logged_in();
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!(application.kept(), None);
    gateway.cut();
    assert_eq!(application.sign(session), CKR_USER_NOT_LOGGED_IN);
    assert!(!application.is_logged_in(session));
    assert_eq!(application.login(session), CKR_OK);
    assert_eq!(application.sign(session), CKR_OK);
}

#[test]
fn a_login_is_made_again_as_it_was_made() {
    for (number, args) in [
        (C_LOGIN, vec![Value::Ulong(0), data(PIN)]),
        (C_LOGINUSER, vec![Value::Ulong(1), data(PIN), data(b"alice")]),
        // The PIN is typed elsewhere.
        (C_LOGIN, vec![Value::Ulong(1), Value::Bytes(Bytes::Null(0))]),
    ] {
        let (_place, gateway, application) = bench(patient());
        let session = application.session();
        assert_eq!(application.call(number, session, &args), CKR_OK);
        let mut body = Vec::new();
        keyway_wire::encode_request(keyway_wire::call(number).expect("a call"), &args, &mut body).expect("a body");
        assert_eq!(application.kept(), Some(body));
        gateway.cut();
        assert!(application.is_logged_in(session));
        assert_eq!(application.token.count(number), (2, 2));
    }
}

#[test]
fn a_pin_is_forgotten_when_the_login_ends() {
    type End = fn(&Application, u64);
    let ends: [(&str, End); 5] = [
        ("logout", |application, session| {
            assert_eq!(application.call(C_LOGOUT, session, &[]), CKR_OK);
        }),
        ("the last session", |application, session| {
            assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
        }),
        ("all sessions", |application, _| {
            assert_eq!(application.call(C_CLOSEALLSESSIONS, 1, &[]), CKR_OK);
        }),
        ("a logout that nobody has answered", |application, session| {
            application.token.at(C_LOGOUT, Fate::CutBefore);
            assert_eq!(application.call(C_LOGOUT, session, &[]), CKR_DEVICE_ERROR);
        }),
        ("the context", |application, _| {
            assert_eq!(application.context.close(), CKR_OK);
        }),
    ];
    for (what, end) in ends {
        let (_place, _gateway, application) = bench(patient());
        let other = application.session();
        let session = application.logged_in();
        assert_eq!(application.call(C_CLOSESESSION, other, &[]), CKR_OK);
        assert!(application.kept().is_some(), "there is a session left");
        end(&application, session);
        assert_eq!(application.kept(), None, "{what}");
    }
}

#[test]
fn a_login_for_one_operation_is_never_kept() {
    let (_place, gateway, application) = bench(patient());
    let session = application.session();
    assert_eq!(
        application.call(C_LOGIN, session, &[Value::Ulong(2), data(PIN)]),
        CKR_OK
    );
    assert_eq!(application.kept(), None);
    assert_eq!(application.login(session), CKR_OK);
    let kept = application.kept();
    assert_eq!(
        application.call(C_LOGIN, session, &[Value::Ulong(2), data(OTHER)]),
        CKR_OK
    );
    assert_eq!(application.kept(), kept);
    gateway.cut();
    assert_eq!(application.sign(session), CKR_OK);
}

#[test]
fn a_new_pin_takes_the_place_of_the_old_one() {
    let set = |old, new| [data(old), data(new)];
    let (_place, gateway, application) = bench(patient());
    let session = application.logged_in();
    assert_eq!(application.call(C_SETPIN, session, &set(PIN, OTHER)), CKR_OK);
    gateway.cut();
    assert_eq!(application.sign(session), CKR_OK);
    // One that was refused does not.
    application.token.at(C_SETPIN, Fate::Refused(CKR_PIN_LEN_RANGE));
    assert_eq!(
        application.call(C_SETPIN, session, &set(OTHER, b"1")),
        CKR_PIN_LEN_RANGE
    );
    gateway.cut();
    assert_eq!(application.sign(session), CKR_OK);
    // Nobody knows which one it is.
    application.token.at(C_SETPIN, Fate::CutBefore);
    assert_eq!(application.call(C_SETPIN, session, &set(OTHER, PIN)), CKR_DEVICE_ERROR);
    assert_eq!(application.sign(session), CKR_USER_NOT_LOGGED_IN);
    assert_eq!(application.token.count(C_LOGIN), (3, 3));
}

#[test]
fn a_new_pin_that_was_typed_elsewhere_is_not_known() {
    let (_place, _gateway, application) = bench(patient());
    let session = application.logged_in();
    application.token.at(C_SETPIN, Fate::Refused(CKR_OK));
    let typed = [Value::Bytes(Bytes::Null(0)), Value::Bytes(Bytes::Null(0))];
    assert_eq!(application.call(C_SETPIN, session, &typed), CKR_OK);
    assert_eq!(application.kept(), None);
}

#[test]
fn a_login_goes_on_when_the_session_is_closed_that_it_was_made_again_for() {
    let (_place, gateway, application, first) = left_behind();
    let token = application.token.clone();
    // An application that keeps a session for the login, and opens another one for each signature.
    for _ in 0..3 {
        let session = application.session();
        assert_eq!(application.sign(session), CKR_OK);
        assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
    }
    assert_eq!(token.count(C_LOGIN), (2, 2));
    assert_eq!(application.sign(first), CKR_OK);
    gateway.cut();
    // If the other session can't be moved, the login is made once more.
    let session = application.session();
    assert_eq!(application.sign(session), CKR_OK);
    token.at(C_OPENSESSION, Fate::Refused(CKR_SESSION_COUNT));
    assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
    assert_eq!(application.sign(first), CKR_OK);
    assert_eq!(token.count(C_LOGIN), (4, 4));
}

#[test]
fn without_a_login_none_is_made_and_no_session_is_moved() {
    let (_place, gateway, application) = bench(patient());
    let (first, second) = (application.session(), application.session());
    gateway.cut();
    assert_eq!(application.create(first), CKR_OK);
    assert_eq!(application.call(C_CLOSESESSION, first, &[]), CKR_OK);
    assert_eq!(
        application.token.calls(1),
        [C_INITIALIZE, C_OPENSESSION, C_CREATEOBJECT, C_CLOSESESSION]
    );
    assert_eq!(application.create(second), CKR_OK);
    assert_eq!(application.token.count(C_LOGIN).0, 0);
}

#[test]
fn what_was_learned_is_forgotten_where_the_login_is_not_made_again() {
    let (_place, gateway, application) = bench(Renewal {
        remember_pin: false,
        ..patient()
    });
    let session = application.logged_in();
    assert_eq!(application.sign(session), CKR_OK);
    gateway.cut();
    // So it is the init call that tells.
    assert!(!application.is_logged_in(session));
    assert_eq!(
        application.begin(C_SIGNINIT, session, CKM_ECDSA),
        CKR_USER_NOT_LOGGED_IN
    );
}

#[test]
fn a_login_of_another_slot_is_none_of_this_one() {
    let (_place, gateway, application) = bench(patient());
    let token: Token = application.token.clone();
    let session = application.logged_in();
    let other = super::server::open_session(&application.context, 2).expect("a session");
    gateway.cut();
    assert_eq!(application.call(C_SEEDRANDOM, other, &[data(b"x")]), CKR_OK);
    assert_eq!(token.count(C_LOGIN), (1, 1));
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!(token.count(C_LOGIN), (2, 2));
}
