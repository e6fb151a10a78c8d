//! Sessions that outlast their connection.

use super::application::{bench, data, patient, Application};
use super::gateway::{Fate, Gateway, Token, KEY, PIN};
use super::server::{open_session, Place};
use crate::config::Renewal;
use keyway_wire::flag;
use keyway_wire::generated::call::*;
use keyway_wire::generated::mechanism::CKM_ECDSA;
use keyway_wire::generated::rv::*;
use keyway_wire::value::{Bytes, Room, Template, Value};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

fn impatient() -> Renewal {
    Renewal {
        patience: Duration::from_millis(1),
        ..Renewal::default()
    }
}

#[test]
fn sessions_logins_and_handles_outlast_the_daemon() {
    let (_place, mut gateway, application) = bench(patient());
    let token = application.token.clone();
    let (first, second) = (application.logged_in(), application.session());
    assert_eq!(application.sign(first), CKR_OK);
    gateway.stop();
    gateway.start_again();
    assert_eq!(application.sign(first), CKR_OK);
    // What was learned of the key is known on; so this is all it takes.
    assert_eq!(token.calls(1), [C_INITIALIZE, C_OPENSESSION, C_LOGIN, C_SIGN]);
    assert_eq!(application.sign(second), CKR_OK);
    assert_eq!(token.calls(1)[4..], [C_OPENSESSION, C_SIGN]);
    let targets = token.with(|world| {
        let signed = world.came.iter().filter(|came| came.call == C_SIGN);
        signed
            .map(|came| (came.connection, came.target, came.flags))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        targets,
        [(0, first, 0), (1, first, flag::FUSED), (1, second, flag::FUSED)]
    );
    // A new session has a new handle.
    let third = application.session();
    assert!(third > second);
    assert_eq!(application.sign(third), CKR_OK);
    assert_eq!(application.context.close(), CKR_OK);
}

#[test]
fn a_call_without_a_second_effect_is_made_again() {
    for fate in [Fate::CutBefore, Fate::CutAfter] {
        let (_place, _gateway, application) = bench(patient());
        let token = application.token.clone();
        let session = application.logged_in();
        let random = [Value::Fill {
            buffer: true,
            length: 0,
        }];
        for (connection, number) in (1..).zip([C_SIGNINIT, C_SIGN, C_GENERATERANDOM]) {
            token.at(number, fate.clone());
            let rv = match number {
                C_GENERATERANDOM => application.call(number, session, &random),
                _ => application.sign(session),
            };
            assert_eq!(rv, CKR_OK, "{number} {fate:?}");
            assert_eq!(token.connections(), connection + 1);
        }
        // Now the init call travels along.
        token.at(C_SIGN, fate.clone());
        assert_eq!(application.sign(session), CKR_OK);
        assert_eq!(token.calls(4), [C_INITIALIZE, C_OPENSESSION, C_LOGIN, C_SIGN]);
    }
}

#[test]
fn a_call_that_may_have_had_an_effect_is_never_sent_twice() {
    let mechanism = || {
        Value::Mechanism(Some(keyway_wire::value::Mechanism {
            mechanism: 0,
            parameter: keyway_wire::value::Parameter::Null(0),
        }))
    };
    let template = || Value::Template(Template::Null(0));
    let cell = || Value::Cell(Some(0));
    let pin = || Value::Bytes(Bytes::Data(PIN));
    for fate in [Fate::CutBefore, Fate::CutAfter] {
        let (_place, _gateway, application) = bench(patient());
        let token = application.token.clone();
        let session = application.session();
        for (number, args) in [
            (C_CREATEOBJECT, vec![template(), cell()]),
            (
                C_GENERATEKEYPAIR,
                vec![mechanism(), template(), template(), cell(), cell()],
            ),
            (C_SETPIN, vec![pin(), pin()]),
            (C_INITPIN, vec![pin()]),
            (C_DESTROYOBJECT, vec![Value::Ulong(KEY)]),
            (C_SETATTRIBUTEVALUE, vec![Value::Ulong(KEY), template()]),
            (C_LOGIN, vec![Value::Ulong(1), pin()]),
            (C_LOGOUT, vec![]),
        ] {
            token.at(number, fate.clone());
            assert_eq!(
                application.call(number, session, &args),
                CKR_DEVICE_ERROR,
                "{number} {fate:?}"
            );
            assert_eq!(token.count(number).0, 1, "{number} {fate:?}");
            // The session lives on.
            assert!(!application.is_logged_in(session));
            assert_eq!(token.count(number).0, 1, "{number} {fate:?}");
        }
        assert_eq!(token.count(C_LOGIN).0, 1, "one that was lost is not made again either");
    }
}

#[test]
fn a_call_that_was_not_sent_is_sent() {
    let (_place, mut gateway, application) = bench(patient());
    let session = application.session();
    gateway.stop();
    gateway.start_again();
    assert_eq!(application.create(session), CKR_OK);
    assert_eq!(application.token.count(C_CREATEOBJECT), (1, 1));
    gateway.stop();
    gateway.start_again();
    assert_eq!(application.login(session), CKR_OK);
    assert_eq!(application.token.count(C_LOGIN), (1, 1));
}

#[test]
fn a_call_that_ends_each_daemon_is_given_up() {
    let (_place, _gateway, application) = bench(patient());
    let session = application.logged_in();
    for _ in 0..9 {
        application.token.at(C_GENERATERANDOM, Fate::CutBefore);
    }
    let random = [Value::Fill {
        buffer: true,
        length: 0,
    }];
    assert_eq!(application.call(C_GENERATERANDOM, session, &random), CKR_DEVICE_ERROR);
    assert_eq!(application.token.count(C_GENERATERANDOM), (3, 0));
    assert_eq!(application.sign(session), CKR_OK);
}

#[test]
fn while_there_is_no_daemon_calls_fail_and_sessions_stay() {
    let (_place, mut gateway, application) = bench(impatient());
    let session = application.logged_in();
    gateway.stop();
    for _ in 0..3 {
        assert_eq!(application.sign(session), CKR_DEVICE_REMOVED);
    }
    gateway.start_again();
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!(application.token.count(C_LOGIN), (2, 2));
    // Closing needs nobody.
    gateway.stop();
    assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
    assert_eq!(application.token.count(C_CLOSESESSION), (0, 0));
}

#[test]
fn calls_wait_for_a_daemon_and_go_on_when_it_is_there() {
    let (_place, mut gateway, application) = bench(patient());
    let session = application.logged_in();
    gateway.stop();
    thread::scope(|scope| {
        let calls = [
            scope.spawn(|| application.sign(session)),
            // So do those that look for slots, and open a session.
            scope.spawn(|| open_session(&application.context, 1).map_or_else(|rv| rv, |_| CKR_OK)),
            scope.spawn(|| {
                let room = Room {
                    length: Some(0),
                    buffer: false,
                };
                application.call(C_GETSLOTLIST, 0, &[Value::Bool(0), Value::Room(room)])
            }),
        ];
        gateway.start_again();
        for call in calls {
            assert_eq!(call.join().expect("a thread"), CKR_OK);
        }
    });
}

#[test]
fn many_threads_renew_their_sessions_and_one_logs_in() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 6;
    let (_place, mut gateway, application) = bench(patient());
    let token = application.token.clone();
    let login = application.logged_in();
    assert_eq!(application.sign(login), CKR_OK);
    let barrier = Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let session = application.session();
                for _ in 0..ROUNDS {
                    barrier.wait();
                    for _ in 0..10 {
                        assert_eq!(application.sign(session), CKR_OK);
                    }
                }
            });
        }
        for round in 0..ROUNDS {
            barrier.wait();
            // In the midst of it, or before.
            if round % 2 == 0 {
                gateway.stop();
                gateway.start_again();
            } else {
                gateway.cut();
            }
        }
    });
    assert_eq!(application.sign(login), CKR_OK);
    for connection in 0..token.connections() {
        let calls = token.calls(connection);
        let count = |number| calls.iter().filter(|call| **call == number).count();
        assert!(count(C_LOGIN) <= 1, "{calls:?}");
        assert!(count(C_OPENSESSION) <= THREADS + 1, "{calls:?}");
    }
}

