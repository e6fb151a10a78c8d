//! Many calls in flight, replies in any order, and replies that are none.

use super::server::{invoke, open_session, reply, Act, Place, OK};
use keyway_wire::generated::call::*;
use keyway_wire::generated::rv::*;
use keyway_wire::limits::MAX_BODY;
use keyway_wire::value::{Bytes, Value};
use keyway_wire::{call, flag, Header};
use std::sync::Arc;
use std::thread;

/// The bytes that the token gave.
fn random(context: &crate::context::Context, session: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let args = [Value::Fill {
        buffer: true,
        length: 8,
    }];
    let rv = context.invoke(
        call(C_GENERATERANDOM).expect("a call"),
        session,
        &args,
        &mut |_, values| {
            if let [Value::Bytes(Bytes::Data(data))] = values {
                bytes = data.to_vec();
            }
            Ok(())
        },
    );
    assert_eq!(rv, Ok(CKR_OK));
    bytes
}

#[test]
fn every_thread_gets_its_own_reply_whatever_the_order() {
    const THREADS: usize = 6;
    const ROUNDS: usize = 200;
    let place = Place::new();
    let mut kept: Vec<Header> = Vec::new();
    // Replies when all threads have asked, the last one first, each with its session handle.
    let _told = place.serve(move |seen| {
        if seen.header.call != C_GENERATERANDOM {
            return OK();
        }
        kept.push(seen.header);
        if kept.len() < THREADS {
            return Act::Nothing;
        }
        let answer = |header: Header| {
            let data: &'static [u8] = header.target.to_be_bytes().to_vec().leak();
            reply(&header, CKR_OK, 0, &[Value::Bytes(Bytes::Data(data))])
        };
        Act::Raw(kept.drain(..).rev().flat_map(answer).collect())
    });
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let context = Arc::clone(&context);
            thread::spawn(move || {
                let session = open_session(&context, 1).expect("a session");
                for _ in 0..ROUNDS {
                    assert_eq!(random(&context, session), session.to_be_bytes());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a thread");
    }
    assert_eq!(context.close(), CKR_OK);
}

#[test]
fn a_reply_that_is_none_ends_the_connection() {
    let wrong: [fn(&Header) -> Vec<u8>; 5] = [
        // Nobody asked.
        |header| {
            reply(
                &Header {
                    id: header.id + 1,
                    ..*header
                },
                CKR_OK,
                0,
                &[],
            )
        },
        // Another call was asked for.
        |header| {
            reply(
                &Header {
                    call: C_LOGOUT,
                    ..*header
                },
                CKR_OK,
                0,
                &[],
            )
        },
        // No reply at all.
        |header| {
            Header {
                length: 0,
                flags: 0,
                ..*header
            }
            .encode()
            .to_vec()
        },
        // A body that can't be decoded.
        |header| {
            [
                Header {
                    length: 1,
                    flags: flag::REPLY,
                    object: CKR_OK,
                    ..*header
                }
                .encode()
                .as_slice(),
                &[1],
            ]
            .concat()
        },
        // A body that can't be.
        |header| {
            Header {
                length: MAX_BODY as u32 + 1,
                flags: flag::REPLY,
                ..*header
            }
            .encode()
            .to_vec()
        },
    ];
    for bytes in wrong {
        let place = Place::new();
        let _told = place.serve(move |seen| match seen.header.call {
            C_SEEDRANDOM => Act::Raw(bytes(&seen.header)),
            _ => OK(),
        });
        let context = place.context();
        assert_eq!(context.open(), CKR_OK);
        let session = open_session(&context, 1).expect("a session");
        let args = [Value::Bytes(Bytes::Data(b"x"))];
        assert_eq!(invoke(&context, C_SEEDRANDOM, session, &args), CKR_DEVICE_ERROR);
        assert_eq!(invoke(&context, C_SEEDRANDOM, session, &args), CKR_DEVICE_REMOVED);
    }
}

#[test]
fn what_no_frame_can_carry_is_refused_and_the_session_goes_on() {
    let place = Place::new();
    let told = place.serve(|_| OK());
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    let session = open_session(&context, 1).expect("a session");
    let large = vec![0; MAX_BODY];
    assert_eq!(
        invoke(&context, C_SEEDRANDOM, session, &[Value::Bytes(Bytes::Data(&large))]),
        CKR_HOST_MEMORY
    );
    let small = [Value::Bytes(Bytes::Data(&large[..1 << 20]))];
    assert_eq!(invoke(&context, C_SEEDRANDOM, session, &small), CKR_OK);
    assert_eq!(
        told.try_iter().filter(|seen| seen.header.call == C_SEEDRANDOM).count(),
        1
    );
}

#[test]
fn finalize_ends_the_calls_of_other_threads() {
    let place = Place::new();
    let told = place.serve(|seen| {
        if seen.header.call == C_WAITFORSLOTEVENT {
            Act::Nothing
        } else {
            OK()
        }
    });
    let context = place.context();
    assert_eq!(context.open(), CKR_OK);
    let waiting = {
        let context = Arc::clone(&context);
        let args = [Value::Ulong(0), Value::Cell(Some(0)), Value::Pointer(false)];
        thread::spawn(move || invoke(&context, C_WAITFORSLOTEVENT, 0, &args))
    };
    assert_eq!(told.recv().expect("a call").header.call, C_WAITFORSLOTEVENT);
    assert_eq!(context.close(), CKR_OK);
    assert_eq!(waiting.join().expect("a thread"), CKR_CRYPTOKI_NOT_INITIALIZED);
}
