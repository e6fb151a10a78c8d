//! Operations that outlast their connection, and those that can't.

use super::application::{data, patient, room, Application};
use super::gateway::{sum, Fate, Gateway, KEY, OBJECTS, RANDOM};
use super::server::Place;
use crate::config::Renewal;
use keyway_wire::generated::call::*;
use keyway_wire::generated::mechanism::*;
use keyway_wire::generated::rv::*;
use keyway_wire::generated::shapes_of;
use keyway_wire::value::{Bytes, Mechanism, Member, Parameter, Room, Template, Value};

/// A gateway, an application that does not give up, and its session, which is logged in.
struct Bench {
    gateway: Gateway,
    application: Application,
    session: u64,
    _place: Place,
}

fn bench(journal: usize) -> Bench {
    let (place, gateway, application) = super::application::bench(Renewal { journal, ..patient() });
    let session = application.logged_in();
    Bench {
        gateway,
        application,
        session,
        _place: place,
    }
}

impl Bench {
    fn cut(&self) {
        self.gateway.cut();
    }

    fn begin(&self, number: u16, mechanism: u64) -> u64 {
        self.application.begin(number, self.session, mechanism)
    }

    fn call(&self, number: u16, args: &[Value<'_>]) -> u64 {
        self.application.call(number, self.session, args)
    }

    fn result(&self, number: u16, data: &[u8]) -> (u64, Vec<u8>) {
        self.application.result(number, self.session, data)
    }

    fn search(&self) -> u64 {
        self.call(C_FINDOBJECTSINIT, &[Value::Template(Template::Null(0))])
    }

    fn find(&self, maximum: u64) -> Result<Vec<u64>, u64> {
        self.application.find(self.session, maximum)
    }
}

#[test]
fn the_parts_of_an_operation_may_travel_on_as_many_connections() {
    let bench = bench(1 << 20);
    for (init, update, end) in [
        (C_SIGNINIT, C_SIGNUPDATE, C_SIGNFINAL),
        (C_DIGESTINIT, C_DIGESTUPDATE, C_DIGESTFINAL),
    ] {
        assert_eq!(bench.begin(init, CKM_SHA256), CKR_OK);
        for part in [&b"one"[..], b"", b"three"] {
            bench.cut();
            assert_eq!(bench.call(update, &[data(part)]), CKR_OK);
        }
        bench.cut();
        // To be told the length ends nothing, nor does a buffer that is too small.
        let length = Value::Room(Room {
            length: Some(0),
            buffer: false,
        });
        assert_eq!(bench.call(end, &[length]), CKR_OK);
        assert_eq!(bench.call(end, &[room(1)]), CKR_BUFFER_TOO_SMALL);
        bench.cut();
        assert_eq!(bench.result(end, b""), (CKR_OK, sum(b"onethree")));
        // It is over, also on the next connection.
        bench.cut();
        assert_eq!(bench.result(end, b"").0, CKR_OPERATION_NOT_INITIALIZED);
    }
    assert_eq!(bench.begin(C_VERIFYINIT, CKM_ECDSA), CKR_OK);
    assert_eq!(bench.call(C_VERIFYUPDATE, &[data(b"one")]), CKR_OK);
    bench.cut();
    assert_eq!(bench.call(C_VERIFYFINAL, &[data(&sum(b"one"))]), CKR_OK);
}

#[test]
fn what_is_encrypted_goes_on_where_it_was() {
    let bench = bench(1 << 20);
    let stream = |start: u8, part: &[u8]| -> Vec<u8> { part.iter().zip(start..).map(|(byte, at)| byte ^ at).collect() };
    for (init, update, end) in [
        (C_ENCRYPTINIT, C_ENCRYPTUPDATE, C_ENCRYPTFINAL),
        (C_DECRYPTINIT, C_DECRYPTUPDATE, C_DECRYPTFINAL),
    ] {
        assert_eq!(bench.begin(init, CKM_AES_CTR), CKR_OK);
        assert_eq!(bench.result(update, b"abc"), (CKR_OK, stream(0, b"abc")));
        bench.cut();
        assert_eq!(bench.result(update, b"def"), (CKR_OK, stream(3, b"def")));
        bench.application.token.at(update, Fate::CutAfter);
        assert_eq!(bench.result(update, b"ghi"), (CKR_OK, stream(6, b"ghi")));
        bench.application.token.at(end, Fate::CutBefore);
        assert_eq!(bench.result(end, b""), (CKR_OK, Vec::new()));
    }
    // The same part comes out as something else when it is encrypted anew, so there is nothing to go on from.
    assert_eq!(bench.begin(C_ENCRYPTINIT, RANDOM), CKR_OK);
    assert_eq!(bench.result(C_ENCRYPTUPDATE, b"abc").0, CKR_OK);
    bench.cut();
    assert_eq!(bench.result(C_ENCRYPTUPDATE, b"def").0, CKR_DEVICE_REMOVED);
    assert_eq!(
        bench.result(C_ENCRYPTUPDATE, b"def").0,
        CKR_OPERATION_NOT_INITIALIZED,
        "it was told once"
    );
    assert_eq!(bench.begin(C_ENCRYPTINIT, CKM_AES_CTR), CKR_OK);
    assert_eq!(bench.result(C_ENCRYPT, b"abc"), (CKR_OK, stream(0, b"abc")));
}

#[test]
fn several_operations_at_a_time_go_on() {
    let bench = bench(1 << 20);
    assert_eq!(bench.begin(C_DIGESTINIT, CKM_SHA256), CKR_OK);
    assert_eq!(bench.call(C_DIGESTUPDATE, &[data(b"one")]), CKR_OK);
    assert_eq!(bench.begin(C_SIGNINIT, CKM_ECDSA), CKR_OK);
    assert_eq!(bench.call(C_SIGNUPDATE, &[data(b"two")]), CKR_OK);
    bench.cut();
    assert_eq!(bench.result(C_SIGNFINAL, b""), (CKR_OK, sum(b"two")));
    bench.cut();
    assert_eq!(bench.result(C_DIGESTFINAL, b""), (CKR_OK, sum(b"one")));
}

#[test]
fn a_call_of_the_operation_that_was_in_flight_is_made_again() {
    let bench = bench(1 << 20);
    for fate in [Fate::CutBefore, Fate::CutAfter] {
        let token = &bench.application.token;
        for number in [C_SIGNINIT, C_SIGNUPDATE, C_SIGNFINAL] {
            // Else the init call would wait for the next one.
            assert_eq!(bench.begin(C_SIGNINIT, CKM_SHA256_RSA_PKCS), CKR_OK);
            if number == C_SIGNINIT {
                token.at(C_SIGNINIT, fate.clone());
            }
            assert_eq!(bench.call(C_SIGNUPDATE, &[data(b"one")]), CKR_OK);
            token.at(number, fate.clone());
            assert_eq!(bench.call(C_SIGNUPDATE, &[data(b"two")]), CKR_OK);
            assert_eq!(bench.result(C_SIGNFINAL, b""), (CKR_OK, sum(b"onetwo")), "{number}");
        }
    }
}

fn structured(mechanism: u64, members: Vec<Member<'static>>) -> Value<'static> {
    Value::Mechanism(Some(Mechanism {
        mechanism,
        parameter: Parameter::Structured(shapes_of(mechanism)[0], members),
    }))
}

fn plain(mechanism: u64) -> Value<'static> {
    Value::Mechanism(Some(Mechanism {
        mechanism,
        parameter: Parameter::Null(0),
    }))
}

/// Begins an operation that can't be made again. Returns the call that goes on with it.
type Begin = fn(&Bench) -> u16;

fn all_that_can_not() -> Vec<(&'static str, Begin)> {
    vec![
        ("a parameter that is written", |bench| {
            let gcm = structured(
                CKM_AES_GCM,
                vec![
                    Member::String(Bytes::Data(b"iv")),
                    Member::Ulong(96),
                    Member::String(Bytes::Null(0)),
                    Member::Ulong(128),
                ],
            );
            assert_eq!(bench.call(C_ENCRYPTINIT, &[gcm, Value::Ulong(KEY)]), CKR_OK);
            C_ENCRYPTUPDATE
        }),
        ("one-time signatures", |bench| {
            assert_eq!(bench.begin(C_SIGNINIT, CKM_HSS), CKR_OK);
            C_SIGN
        }),
        ("one-time passwords", |bench| {
            assert_eq!(bench.begin(C_SIGNINIT, CKM_HOTP), CKR_OK);
            C_SIGN
        }),
        ("messages", |bench| {
            assert_eq!(
                bench.call(C_MESSAGESIGNINIT, &[plain(CKM_ECDSA), Value::Ulong(KEY)]),
                CKR_OK
            );
            C_MESSAGESIGNFINAL
        }),
        ("two at once", |bench| {
            assert_eq!(bench.begin(C_DIGESTINIT, CKM_SHA256), CKR_OK);
            assert_eq!(bench.begin(C_ENCRYPTINIT, CKM_AES_CTR), CKR_OK);
            assert_eq!(bench.result(C_DIGESTENCRYPTUPDATE, b"one").0, CKR_OK);
            C_ENCRYPTUPDATE
        }),
        ("a saved state", |bench| {
            let state = [data(b"state"), Value::Ulong(0), Value::Ulong(0)];
            assert_eq!(bench.call(C_SETOPERATIONSTATE, &state), CKR_OK);
            C_DIGESTUPDATE
        }),
        ("a login for this operation", |bench| {
            assert_eq!(bench.begin(C_SIGNINIT, CKM_ECDSA), CKR_OK);
            assert_eq!(bench.call(C_LOGIN, &[Value::Ulong(2), data(b"1")]), CKR_OK);
            C_SIGN
        }),
        ("too much", |bench| {
            assert_eq!(bench.begin(C_DIGESTINIT, CKM_SHA256), CKR_OK);
            assert_eq!(bench.call(C_DIGESTUPDATE, &[data(&[0; 2_000])]), CKR_OK);
            C_DIGESTUPDATE
        }),
    ]
}

fn go_on(bench: &Bench, number: u16) -> u64 {
    match number {
        C_MESSAGESIGNFINAL => bench.call(number, &[]),
        C_DIGESTUPDATE => bench.call(number, &[data(b"two")]),
        _ => bench.result(number, b"two").0,
    }
}

#[test]
fn an_operation_that_can_not_be_made_again_is_lost_and_the_session_is_not() {
    for (what, begin) in all_that_can_not() {
        let bench = bench(1_000);
        let number = begin(&bench);
        bench.cut();
        // Calls that do not need it do not see it.
        assert_eq!(bench.call(C_SEEDRANDOM, &[data(b"seed")]), CKR_OK, "{what}");
        let came = bench.application.token.count(number);
        assert_eq!(go_on(&bench, number), CKR_DEVICE_REMOVED, "{what}");
        assert_eq!(bench.application.token.count(number), came, "{what}");
        assert_eq!(go_on(&bench, number), CKR_OPERATION_NOT_INITIALIZED, "{what}");
        assert_eq!(bench.begin(C_SIGNINIT, CKM_ECDSA), CKR_OK, "{what}");
        assert_eq!(bench.result(C_SIGN, b"data"), (CKR_OK, sum(b"data")), "{what}");
    }
}

#[test]
fn an_operation_that_can_not_be_made_again_and_is_not_gone_on_with_is_no_obstacle() {
    for (what, begin) in all_that_can_not() {
        let bench = bench(1_000);
        begin(&bench);
        bench.cut();
        assert_eq!(bench.begin(C_SIGNINIT, CKM_ECDSA), CKR_OK, "{what}");
        assert_eq!(bench.result(C_SIGN, b"data"), (CKR_OK, sum(b"data")), "{what}");
    }
}

#[test]
fn a_call_of_such_an_operation_is_never_sent_twice() {
    for fate in [Fate::CutBefore, Fate::CutAfter] {
        for (what, begin) in all_that_can_not() {
            let bench = bench(1_000);
            let number = begin(&bench);
            let came = bench.application.token.count(number).0;
            bench.application.token.at(number, fate.clone());
            assert_eq!(go_on(&bench, number), CKR_DEVICE_ERROR, "{what}");
            assert_eq!(go_on(&bench, number), CKR_OPERATION_NOT_INITIALIZED, "{what}");
            assert_eq!(bench.application.token.count(number).0, came + 2, "{what}");
        }
    }
}

#[test]
fn a_one_time_key_is_used_once_also_where_its_init_call_travels_along() {
    let bench = bench(1 << 20);
    let token = &bench.application.token;
    for _ in 0..2 {
        assert_eq!(bench.begin(C_SIGNINIT, CKM_HSS), CKR_OK);
        assert_eq!(bench.result(C_SIGN, b"data").0, CKR_OK);
    }
    assert_eq!(token.count(C_SIGNINIT).0, 1, "it has been learned");
    token.at(C_SIGN, Fate::CutAfter);
    assert_eq!(bench.begin(C_SIGNINIT, CKM_HSS), CKR_OK);
    assert_eq!(bench.result(C_SIGN, b"data").0, CKR_DEVICE_ERROR);
    assert_eq!(token.count(C_SIGN), (3, 3));
    assert_eq!(bench.result(C_SIGN, b"data").0, CKR_OPERATION_NOT_INITIALIZED);
    // It had not been used when the connection was found to be broken.
    assert_eq!(bench.begin(C_SIGNINIT, CKM_HSS), CKR_OK);
    bench.cut();
    assert_eq!(bench.result(C_SIGN, b"data").0, CKR_OK);
}

#[test]
fn an_operation_that_does_not_begin_again_is_lost() {
    let bench = bench(1 << 20);
    assert_eq!(bench.begin(C_DIGESTINIT, CKM_SHA256), CKR_OK);
    assert_eq!(bench.begin(C_SIGNINIT, CKM_ECDSA), CKR_OK);
    bench.cut();
    bench
        .application
        .token
        .at(C_SIGNINIT, Fate::Refused(CKR_KEY_HANDLE_INVALID));
    assert_eq!(bench.result(C_SIGN, b"data").0, CKR_DEVICE_REMOVED);
    assert_eq!(bench.result(C_DIGEST, b"data"), (CKR_OK, sum(b"data")));
}

#[test]
fn a_call_that_fails_for_want_of_a_gateway_ends_its_operation() {
    let bench = bench(1 << 20);
    for _ in 0..2 {
        assert_eq!(bench.begin(C_SIGNINIT, CKM_ECDSA), CKR_OK);
        bench.cut();
        bench
            .application
            .token
            .at(C_OPENSESSION, Fate::Refused(CKR_TOKEN_NOT_PRESENT));
        assert_eq!(bench.result(C_SIGN, b"data").0, CKR_TOKEN_NOT_PRESENT);
        assert_eq!(bench.result(C_SIGN, b"data").0, CKR_OPERATION_NOT_INITIALIZED);
        assert_eq!(bench.begin(C_SIGNINIT, CKM_ECDSA), CKR_OK);
        assert_eq!(bench.result(C_SIGN, b"data"), (CKR_OK, sum(b"data")));
    }
}

#[test]
fn a_search_finds_each_object_once_on_however_many_connections() {
    let bench = bench(1 << 20);
    // The second time, the init call travels along.
    for _ in 0..2 {
        assert_eq!(bench.search(), CKR_OK);
        let mut found = Vec::new();
        for _ in 0..OBJECTS.len() {
            bench.cut();
            let next = bench.find(1).expect("an object");
            assert_eq!(next.len(), 1, "{found:?}");
            found.extend(next);
        }
        assert_eq!(found, OBJECTS);
        bench.application.token.at(C_FINDOBJECTS, Fate::CutAfter);
        assert_eq!(bench.find(1), Ok(Vec::new()));
        bench.cut();
        assert_eq!(bench.call(C_FINDOBJECTSFINAL, &[]), CKR_OK);
        bench.cut();
        assert_eq!(bench.find(1), Err(CKR_OPERATION_NOT_INITIALIZED));
    }
}

#[test]
fn a_search_that_is_given_all_at_once_is_given_the_rest() {
    let bench = bench(1 << 20);
    assert_eq!(bench.search(), CKR_OK);
    assert_eq!(bench.find(100), Ok(OBJECTS[..2].to_vec()));
    bench.cut();
    assert_eq!(bench.find(100), Ok(OBJECTS[2..4].to_vec()));
    bench.application.token.at(C_FINDOBJECTS, Fate::CutBefore);
    assert_eq!(bench.find(100), Ok(OBJECTS[4..].to_vec()));
    assert_eq!(bench.find(100), Ok(Vec::new()));
}