#[test]
fn another_gateway_takes_the_place_of_one_that_is_gone() {
    let (here, there, token) = (Place::new(), Place::new(), Token::new());
    let mut gateways = [Gateway::start(&token, &here), Gateway::start(&token, &there)];
    let application = Application::at(&token, &[&here, &there], patient());
    let session = application.logged_in();
    assert_eq!(application.sign(session), CKR_OK);
    gateways[0].stop();
    for _ in 0..3 {
        assert_eq!(application.sign(session), CKR_OK);
    }
    assert_eq!(token.connections(), 2);
    // And back.
    gateways[0].start_again();
    gateways[1].stop();
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!(token.count(C_LOGIN), (3, 3));
}

#[test]
fn what_ends_the_context_or_the_sessions_ends_the_waiting() {
    for end in [C_FINALIZE, C_CLOSEALLSESSIONS, C_CLOSESESSION] {
        let (place, mut gateway, application) = bench(patient());
        let session = application.logged_in();
        gateway.stop();
        // What knocks here is turned away; so it is known when the call has begun to wait.
        let listener = std::os::unix::net::UnixListener::bind(place.socket()).expect("a socket");
        thread::scope(|scope| {
            let call = scope.spawn(|| application.sign(session));
            drop(listener.accept().expect("a client"));
            let expected = match end {
                C_FINALIZE => {
                    drop(listener);
                    assert_eq!(application.context.close(), CKR_OK);
                    CKR_CRYPTOKI_NOT_INITIALIZED
                }
                C_CLOSEALLSESSIONS => {
                    drop(listener);
                    assert_eq!(application.call(C_CLOSEALLSESSIONS, 1, &[]), CKR_OK);
                    CKR_SESSION_HANDLE_INVALID
                }
                _ => {
                    drop(listener);
                    assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
                    CKR_SESSION_HANDLE_INVALID
                }
            };
            assert_eq!(call.join().expect("a thread"), expected, "{end}");
        });
    }
}

