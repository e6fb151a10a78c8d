//! Connections that break, and daemons that come later.

use super::server::{invoke, open_session, opened, Act, Place, OK};
use keyway_wire::generated::call::*;
use keyway_wire::generated::rv::*;
use keyway_wire::value::{Bytes, Numbers, Room, Value};
use keyway_wire::{call, Header};

fn random() -> [Value<'static>; 1] {
    [Value::Fill {
        buffer: true,
        length: 0,
    }]
}

fn slots() -> Act {
    Act::Reply(
        CKR_OK,
        vec![Value::Numbers(Numbers {
            count: Some(1),
            data: None,
        })],
    )
}

fn slot_list() -> [Value<'static>; 2] {
    [
        Value::Bool(0),
        Value::Room(Room {
            length: Some(0),
            buffer: false,
        }),
    ]
}

/// How many slots there are.
fn count_slots(context: &crate::context::Context) -> Option<u64> {
    let mut count = None;
    let rv = context.invoke(
        call(C_GETSLOTLIST).expect("a call"),
        0,
        &slot_list(),
        &mut |_, values| {
            if let [Value::Numbers(numbers)] = values {
                count = numbers.count;
            }
            Ok(())
        },
    );
    assert_eq!(rv, Ok(CKR_OK));
    count
}

#[test]
fn slots_appear_when_the_daemon_does() {
    let place = Place::new();
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    assert_eq!(count_slots(&context), Some(0));
    assert_eq!(open_session(&context, 3), Err(CKR_SLOT_ID_INVALID));
    let _told = place.serve(|_| slots());
    assert_eq!(count_slots(&context), Some(1));
    assert_eq!(context.close(), CKR_OK);
}

#[test]
fn a_call_in_flight_fails_and_its_session_is_lost_until_closed() {
    let place = Place::new();
    let told = place.serve(|seen| match seen.header.call {
        C_SEEDRANDOM => Act::HangUp,
        C_GENERATERANDOM => Act::Reply(CKR_OK, vec![Value::Bytes(Bytes::Data(b""))]),
        _ => OK(),
    });
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    let first = open_session(&context, 1).expect("a session");
    let second = open_session(&context, 1).expect("a session");
    assert_eq!((first, second), (1, 2));
    assert_eq!(
        invoke(&context, C_SEEDRANDOM, first, &[Value::Bytes(Bytes::Data(b"x"))]),
        CKR_DEVICE_ERROR
    );
    for session in [first, second] {
        assert_eq!(
            invoke(&context, C_GENERATERANDOM, session, &random()),
            CKR_DEVICE_REMOVED
        );
    }
    // The application opens another one, which lives on a new connection and has a new handle.
    let third = open_session(&context, 1).expect("a session");
    assert_eq!(third, 3);
    assert_eq!(invoke(&context, C_GENERATERANDOM, third, &random()), CKR_OK);
    assert_eq!(
        invoke(&context, C_GENERATERANDOM, second, &random()),
        CKR_DEVICE_REMOVED
    );
    assert_eq!(invoke(&context, C_CLOSESESSION, first, &[]), CKR_OK);
    assert_eq!(invoke(&context, C_CLOSEALLSESSIONS, 1, &[]), CKR_OK);
    let opened: Vec<u64> = told
        .try_iter()
        .filter(|seen| seen.header.call == C_OPENSESSION)
        .map(|seen| opened(&seen))
        .collect();
    assert_eq!(opened, [1, 2, 3]);
}

#[test]
fn without_a_daemon_lost_sessions_can_be_closed() {
    let place = Place::new();
    let _told = place.serve(|seen| {
        if seen.header.call == C_SEEDRANDOM {
            Act::HangUp
        } else {
            OK()
        }
    });
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    let first = open_session(&context, 1).expect("a session");
    let second = open_session(&context, 1).expect("a session");
    std::fs::remove_file(place.socket()).expect("a socket");
    assert_eq!(
        invoke(&context, C_SEEDRANDOM, first, &[Value::Bytes(Bytes::Data(b"x"))]),
        CKR_DEVICE_ERROR
    );
    assert_eq!(open_session(&context, 1), Err(CKR_TOKEN_NOT_PRESENT));
    assert_eq!(invoke(&context, C_CLOSESESSION, first, &[]), CKR_OK);
    assert_eq!(
        invoke(&context, C_GENERATERANDOM, second, &random()),
        CKR_DEVICE_REMOVED
    );
    assert_eq!(invoke(&context, C_CLOSEALLSESSIONS, 1, &[]), CKR_OK);
    assert_eq!(
        invoke(&context, C_GENERATERANDOM, second, &random()),
        CKR_SESSION_HANDLE_INVALID
    );
    assert_eq!(context.close(), CKR_OK);
}

#[test]
fn a_call_without_effect_is_made_again_on_a_new_connection() {
    let place = Place::new();
    let mut seen_before = false;
    let told = place.serve(move |_| {
        if std::mem::replace(&mut seen_before, true) {
            slots()
        } else {
            Act::HangUp
        }
    });
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    assert_eq!(count_slots(&context), Some(1));
    assert_eq!(told.try_iter().count(), 2);
}

#[test]
fn a_module_that_does_not_initialise_says_so() {
    let place = Place::new();
    let listener = std::os::unix::net::UnixListener::bind(place.socket()).expect("a socket");
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().expect("a client");
        let mut start = [0; 33];
        stream.read_exact(&mut start).expect("a frame");
        let header = Header::decode(start[1..].try_into().expect("a header"));
        assert_eq!(header.call, C_INITIALIZE);
        let mut body = vec![0; header.length as usize];
        stream.read_exact(&mut body).expect("a body");
        stream.write_all(&[0x81]).expect("to answer");
        stream
            .write_all(&super::server::reply(&header, CKR_CANT_LOCK, 0, &[]))
            .expect("to answer");
    });
    assert_eq!(place.context().open(), CKR_CANT_LOCK);
    server.join().expect("the server");
}

#[test]
fn something_else_on_the_socket_is_no_daemon() {
    let place = Place::new();
    let listener = std::os::unix::net::UnixListener::bind(place.socket()).expect("a socket");
    let server = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().expect("a client");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("to answer");
    });
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    server.join().expect("the server");
    assert_eq!(count_slots(&context), Some(0));
}
