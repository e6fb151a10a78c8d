//! Gateways that are there and say nothing.

use super::application::{bench, patient, Application};
use super::gateway::{sum, Fate, Gateway, Token};
use super::server::Place;
use crate::config::Renewal;
use crate::silence::HEARTBEAT;
use keyway_wire::generated::call::*;
use keyway_wire::generated::mechanism::CKM_ECDSA;
use keyway_wire::generated::rv::*;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

/// So long that a gateway in miniature answers meanwhile on any machine.
fn alert() -> Renewal {
    Renewal {
        silence: Duration::from_secs(2),
        ..patient()
    }
}

#[test]
fn a_gateway_that_falls_silent_in_a_call_is_left() {
    let (_place, _gateway, application) = bench(alert());
    let token = application.token.clone();
    let session = application.logged_in();
    token.at(C_SIGN, Fate::Held);
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!(
        token.calls(0)[..],
        [C_INITIALIZE, C_OPENSESSION, C_LOGIN, C_SIGNINIT, C_SIGN]
    );
    assert_eq!(
        token.calls(1),
        [C_INITIALIZE, C_OPENSESSION, C_LOGIN, C_SIGNINIT, C_SIGN]
    );
    // What must not be made twice is not.
    token.at(C_CREATEOBJECT, Fate::Held);
    assert_eq!(application.create(session), CKR_DEVICE_ERROR);
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!((token.count(C_CREATEOBJECT).0, token.connections()), (1, 3));
    token.let_go();
}

#[test]
fn a_silent_gateway_is_left_by_all_who_wait_and_who_send() {
    let (_place, _gateway, application) = bench(alert());
    let token = application.token.clone();
    let (first, second, third) = (application.logged_in(), application.session(), application.session());
    // From now on init calls travel along.
    assert_eq!(application.sign(first), CKR_OK);
    let much = vec![7; 8 << 20];
    token.at(C_SIGN, Fate::Held);
    thread::scope(|scope| {
        let signs = scope.spawn(|| application.sign(first));
        token.wait(|world| world.came.iter().filter(|came| came.call == C_SIGN).count() == 2);
        let waits = scope.spawn(|| application.sign(second));
        // Its request does not fit into what the system keeps for the gateway.
        assert_eq!(application.begin(C_SIGNINIT, third, CKM_ECDSA), CKR_OK);
        assert_eq!(application.result(C_SIGN, third, &much), (CKR_OK, sum(&much)));
        for call in [signs, waits] {
            assert_eq!(call.join().expect("a thread"), CKR_OK);
        }
    });
    token.let_go();
}

#[test]
fn a_gateway_that_is_slow_and_answers_heartbeats_is_not_left() {
    let (_place, _gateway, application) = bench(alert());
    let token = application.token.clone();
    let session = application.logged_in();
    token.at(C_SIGN, Fate::Slow(2));
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!((token.count(HEARTBEAT).0, token.count(C_SIGN).0), (2, 1));
    assert_eq!(token.connections(), 1);
}

#[test]
fn a_gateway_that_accepts_and_says_nothing_is_passed_by() {
    let (here, there, token) = (Place::new(), Place::new(), Token::new());
    // The system lets clients in as long as there is room for them.
    let silent = UnixListener::bind(here.socket()).expect("a socket");
    let _gateway = Gateway::start(&token, &there);
    let application = Application::at(&token, &[&here, &there], alert());
    let session = application.logged_in();
    assert_eq!(application.sign(session), CKR_OK);
    drop(silent.accept().expect("a client"));
}

#[test]
fn a_gateway_that_does_not_open_the_context_is_passed_by() {
    let (here, there, token) = (Place::new(), Place::new(), Token::new());
    let _gateways = [Gateway::start(&token, &here), Gateway::start(&token, &there)];
    token.at(C_INITIALIZE, Fate::Held);
    let application = Application::at(&token, &[&here, &there], alert());
    application.logged_in();
    assert_eq!(token.calls(1)[..2], [C_INITIALIZE, C_OPENSESSION]);
    token.let_go();
}

#[test]
fn a_gateway_that_is_silent_when_a_session_is_renewed_is_left_again() {
    let (_place, gateway, application) = bench(alert());
    let token = application.token.clone();
    let session = application.logged_in();
    // Also the only one that there is.
    for number in [C_INITIALIZE, C_OPENSESSION] {
        token.at(number, Fate::Held);
    }
    gateway.cut();
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!((token.connections(), token.count(C_INITIALIZE).0), (4, 4));
    token.let_go();
}

#[test]
fn sessions_that_would_be_lost_are_waited_for_without_a_word() {
    let (place, _gateway, plain) = {
        let (place, token) = (Place::new(), Token::new());
        token.with(|world| world.renewable = false);
        let gateway = Gateway::start(&token, &place);
        let plain = Application::at(&token, &[&place], alert());
        (place, gateway, plain)
    };
    let token = plain.token.clone();
    let session = plain.logged_in();
    token.at(C_SIGN, Fate::Held);
    thread::scope(|scope| {
        let call = scope.spawn(|| plain.sign(session));
        token.wait(|world| world.came.iter().any(|came| came.call == C_SIGN));
        // So is a context that has nowhere else to go.
        token.at(C_INITIALIZE, Fate::Held);
        let open = scope.spawn(|| Application::at(&token, &[&place], alert()).context.close());
        token.wait(|world| world.came.iter().filter(|came| came.call == C_INITIALIZE).count() == 2);
        // When another application has given up, they have waited for longer.
        token.with(|world| world.renewable = true);
        let other = Application::at(&token, &[&place], alert());
        let its = other.logged_in();
        token.at(C_GENERATERANDOM, Fate::Held);
        let random = [keyway_wire::value::Value::Fill {
            buffer: true,
            length: 0,
        }];
        assert_eq!(other.call(C_GENERATERANDOM, its, &random), CKR_OK);
        assert_eq!(token.connections(), 4);
        token.let_go();
        assert_eq!(call.join().expect("a thread"), CKR_OK);
        assert_eq!(open.join().expect("a thread"), CKR_OK);
    });
    assert_eq!(token.connections(), 4);
    assert!(!token.calls(0).contains(&HEARTBEAT) && !token.calls(1).contains(&HEARTBEAT));
}

#[test]
fn silence_may_last_if_that_is_configured() {
    let token = Token::new();
    let (place, other) = (Place::new(), Place::new());
    let gateways = [Gateway::start(&token, &place), Gateway::start(&token, &other)];
    let silence = Duration::ZERO;
    let lenient = Application::at(&token, &[&place, &other], Renewal { silence, ..patient() });
    let session = lenient.logged_in();
    token.at(C_SIGN, Fate::Held);
    thread::scope(|scope| {
        let call = scope.spawn(|| lenient.sign(session));
        token.wait(|world| world.came.iter().any(|came| came.call == C_SIGN));
        let alert = Application::at(&token, &[&other], alert());
        let its = alert.logged_in();
        token.at(C_CREATEOBJECT, Fate::Held);
        assert_eq!(alert.create(its), CKR_DEVICE_ERROR);
        token.let_go();
        assert_eq!(call.join().expect("a thread"), CKR_OK);
    });
    assert_eq!(token.connections(), 2);
    assert_eq!(token.count(HEARTBEAT).0, 0);
    drop(gateways);
}
