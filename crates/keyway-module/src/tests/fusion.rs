//! What travels, and when, once the module has learned.

use super::server::{invoke, open_session, reply, Act, Place, Seen};
use crate::context::Context;
use keyway_wire::generated::call::*;
use keyway_wire::generated::mechanism::{CKM_ECDSA, CKM_SHA256};
use keyway_wire::generated::rv::*;
use keyway_wire::value::{Bytes, Mechanism, Numbers, ObjectsRoom, Output, Parameter, Room, Template, Value};
use keyway_wire::{call, flag};
use std::sync::mpsc::Receiver;
use std::sync::Arc;

const KEY: u64 = 77;

fn ecdsa() -> Value<'static> {
    Value::Mechanism(Some(Mechanism {
        mechanism: CKM_ECDSA,
        parameter: Parameter::Null(0),
    }))
}

fn output(length: u64, data: Option<&'static [u8]>) -> Value<'static> {
    Value::Output(Output {
        length: Some(length),
        data,
    })
}

/// A token on which everything succeeds.
fn token(seen: &Seen) -> Act {
    let values = match seen.header.call {
        C_SIGNINIT | C_DIGESTINIT | C_ENCRYPTINIT => vec![Value::Parameter(Parameter::Unchanged)],
        // A request that ends with a length of 0 is for the length.
        C_SIGN | C_DIGEST if seen.body.ends_with(&0_u64.to_be_bytes()) => vec![output(4, None)],
        C_SIGN | C_SIGNFINAL | C_DIGEST => vec![output(4, Some(b"sign"))],
        C_FINDOBJECTS => vec![Value::Numbers(Numbers {
            count: Some(1),
            data: Some(vec![KEY]),
        })],
        _ => Vec::new(),
    };
    Act::Reply(CKR_OK, values)
}

struct Bench {
    context: Arc<Context>,
    told: Receiver<Seen>,
    _place: Place,
}

impl Bench {
    fn new(act: impl FnMut(&Seen) -> Act + Send + 'static) -> Self {
        let place = Place::new();
        let told = place.serve(act);
        let context = place.context();
        assert_eq!(context.open(), CKR_OK);
        Self {
            context,
            told,
            _place: place,
        }
    }

    fn session(&self) -> u64 {
        let session = open_session(&self.context, 1).expect("a session");
        let _ = self.travelled();
        session
    }

    fn invoke(&self, number: u16, session: u64, args: &[Value<'_>]) -> u64 {
        invoke(&self.context, number, session, args)
    }

    fn sign_init(&self, session: u64) -> u64 {
        self.invoke(C_SIGNINIT, session, &[ecdsa(), Value::Ulong(KEY)])
    }

    /// C_Sign, into a buffer or for the length.
    fn sign(&self, session: u64, buffer: bool) -> u64 {
        let room = Room {
            length: Some(if buffer { 64 } else { 0 }),
            buffer,
        };
        let data = Value::Bytes(Bytes::Data(b"data"));
        let mut length = None;
        let rv = self.context.invoke(
            call(C_SIGN).expect("a call"),
            session,
            &[data, Value::Room(room)],
            &mut |_, values| {
                if let [Value::Output(output)] = values {
                    length = output.length;
                }
                Ok(())
            },
        );
        if rv == Ok(CKR_OK) {
            assert_eq!(length, Some(4));
        }
        rv.unwrap_or_else(|rv| rv)
    }

    /// The calls that arrived since it was last asked, with their flags.
    fn travelled(&self) -> Vec<(u16, u16)> {
        // Posted calls are there for certain once a call behind them was answered.
        assert_eq!(self.invoke(C_GETFUNCTIONSTATUS, 999, &[]), CKR_OK);
        let seen = self.told.try_iter().map(|seen| (seen.header.call, seen.header.flags));
        seen.filter(|(call, _)| *call != C_GETFUNCTIONSTATUS).collect()
    }

    /// Signs until the module knows how.
    fn learn(&self, session: u64) {
        assert_eq!(
            (
                self.sign_init(session),
                self.sign(session, false),
                self.sign(session, true)
            ),
            (CKR_OK, CKR_OK, CKR_OK)
        );
        assert_eq!(self.travelled(), [(C_SIGNINIT, 0), (C_SIGN, 0), (C_SIGN, 0)]);
    }
}

#[test]
fn the_second_signature_takes_one_round_trip() {
    let bench = Bench::new(token);
    let session = bench.session();
    bench.learn(session);
    for _ in 0..3 {
        assert_eq!(
            (
                bench.sign_init(session),
                bench.sign(session, false),
                bench.sign(session, true)
            ),
            (CKR_OK, CKR_OK, CKR_OK)
        );
        assert_eq!(bench.travelled(), [(C_SIGN, flag::FUSED)]);
    }
    // Another session of the token knows as much.
    let other = bench.session();
    assert_eq!((bench.sign_init(other), bench.sign(other, true)), (CKR_OK, CKR_OK));
    assert_eq!(bench.travelled(), [(C_SIGN, flag::FUSED)]);
}

#[test]
fn a_fused_request_carries_both_calls() {
    let place = Place::new();
    let told = place.serve(token);
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    let bench = Bench {
        context,
        told,
        _place: place,
    };
    let session = bench.session();
    bench.learn(session);
    assert_eq!((bench.sign_init(session), bench.sign(session, true)), (CKR_OK, CKR_OK));
    let seen = bench.told.try_iter().last().expect("a request");
    assert_eq!((seen.header.target, seen.header.object), (session, KEY));
    let init = call(C_SIGNINIT).expect("a call");
    let (args, rest) = keyway_wire::decode_request_prefix(init, seen.header.object, &seen.body).expect("an init call");
    assert_eq!(args, [ecdsa(), Value::Ulong(KEY)]);
    let args = keyway_wire::decode_request(call(C_SIGN).expect("a call"), 0, rest).expect("a call");
    assert_eq!(args[0], Value::Bytes(Bytes::Data(b"data")));
}

#[test]
fn another_call_of_the_session_sends_the_init_call_first() {
    let bench = Bench::new(token);
    let session = bench.session();
    bench.learn(session);
    assert_eq!(bench.sign_init(session), CKR_OK);
    assert_eq!(
        bench.invoke(C_SIGNUPDATE, session, &[Value::Bytes(Bytes::Data(b"part"))]),
        CKR_OK
    );
    assert_eq!(bench.travelled(), [(C_SIGNINIT, 0), (C_SIGNUPDATE, 0)]);
    // An operation is active now, so an init call is none that is known to succeed.
    assert_eq!(bench.sign_init(session), CKR_OK);
    assert_eq!(bench.travelled(), [(C_SIGNINIT, 0)]);
}

#[test]
fn a_session_that_is_closed_takes_its_deferred_call_along() {
    let bench = Bench::new(token);
    let (session, other) = (bench.session(), bench.session());
    bench.learn(session);
    assert_eq!(bench.sign_init(session), CKR_OK);
    assert_eq!(bench.invoke(C_CLOSESESSION, session, &[]), CKR_OK);
    assert_eq!(bench.travelled(), [(C_CLOSESESSION, flag::POSTED)]);
    // It was not the last one and made nothing, so what is known goes on.
    assert_eq!((bench.sign_init(other), bench.sign(other, true)), (CKR_OK, CKR_OK));
    assert_eq!(bench.travelled(), [(C_SIGN, flag::FUSED)]);
    // With the last one goes the login.
    assert_eq!(bench.invoke(C_CLOSESESSION, other, &[]), CKR_OK);
    assert_eq!(bench.travelled(), [(C_CLOSESESSION, 0)]);
    let session = bench.session();
    bench.learn(session);
}

#[test]
fn the_end_of_a_session_is_waited_for_if_objects_end_with_it_or_the_session_is_not_there() {
    let bench = Bench::new(|seen: &Seen| match seen.header.call {
        C_GENERATERANDOM => Act::Reply(CKR_SESSION_HANDLE_INVALID, Vec::new()),
        C_CREATEOBJECT => Act::Reply(CKR_OK, vec![Value::Cell(Some(5))]),
        _ => token(seen),
    });
    let (_stays, creates, lost) = (bench.session(), bench.session(), bench.session());
    let template = Value::Template(Template::Attributes(Vec::new()));
    assert_eq!(
        bench.invoke(C_CREATEOBJECT, creates, &[template, Value::Cell(Some(0))]),
        CKR_OK
    );
    let fill = Value::Fill {
        buffer: true,
        length: 8,
    };
    assert_eq!(
        bench.invoke(C_GENERATERANDOM, lost, &[fill]),
        CKR_SESSION_HANDLE_INVALID
    );
    let _ = bench.travelled();
    for session in [creates, lost] {
        assert_eq!(bench.invoke(C_CLOSESESSION, session, &[]), CKR_OK);
        assert_eq!(bench.travelled(), [(C_CLOSESESSION, 0)]);
    }
}

#[test]
fn the_mechanisms_of_a_token_are_asked_once_until_it_may_be_another_one() {
    let bench = Bench::new(|seen: &Seen| match seen.header.call {
        C_GETMECHANISMLIST => Act::Reply(
            CKR_OK,
            vec![Value::Numbers(Numbers {
                count: Some(1),
                data: Some(vec![CKM_ECDSA]),
            })],
        ),
        C_GETSLOTLIST => Act::Reply(
            CKR_OK,
            vec![Value::Numbers(Numbers {
                count: Some(1),
                data: None,
            })],
        ),
        _ => token(seen),
    });
    let session = bench.session();
    let room = |buffer| {
        Value::Room(Room {
            length: Some(9),
            buffer,
        })
    };
    let ask = || {
        let mut told = None;
        let rv = bench.context.invoke(
            call(C_GETMECHANISMLIST).expect("a call"),
            1,
            &[room(true)],
            &mut |_, values| {
                if let [Value::Numbers(numbers)] = values {
                    told.clone_from(&numbers.data);
                }
                Ok(())
            },
        );
        assert_eq!((rv, told), (Ok(CKR_OK), Some(vec![CKM_ECDSA])));
        bench.travelled()
    };
    let asked = [(C_GETMECHANISMLIST, 0)];
    assert_eq!(ask(), asked);
    assert_eq!(ask(), []);
    let list = |buffer| bench.invoke(C_GETSLOTLIST, 0, &[Value::Bool(1), room(buffer)]);
    assert_eq!(list(true), CKR_OK);
    let _ = bench.travelled();
    assert_eq!(ask(), []);
    let pin = [Value::Ulong(1), Value::Bytes(Bytes::Data(b"1234"))];
    for change in [&|| list(false), &|| bench.invoke(C_LOGIN, session, &pin), &|| {
        bench.context.forget_fleeting();
        CKR_OK
    }] as [&dyn Fn() -> u64; 3]
    {
        assert_eq!(change(), CKR_OK);
        let _ = bench.travelled();
        assert_eq!(ask(), asked);
        assert_eq!(ask(), []);
    }
}

#[test]
fn what_disturbs_the_token_is_forgotten_and_sends_what_was_deferred_elsewhere() {
    let pin = [Value::Ulong(1), Value::Bytes(Bytes::Data(b"1234"))];
    for (number, args) in [
        (C_LOGOUT, &[][..]),
        (C_LOGIN, &pin),
        (C_DESTROYOBJECT, &[Value::Ulong(KEY)]),
    ] {
        let bench = Bench::new(token);
        let (session, other) = (bench.session(), bench.session());
        bench.learn(session);
        assert_eq!(bench.sign_init(session), CKR_OK);
        assert_eq!(bench.invoke(number, other, args), CKR_OK);
        assert_eq!(bench.travelled(), [(C_SIGNINIT, 0), (number, 0)]);
        assert_eq!(bench.sign(session, true), CKR_OK);
        assert_eq!(bench.travelled(), [(C_SIGN, 0)]);
        bench.learn(other);
    }
}

#[test]
fn another_key_that_goes_leaves_what_is_known_of_this_one() {
    let bench = Bench::new(token);
    let session = bench.session();
    bench.learn(session);
    assert_eq!(bench.invoke(C_DESTROYOBJECT, session, &[Value::Ulong(KEY + 1)]), CKR_OK);
    assert_eq!((bench.sign_init(session), bench.sign(session, true)), (CKR_OK, CKR_OK));
    assert_eq!(bench.travelled(), [(C_DESTROYOBJECT, 0), (C_SIGN, flag::FUSED)]);
}

#[test]
fn an_init_call_that_fails_after_all_is_the_answer_and_is_forgotten() {
    let mut gone = false;
    let bench = Bench::new(move |seen| match seen.header.call {
        C_SIGN if seen.header.flags & flag::FUSED != 0 => {
            gone = true;
            Act::Init(CKR_KEY_HANDLE_INVALID)
        }
        C_SIGNINIT if gone => Act::Reply(CKR_KEY_HANDLE_INVALID, Vec::new()),
        _ => token(seen),
    });
    let session = bench.session();
    bench.learn(session);
    assert_eq!(
        (bench.sign_init(session), bench.sign(session, true)),
        (CKR_OK, CKR_KEY_HANDLE_INVALID)
    );
    assert_eq!(bench.sign_init(session), CKR_KEY_HANDLE_INVALID);
    assert_eq!(bench.travelled(), [(C_SIGN, flag::FUSED), (C_SIGNINIT, 0)]);
}

#[test]
fn an_init_call_that_fails_when_it_is_sent_first_answers_the_next_call_of_its_operation() {
    let mut inits = 0;
    let bench = Bench::new(move |seen| match seen.header.call {
        C_SIGNINIT => {
            inits += 1;
            if inits == 2 {
                Act::Reply(CKR_KEY_HANDLE_INVALID, Vec::new())
            } else {
                token(seen)
            }
        }
        _ => token(seen),
    });
    let session = bench.session();
    bench.learn(session);
    assert_eq!(bench.sign_init(session), CKR_OK);
    assert_eq!(
        bench.invoke(C_GETSESSIONINFO, session, &[Value::Pointer(false)]),
        CKR_OK
    );
    assert_eq!(bench.sign(session, true), CKR_KEY_HANDLE_INVALID);
    assert_eq!(bench.travelled(), [(C_SIGNINIT, 0), (C_GETSESSIONINFO, 0)]);
    bench.learn(session);
}

#[test]
fn a_failed_call_leaves_nothing_to_rely_on() {
    let mut signs = 0;
    let bench = Bench::new(move |seen| match seen.header.call {
        C_SIGN => {
            signs += 1;
            if signs == 3 {
                Act::Reply(CKR_FUNCTION_FAILED, Vec::new())
            } else {
                token(seen)
            }
        }
        _ => token(seen),
    });
    let session = bench.session();
    bench.learn(session);
    assert_eq!(
        (bench.sign_init(session), bench.sign(session, true)),
        (CKR_OK, CKR_FUNCTION_FAILED)
    );
    // Is the operation still active? The token has to say.
    assert_eq!((bench.sign_init(session), bench.sign(session, true)), (CKR_OK, CKR_OK));
    assert_eq!(bench.travelled(), [(C_SIGN, flag::FUSED), (C_SIGNINIT, 0), (C_SIGN, 0)]);
}

#[test]
fn digests_and_searches_are_fused_too_and_a_search_ends_by_post() {
    let bench = Bench::new(token);
    let session = bench.session();
    let digest = |fused: &[(u16, u16)]| {
        let mechanism = Value::Mechanism(Some(Mechanism {
            mechanism: CKM_SHA256,
            parameter: Parameter::Null(0),
        }));
        assert_eq!(bench.invoke(C_DIGESTINIT, session, &[mechanism]), CKR_OK);
        let room = Value::Room(Room {
            length: Some(32),
            buffer: true,
        });
        assert_eq!(
            bench.invoke(C_DIGEST, session, &[Value::Bytes(Bytes::Data(b"data")), room]),
            CKR_OK
        );
        assert_eq!(bench.travelled(), fused);
    };
    digest(&[(C_DIGESTINIT, 0), (C_DIGEST, 0)]);
    digest(&[(C_DIGEST, flag::FUSED)]);
    let find = |fused: &[(u16, u16)]| {
        assert_eq!(
            bench.invoke(C_FINDOBJECTSINIT, session, &[Value::Template(Template::Null(0))]),
            CKR_OK
        );
        let room = Value::ObjectsRoom(ObjectsRoom {
            maximum: 10,
            count: true,
            buffer: true,
        });
        assert_eq!(bench.invoke(C_FINDOBJECTS, session, &[room]), CKR_OK);
        assert_eq!(bench.invoke(C_FINDOBJECTSFINAL, session, &[]), CKR_OK);
        assert_eq!(bench.travelled(), fused);
    };
    find(&[
        (C_FINDOBJECTSINIT, 0),
        (C_FINDOBJECTS, 0),
        (C_FINDOBJECTSFINAL, flag::POSTED),
    ]);
    find(&[(C_FINDOBJECTS, flag::FUSED), (C_FINDOBJECTSFINAL, flag::POSTED)]);
}

#[test]
fn threads_that_disturb_and_threads_that_defer_do_not_wait_for_one_another_for_ever() {
    let bench = Bench::new(token);
    let threads: Vec<_> = (0..6)
        .map(|number| {
            let context = Arc::clone(&bench.context);
            std::thread::spawn(move || {
                let session = open_session(&context, 1).expect("a session");
                for round in 0..300 {
                    assert_eq!(
                        invoke(&context, C_SIGNINIT, session, &[ecdsa(), Value::Ulong(KEY)]),
                        CKR_OK
                    );
                    if (round + number) % 7 == 0 {
                        assert_eq!(invoke(&context, C_DESTROYOBJECT, session, &[Value::Ulong(KEY)]), CKR_OK);
                    }
                    let room = Value::Room(Room {
                        length: Some(64),
                        buffer: true,
                    });
                    assert_eq!(
                        invoke(&context, C_SIGN, session, &[Value::Bytes(Bytes::Data(b"data")), room]),
                        CKR_OK
                    );
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread");
    }
}

#[test]
fn a_search_that_another_sessions_logout_may_have_ended_is_not_ended_unasked() {
    let bench = Bench::new(token);
    let (searching, other) = (bench.session(), bench.session());
    let everything = [Value::Template(Template::Null(0))];
    for disturb in [C_LOGOUT, C_LOGIN] {
        assert_eq!(bench.invoke(C_FINDOBJECTSINIT, searching, &everything), CKR_OK);
        let args = [Value::Ulong(1), Value::Bytes(Bytes::Data(b"1234"))];
        let args = if disturb == C_LOGIN { &args[..] } else { &[] };
        assert_eq!(bench.invoke(disturb, other, args), CKR_OK);
        assert_eq!(bench.invoke(C_FINDOBJECTSFINAL, searching, &[]), CKR_OK);
        assert_eq!(
            bench.travelled(),
            [(C_FINDOBJECTSINIT, 0), (disturb, 0), (C_FINDOBJECTSFINAL, 0)]
        );
    }
    assert_eq!(bench.invoke(C_FINDOBJECTSINIT, searching, &everything), CKR_OK);
    assert_eq!(bench.invoke(C_FINDOBJECTSFINAL, searching, &[]), CKR_OK);
    assert_eq!(
        bench.travelled(),
        [(C_FINDOBJECTSINIT, 0), (C_FINDOBJECTSFINAL, flag::POSTED)]
    );
}

#[test]
fn the_last_two_sessions_closed_at_once_end_the_login_all_the_same() {
    let mut held: Option<Seen> = None;
    let bench = Bench::new(move |seen: &Seen| {
        if seen.header.call != C_CLOSESESSION {
            return token(seen);
        }
        // The first is answered when the second is there.
        match held.take() {
            None => {
                held = Some(seen.clone());
                Act::Nothing
            }
            Some(first) => Act::Raw(
                [
                    reply(&first.header, CKR_OK, 0, &[]),
                    reply(&seen.header, CKR_OK, 0, &[]),
                ]
                .concat(),
            ),
        }
    });
    let sessions = [bench.session(), bench.session()];
    bench.learn(sessions[0]);
    std::thread::scope(|scope| {
        for session in sessions {
            let context = &bench.context;
            scope.spawn(move || assert_eq!(invoke(context, C_CLOSESESSION, session, &[]), CKR_OK));
        }
    });
    let session = bench.session();
    assert_eq!(bench.sign_init(session), CKR_OK);
    assert_eq!(
        bench.travelled(),
        [(C_SIGNINIT, 0)],
        "the key's handle is worth nothing any more"
    );
}

#[test]
fn a_session_that_is_lost_is_not_taken_for_an_open_one() {
    for rv in [CKR_SESSION_HANDLE_INVALID, CKR_SESSION_CLOSED, CKR_DEVICE_REMOVED] {
        let bench = Bench::new(move |seen| match seen.header.call {
            C_SEEDRANDOM => Act::Reply(rv, Vec::new()),
            _ => token(seen),
        });
        let (lost, last) = (bench.session(), bench.session());
        let seed = [Value::Bytes(Bytes::Data(b"x"))];
        assert_eq!(bench.invoke(C_SEEDRANDOM, lost, &seed), rv);
        assert_eq!(bench.travelled(), [(C_SEEDRANDOM, 0)]);
        bench.learn(last);
        assert_eq!(bench.invoke(C_CLOSESESSION, last, &[]), CKR_OK);
        // It was the last one: the login is over.
        let next = bench.session();
        assert_eq!(bench.sign_init(next), CKR_OK);
        let travelled = bench.travelled();
        assert_eq!(travelled.last(), Some(&(C_SIGNINIT, 0)), "{rv:#x}: {travelled:?}");
    }
}

#[test]
fn the_loss_of_a_session_ends_what_is_known() {
    let bench = Bench::new(|seen| match seen.header.call {
        C_SEEDRANDOM => Act::Reply(CKR_SESSION_HANDLE_INVALID, Vec::new()),
        _ => token(seen),
    });
    let (lost, other) = (bench.session(), bench.session());
    bench.learn(other);
    let seed = [Value::Bytes(Bytes::Data(b"x"))];
    assert_eq!(bench.invoke(C_SEEDRANDOM, lost, &seed), CKR_SESSION_HANDLE_INVALID);
    assert_eq!(bench.sign_init(other), CKR_OK);
    assert_eq!(bench.travelled().last(), Some(&(C_SIGNINIT, 0)));
}

#[test]
fn sessions_of_a_lost_connection_are_not_taken_for_open_ones() {
    let bench = Bench::new(|seen| match seen.header.call {
        C_SEEDRANDOM => Act::HangUp,
        _ => token(seen),
    });
    let lost = bench.session();
    let seed = [Value::Bytes(Bytes::Data(b"x"))];
    assert_eq!(bench.invoke(C_SEEDRANDOM, lost, &seed), CKR_DEVICE_ERROR);
    let last = bench.session();
    bench.learn(last);
    assert_eq!(bench.invoke(C_CLOSESESSION, last, &[]), CKR_OK);
    let next = bench.session();
    assert_eq!(bench.sign_init(next), CKR_OK);
    assert_eq!(bench.travelled().last(), Some(&(C_SIGNINIT, 0)));
}