#[test]
fn a_gateway_that_says_nothing_is_not_waited_for_when_the_context_ends() {
    let (place, mut gateway, application) = bench(patient());
    let session = application.logged_in();
    gateway.stop();
    let listener = std::os::unix::net::UnixListener::bind(place.socket()).expect("a socket");
    thread::scope(|scope| {
        let call = scope.spawn(|| application.sign(session));
        let (mut client, _) = listener.accept().expect("a client");
        // It has said what it wants, and waits for the answer.
        client.read_exact(&mut [0; 33]).expect("a request");
        assert_eq!(application.context.close(), CKR_OK);
        assert_eq!(call.join().expect("a thread"), CKR_CRYPTOKI_NOT_INITIALIZED);
    });
}

#[test]
fn sessions_that_are_closed_while_they_are_renewed_are_not_left_at_the_gateway() {
    let (_place, mut gateway, application) = bench(patient());
    let token = application.token.clone();
    let (first, second) = (application.session(), application.session());
    gateway.stop();
    gateway.start_again();
    assert_eq!(application.sign(second), CKR_USER_NOT_LOGGED_IN);
    token.at(C_OPENSESSION, Fate::Held);
    thread::scope(|scope| {
        let call = scope.spawn(|| application.sign(first));
        token.wait(|world| world.came.iter().filter(|came| came.call == C_OPENSESSION).count() == 4);
        let close = scope.spawn(|| application.call(C_CLOSEALLSESSIONS, 1, &[]));
        // The one is marked as closing before the other is answered.
        while !application
            .context
            .sessions
            .get(first)
            .map_or(true, |session| session.is_closing())
        {
            thread::yield_now();
        }
        token.let_go();
        assert_eq!(call.join().expect("a thread"), CKR_SESSION_HANDLE_INVALID);
        assert_eq!(close.join().expect("a thread"), CKR_OK);
    });
    assert_eq!(token.count(C_CLOSESESSION), (1, 1));
    assert_eq!(application.sign(first), CKR_SESSION_HANDLE_INVALID);
}

#[test]
fn a_gateway_that_refuses_is_asked_again_by_the_next_call() {
    let (_place, gateway, application) = bench(patient());
    let session = application.logged_in();
    for rv in [
        CKR_TOKEN_NOT_PRESENT,
        CKR_SESSION_COUNT,
        CKR_SLOT_ID_INVALID,
        0x8000_0001,
    ] {
        gateway.cut();
        application.token.at(C_OPENSESSION, Fate::Refused(rv));
        assert_eq!(application.sign(session), rv);
        assert_eq!(application.sign(session), CKR_OK);
    }
}

#[test]
fn a_gateway_that_talks_rubbish_does_no_harm() {
    let (_place, gateway, application) = bench(patient());
    let session = application.logged_in();
    for number in [C_OPENSESSION, C_LOGIN] {
        gateway.cut();
        application.token.at(number, Fate::Garbage);
        assert_eq!(application.sign(session), CKR_OK);
    }
    gateway.cut();
    assert_eq!(application.login(session), CKR_USER_ALREADY_LOGGED_IN);
    application.token.at(C_SIGN, Fate::Garbage);
    assert_eq!(application.sign(session), CKR_DEVICE_ERROR);
    assert_eq!(application.sign(session), CKR_OK);
}

#[test]
fn a_session_ends_if_another_kind_of_token_is_there() {
    let (_place, mut gateway, application) = bench(patient());
    let session = application.logged_in();
    gateway.stop();
    application.token.with(|world| world.renewable = false);
    gateway.start_again();
    for _ in 0..2 {
        assert_eq!(application.sign(session), CKR_DEVICE_REMOVED);
    }
    // It is not left open over there.
    assert_eq!(
        application.token.calls(1),
        [C_INITIALIZE, C_OPENSESSION, C_CLOSESESSION]
    );
    assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
    let other = application.session();
    assert!(!application.is_logged_in(other));
    gateway.cut();
    assert_eq!(application.sign(other), CKR_DEVICE_REMOVED);
}

