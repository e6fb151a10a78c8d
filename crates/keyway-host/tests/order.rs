//! Many requests in flight: each session's in order, all of them answered.

mod support;

use keyway_wire::generated::{call, mechanism as ckm, rv};
use keyway_wire::value::Value;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};
use support::{command, data, faulty_module, plain, room, Host, DEADLINE};

fn sign(host: &mut Host, session: u64, text: &[u8]) -> u64 {
    let init = [plain(ckm::CKM_ECDSA), Value::Ulong(1)];
    host.send_fused(call::C_SIGN, session, &init, &[data(text), room(64)])
}

#[test]
fn requests_in_flight_are_answered_in_the_order_of_each_session() {
    const SESSIONS: u64 = 16;
    // So many rounds of all sessions are in flight at once: what the sockets hold while nobody reads.
    const BURST: u8 = 8;
    let mut host = Host::faulty("");
    for session in 1..=SESSIONS {
        assert_eq!(host.open_session(0, session), rv::CKR_OK);
    }
    let mut next = HashMap::new();
    for burst in 0..25 {
        let mut expected = HashMap::new();
        for round in burst * BURST..(burst + 1) * BURST {
            for session in 1..=SESSIONS {
                let text = [session as u8, round];
                expected.insert(sign(&mut host, session, &text), (session, round));
            }
        }
        while !expected.is_empty() {
            let reply = host.receive_any().expect("a reply");
            let (session, round) = expected.remove(&reply.header.id).expect("one reply for each request");
            assert_eq!(reply.rv(), rv::CKR_OK);
            // The module counts the signatures of a session.
            assert_eq!(reply.data(), [round, round, session as u8]);
            assert_eq!(std::mem::replace(next.entry(session).or_insert(0), round + 1), round);
        }
    }
}

#[test]
fn slow_calls_of_several_sessions_run_side_by_side() {
    let mut command = command(faulty_module());
    command.env("FAULTY", "slow-sign").env("FAULTY_DELAY", "200");
    let mut host = Host::initialised(command);
    for session in 1..=5 {
        assert_eq!(host.open_session(0, session), rv::CKR_OK);
    }
    let start = Instant::now();
    let ids: Vec<u64> = (1..=5).map(|session| sign(&mut host, session, b"x")).collect();
    for id in ids {
        assert_eq!(host.receive(id).rv(), rv::CKR_OK);
    }
    assert!(
        start.elapsed() < Duration::from_millis(5 * 200),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn without_os_locking_the_module_is_called_by_one_thread_at_a_time() {
    let mut command = command(faulty_module());
    command.env("FAULTY", "slow-sign").env("FAULTY_DELAY", "100");
    let mut host = Host::start(command);
    assert_eq!(host.initialize(0, keyway_wire::value::Bytes::Null(0)), rv::CKR_OK);
    for session in 1..=2 {
        assert_eq!(host.open_session(0, session), rv::CKR_OK);
    }
    let slow = sign(&mut host, 1, b"x");
    let quick = host.send(call::C_GETSESSIONINFO, 2, &[Value::Pointer(true)]);
    assert_eq!(host.receive_any().expect("a reply").header.id, slow);
    assert_eq!(host.receive_any().expect("a reply").header.id, quick);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from_for_ever() {
    let mut host = Host::faulty("");
    assert_eq!(host.open_session(0, 1), rv::CKR_OK);
    // Requests until the socket takes no more: the host waits for its replies to be read, and memory stays bounded.
    host.stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .expect("a timeout");
    let row = keyway_wire::call(call::C_GENERATERANDOM).expect("a call");
    let mut body = Vec::new();
    keyway_wire::encode_request(
        row,
        &[Value::Fill {
            buffer: true,
            length: 10_000,
        }],
        &mut body,
    )
    .expect("encodable");
    let header = |id| keyway_wire::Header {
        length: body.len() as u32,
        call: row.number,
        id,
        target: 1,
        ..keyway_wire::Header::default()
    };
    let deadline = Instant::now() + DEADLINE;
    let mut stream = Vec::new();
    let mut sent = 0;
    let blocked = loop {
        assert!(Instant::now() < deadline, "it reads without end");
        stream.clear();
        for id in 0..100 {
            stream.extend(header(1000 + id).encode());
            stream.extend(&body);
        }
        match host.stream.write_all(&stream) {
            Ok(()) => sent += 100,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(blocked, ErrorKind::WouldBlock);
    let status = std::fs::read_to_string(format!("/proc/{}/statm", host.child.id())).expect("a process");
    let resident: usize = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    assert!(resident * 4096 < 64 << 20, "{resident} pages for {sent} requests");
    // It goes on when somebody reads.
    let mut buffer = vec![0; 1 << 16];
    assert!(host.stream.read(&mut buffer).expect("replies") > 0);
}