#[test]
fn without_patience_sessions_are_lost_with_their_connection() {
    let (_place, gateway, application) = bench(Renewal {
        patience: Duration::ZERO,
        ..Renewal::default()
    });
    let session = application.logged_in();
    gateway.cut();
    assert_eq!(application.sign(session), CKR_DEVICE_REMOVED);
    assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
    assert_eq!(application.token.connections(), 1);
}

#[test]
fn a_token_that_is_away_for_a_while_does_not_end_the_session() {
    let (_place, _gateway, application) = bench(patient());
    let token = application.token.clone();
    let session = application.logged_in();
    assert_eq!(application.sign(session), CKR_OK);
    for rv in [CKR_DEVICE_REMOVED, CKR_TOKEN_NOT_PRESENT, CKR_DEVICE_ERROR] {
        token.at(C_CREATEOBJECT, Fate::Refused(rv));
        assert_eq!(application.create(session), rv);
        assert_eq!(application.create(session), CKR_OK);
        let before = token.count(C_SIGNINIT).0;
        assert_eq!(application.sign(session), CKR_OK);
        assert_eq!(token.count(C_SIGNINIT).0, before, "what was learned stays known");
    }
    assert_eq!((application.created(), token.connections()), (3, 1));
    assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
    assert_eq!(token.count(C_CLOSESESSION), (1, 1));
}

#[test]
fn what_was_kept_back_when_the_connection_broke_is_sent_on_the_next_one() {
    let (_place, gateway, application) = bench(patient());
    let token = application.token.clone();
    let (session, other) = (application.logged_in(), application.session());
    assert_eq!(application.sign(session), CKR_OK);
    assert_eq!(application.begin(C_SIGNINIT, session, CKM_ECDSA), CKR_OK);
    gateway.cut();
    // Nor does it get lost by what would have it sent first.
    assert_eq!(application.create(other), CKR_OK);
    assert_eq!(application.result(C_SIGN, session, b"data").0, CKR_OK);
    let calls = token.calls(1);
    assert_eq!(
        calls[1..],
        [C_OPENSESSION, C_LOGIN, C_CREATEOBJECT, C_OPENSESSION, C_SIGN]
    );
    assert_eq!(application.begin(C_SIGNINIT, session, CKM_ECDSA), CKR_OK);
    gateway.cut();
    assert_eq!(application.call(C_SIGNUPDATE, session, &[data(b"da")]), CKR_OK);
    assert_eq!(token.calls(2)[1..], [C_OPENSESSION, C_LOGIN, C_SIGNINIT, C_SIGNUPDATE]);
    gateway.cut();
    assert_eq!(application.call(C_SIGNUPDATE, session, &[data(b"ta")]), CKR_OK);
    let (rv, signature) = application.result(C_SIGNFINAL, session, b"");
    assert_eq!((rv, signature), (CKR_OK, super::gateway::sum(b"data")));
}

#[test]
fn however_often_connections_break_nothing_is_made_twice_and_nobody_waits_for_ever() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 60;
    let (_place, gateway, application) = bench(patient());
    let token = application.token.clone();
    let login = application.logged_in();
    let working = AtomicUsize::new(THREADS);
    let (made, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    // Whoever is hit again and again is told so.
                    let session = loop {
                        match open_session(&application.context, 1) {
                            Ok(session) => break session,
                            Err(rv) => assert_eq!(rv, CKR_DEVICE_ERROR),
                        }
                    };
                    match application.create(session) {
                        CKR_OK => &made,
                        CKR_DEVICE_ERROR | CKR_DEVICE_REMOVED => &failed,
                        rv => panic!("{rv:#x}"),
                    }
                    .fetch_add(1, Ordering::SeqCst);
                    match application.sign(session) {
                        CKR_OK | CKR_DEVICE_ERROR | CKR_DEVICE_REMOVED | CKR_USER_NOT_LOGGED_IN => {}
                        rv => panic!("{rv:#x}"),
                    }
                    if round % 3 == 0 {
                        assert_eq!(application.call(C_CLOSESESSION, session, &[]), CKR_OK);
                    }
                }
                working.fetch_sub(1, Ordering::SeqCst);
                // So that nobody waits for calls that do not come.
                let _ = application.call(C_GETFUNCTIONSTATUS, login, &[]);
            });
        }
        let is_over = || working.load(Ordering::SeqCst) == 0;
        while !is_over() {
            let next = token.with(|world| world.came.len()) + 50;
            token.wait(|world| world.came.len() >= next || is_over());
            gateway.cut();
        }
    });
    assert!([CKR_OK, CKR_USER_ALREADY_LOGGED_IN].contains(&application.login(login)));
    assert_eq!(application.sign(login), CKR_OK);
    let calls = THREADS * ROUNDS;
    let (made, failed) = (made.into_inner(), failed.into_inner());
    assert_eq!(made + failed, calls);
    assert!(token.count(C_CREATEOBJECT).0 <= calls);
    assert!((made..=calls).contains(&application.created()));
}
