//! The host with a real vendor module.

mod support;

use keyway_wire::generated::{attribute as cka, call, mechanism as ckm, rv};
use keyway_wire::value::{Attribute, AttributeValue, Info, ObjectsRoom, Output, Template, Value};
use std::time::Instant;
use support::{data, how_long, pin, plain, room, template, wait, Directory, Host, NO, YES};

const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

fn generate_rsa(host: &mut Host, session: u64, bits: u64, id: &'static [u8]) -> u64 {
    let id = host.send(call::C_GENERATEKEYPAIR, session, &rsa_arguments(bits, id));
    let reply = host.receive(id);
    assert_eq!(reply.rv(), rv::CKR_OK);
    reply.cells()[1]
}

fn rsa_arguments(bits: u64, id: &'static [u8]) -> [Value<'static>; 5] {
    [
        plain(ckm::CKM_RSA_PKCS_KEY_PAIR_GEN),
        template(&[
            (cka::CKA_MODULUS_BITS, AttributeValue::Number(bits)),
            (cka::CKA_PUBLIC_EXPONENT, AttributeValue::Bytes(&[1, 0, 1])),
            (cka::CKA_VERIFY, YES),
        ]),
        template(&[
            (cka::CKA_ID, AttributeValue::Bytes(id)),
            (cka::CKA_SIGN, YES),
            (cka::CKA_SENSITIVE, YES),
        ]),
        Value::Cell(Some(0)),
        Value::Cell(Some(0)),
    ]
}

fn sign_init(key: u64) -> [Value<'static>; 2] {
    [plain(ckm::CKM_SHA256_RSA_PKCS), Value::Ulong(key)]
}

#[test]
fn a_signature_alone_and_fused_verifies() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    host.set_up_token(1);
    let pair = host
        .ok(call::C_GENERATEKEYPAIR, 1, &rsa_arguments(2048, b"\x01"))
        .cells();
    let (public, private) = (pair[0], pair[1]);

    host.ok(call::C_SIGNINIT, 1, &sign_init(private));
    let asked = host.ok(call::C_SIGN, 1, &[data(b"message"), how_long()]);
    assert_eq!(
        asked.values(),
        [Value::Output(Output {
            length: Some(256),
            data: None
        })]
    );
    let small = host.call(call::C_SIGN, 1, &[data(b"message"), room(255)]);
    assert_eq!(small.rv(), rv::CKR_BUFFER_TOO_SMALL);
    assert_eq!(
        small.values(),
        [Value::Output(Output {
            length: Some(256),
            data: None
        })]
    );
    let alone = host.ok(call::C_SIGN, 1, &[data(b"message"), room(300)]).data();

    let id = host.send_fused(call::C_SIGN, 1, &sign_init(private), &[data(b"message"), room(256)]);
    let fused = host.receive(id);
    assert_eq!((fused.rv(), fused.header.flags), (rv::CKR_OK, 1));
    assert_eq!(fused.data(), alone, "RSA with PKCS #1 v1.5 padding is deterministic");

    for (signature, expected) in [(&alone, rv::CKR_OK), (&vec![0; 256], rv::CKR_SIGNATURE_INVALID)] {
        host.ok(call::C_VERIFYINIT, 1, &sign_init(public));
        assert_eq!(
            host.call(call::C_VERIFY, 1, &[data(b"message"), data(signature)]).rv(),
            expected
        );
    }
}

#[test]
fn a_fused_call_tells_which_half_failed() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    host.set_up_token(1);
    let key = generate_rsa(&mut host, 1, 1024, b"\x01");
    let id = host.send_fused(call::C_SIGN, 1, &sign_init(9999), &[data(b"m"), room(256)]);
    let failed = host.receive(id);
    assert_eq!(
        (failed.rv(), failed.header.flags),
        (rv::CKR_OBJECT_HANDLE_INVALID, 1 | 4)
    );
    let id = host.send_fused(call::C_SIGN, 1, &sign_init(key), &[data(b"m"), room(1)]);
    let failed = host.receive(id);
    assert_eq!((failed.rv(), failed.header.flags), (rv::CKR_BUFFER_TOO_SMALL, 1));
    host.ok(call::C_SIGN, 1, &[data(b"m"), room(128)]);
}

#[test]
fn objects_are_found_and_their_attributes_keep_their_kinds() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    host.set_up_token(1);
    let key = generate_rsa(&mut host, 1, 1024, b"\x07");
    let wanted = [template(&[(cka::CKA_ID, AttributeValue::Bytes(b"\x07"))])];
    let objects = |maximum| {
        [Value::ObjectsRoom(ObjectsRoom {
            maximum,
            count: true,
            buffer: true,
        })]
    };
    host.ok(call::C_FINDOBJECTSINIT, 1, &wanted);
    assert_eq!(host.ok(call::C_FINDOBJECTS, 1, &objects(10)).numbers(), [key]);
    assert_eq!(host.ok(call::C_FINDOBJECTS, 1, &objects(10)).numbers(), [0; 0]);
    host.ok(call::C_FINDOBJECTSFINAL, 1, &[]);
    let id = host.send_fused(call::C_FINDOBJECTS, 1, &wanted, &objects(u64::MAX));
    assert_eq!(host.receive(id).numbers(), [key]);
    // Posted: no answer; the next search would fail if it had not been executed.
    host.send_raw(call::C_FINDOBJECTSFINAL, 8, 1, 0, &[]);
    host.ok(call::C_FINDOBJECTSINIT, 1, &wanted);

    let query = template(&[
        (cka::CKA_CLASS, AttributeValue::RoomNumbers(1)),
        (cka::CKA_ID, AttributeValue::RoomBytes(100)),
        (cka::CKA_ID, AttributeValue::RoomBytes(0)),
        (cka::CKA_ID, AttributeValue::Null(77)),
        (cka::CKA_KEY_TYPE, AttributeValue::Null(0)),
        (cka::CKA_PRIVATE_EXPONENT, AttributeValue::RoomBytes(500)),
        (cka::CKA_SIGN, AttributeValue::RoomBytes(1)),
        (0x8000_4242, AttributeValue::RoomBytes(10)),
    ]);
    let reply = host.call(call::C_GETATTRIBUTEVALUE, 1, &[Value::Ulong(key), query]);
    let values = reply.values();
    let Value::Template(Template::Attributes(answer)) = &values[0] else {
        panic!("{values:?}")
    };
    let answer: Vec<_> = answer.iter().map(|Attribute { value, .. }| value.clone()).collect();
    assert_eq!(
        answer,
        [
            AttributeValue::Number(3),
            AttributeValue::Bytes(b"\x07"),
            AttributeValue::Unavailable,
            AttributeValue::Null(1),
            AttributeValue::LengthNumbers(1),
            AttributeValue::Unavailable,
            AttributeValue::Bytes(&[1]),
            AttributeValue::Unavailable,
        ]
    );
    assert_ne!(reply.rv(), rv::CKR_OK);
    let null = host.call(
        call::C_GETATTRIBUTEVALUE,
        1,
        &[Value::Ulong(key), Value::Template(Template::Null(1))],
    );
    assert_eq!(
        (null.rv(), null.values()),
        (rv::CKR_ARGUMENTS_BAD, vec![Value::Template(Template::Null(0))])
    );
}

#[test]
fn the_information_structures_come_whole() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    let slot = host.set_up_token(1);
    let mut info = |number, target, args: &[Value<'_>]| {
        let reply = host.ok(number, target, args);
        match reply.values().pop() {
            Some(Value::Info(Some(info))) => info,
            other => panic!("{other:?}"),
        }
    };
    let Info::Module(module) = info(call::C_GETINFO, 0, &[Value::Pointer(true)]) else {
        panic!()
    };
    assert_eq!(&module.manufacturer_id[..7], b"SoftHSM");
    let Info::Slot(found) = info(call::C_GETSLOTINFO, slot, &[Value::Pointer(true)]) else {
        panic!()
    };
    assert_eq!(found.flags, 1);
    let Info::Token(token) = info(call::C_GETTOKENINFO, slot, &[Value::Pointer(true)]) else {
        panic!()
    };
    assert_eq!(
        (&token.label, token.session_count),
        (b"test                            ", u64::MAX)
    );
    let Info::Session(session) = info(call::C_GETSESSIONINFO, 1, &[Value::Pointer(true)]) else {
        panic!()
    };
    assert_eq!((session.slot, session.state, session.flags), (slot, 3, 6));
    let args = [Value::Ulong(ckm::CKM_RSA_PKCS), Value::Pointer(true)];
    let Info::Mechanism(mechanism) = info(call::C_GETMECHANISMINFO, slot, &args) else {
        panic!()
    };
    assert_eq!(mechanism.max_key_size, 16384);
    let null = host.call(call::C_GETINFO, 0, &[Value::Pointer(false)]);
    assert_eq!(
        (null.rv(), null.values()),
        (rv::CKR_ARGUMENTS_BAD, vec![Value::Info(None)])
    );
    let mechanisms = host.ok(call::C_GETMECHANISMLIST, slot, &[room(1000)]).numbers();
    assert_eq!(mechanisms.len(), 70);
}

#[test]
fn keys_are_made_from_templates_and_refused_for_bad_ones() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    host.set_up_token(1);
    let aes = template(&[
        (cka::CKA_VALUE_LEN, AttributeValue::Number(32)),
        (cka::CKA_SENSITIVE, NO),
        (cka::CKA_EXTRACTABLE, YES),
    ]);
    let made = host.ok(
        call::C_GENERATEKEY,
        1,
        &[plain(ckm::CKM_AES_KEY_GEN), aes, Value::Cell(Some(5))],
    );
    let query = template(&[(cka::CKA_VALUE, AttributeValue::RoomBytes(32))]);
    let reply = host.ok(call::C_GETATTRIBUTEVALUE, 1, &[Value::Ulong(made.cells()[0]), query]);
    let values = reply.values();
    let Value::Template(Template::Attributes(answer)) = &values[0] else {
        panic!()
    };
    assert!(matches!(answer[0].value, AttributeValue::Bytes(value) if value.len() == 32 && value != [0; 32]));
    let ec = [
        plain(ckm::CKM_EC_KEY_PAIR_GEN),
        template(&[(cka::CKA_EC_PARAMS, AttributeValue::Bytes(P256))]),
        template(&[(cka::CKA_SIGN, YES)]),
        Value::Cell(Some(0)),
        Value::Cell(Some(0)),
    ];
    assert_eq!(host.ok(call::C_GENERATEKEYPAIR, 1, &ec).cells().len(), 2);
    // A number of another width reaches the module as it was sent.
    let short = template(&[(cka::CKA_VALUE_LEN, AttributeValue::Bytes(&[32, 0, 0, 0]))]);
    let refused = host.call(
        call::C_GENERATEKEY,
        1,
        &[plain(ckm::CKM_AES_KEY_GEN), short, Value::Cell(Some(5))],
    );
    assert_eq!((refused.rv(), refused.cells()[0]), (rv::CKR_ATTRIBUTE_VALUE_INVALID, 0));
}

#[test]
fn a_slow_call_does_not_hold_up_another_session() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    let slot = host.set_up_token(1);
    assert_eq!(host.open_session(slot, 2), rv::CKR_OK);
    let key = generate_rsa(&mut host, 2, 1024, b"\x01");
    // Key generation takes a random time; a few attempts make it long enough to be overtaken often.
    let slow = host.send(call::C_GENERATEKEYPAIR, 1, &rsa_arguments(4096, b"\x02"));
    let behind = host.send(call::C_GETSESSIONINFO, 1, &[Value::Pointer(true)]);
    let mut overtaken = 0;
    loop {
        let id = host.send_fused(call::C_SIGN, 2, &sign_init(key), &[data(b"m"), room(128)]);
        let reply = host.receive_any().expect("a reply");
        if reply.header.id == slow {
            break;
        }
        assert_ne!(reply.header.id, behind, "the order within a session is kept");
        assert_eq!((reply.header.id, reply.rv()), (id, rv::CKR_OK));
        overtaken += 1;
    }
    assert!(overtaken > 0, "signatures were made while the key was generated");
    assert_eq!(host.receive(behind).rv(), rv::CKR_OK);
}

#[test]
fn one_thread_is_strictly_serial() {
    let directory = Directory::new();
    let mut command = support::command(std::path::Path::new(support::SOFTHSM));
    command
        .args(["--threads", "1"])
        .env("SOFTHSM2_CONF", support::softhsm_configuration(&directory));
    let mut host = Host::initialised(command);
    let slot = host.set_up_token(1);
    assert_eq!(host.open_session(slot, 2), rv::CKR_OK);
    let slow = host.send(call::C_GENERATEKEYPAIR, 1, &rsa_arguments(2048, b"\x02"));
    let quick = host.send(call::C_GETSESSIONINFO, 2, &[Value::Pointer(true)]);
    assert_eq!(host.receive_any().expect("a reply").header.id, slow);
    assert_eq!(host.receive_any().expect("a reply").header.id, quick);
}

#[test]
fn sessions_have_the_clients_handles() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    let slot = host.set_up_token(0xdead_beef_0000_0001);
    let info = [Value::Pointer(true)];
    host.ok(call::C_GETSESSIONINFO, 0xdead_beef_0000_0001, &info);
    // The module's own handle is 1, and is not the client's to use.
    for unknown in [0, 1, 2] {
        let reply = host.call(call::C_GETSESSIONINFO, unknown, &info);
        assert_eq!((reply.rv(), reply.is_empty()), (rv::CKR_SESSION_HANDLE_INVALID, false));
    }
    assert_eq!(
        host.open_session(slot, 0xdead_beef_0000_0001),
        rv::CKR_ARGUMENTS_BAD,
        "in use"
    );
    assert_eq!(host.open_session(slot, 0), rv::CKR_ARGUMENTS_BAD);
    assert_eq!(host.open_session(9999, 7), rv::CKR_SLOT_ID_INVALID);
    assert_eq!(host.open_session(slot, 7), rv::CKR_OK);
    host.ok(call::C_CLOSESESSION, 7, &[]);
    assert_eq!(
        host.call(call::C_CLOSESESSION, 7, &[]).rv(),
        rv::CKR_SESSION_HANDLE_INVALID
    );
    let null = host.call(call::C_OPENSESSION, slot, &[Value::Ulong(6), Value::Cell(None)]);
    assert_eq!(null.rv(), rv::CKR_ARGUMENTS_BAD);
    host.ok(call::C_CLOSEALLSESSIONS, slot, &[]);
    let gone = host.call(call::C_GETSESSIONINFO, 0xdead_beef_0000_0001, &info);
    assert_eq!(gone.rv(), rv::CKR_SESSION_HANDLE_INVALID);
}

#[test]
fn functions_that_the_module_lacks_are_not_supported() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    host.set_up_token(1);
    let args = [Value::Ulong(1), pin(b"user-pin"), data(b"name")];
    assert_eq!(
        host.call(call::C_LOGINUSER, 1, &args).rv(),
        rv::CKR_FUNCTION_NOT_SUPPORTED
    );
    let args = [data(b"C_Sign"), Value::Cell(Some(0))];
    assert_eq!(
        host.call(call::C_ASYNCGETID, 1, &args).rv(),
        rv::CKR_FUNCTION_NOT_SUPPORTED
    );
    for number in [0, 4, 69, 70, 105, 0x4000, 0xffff] {
        let id = host.send_raw(number, 0, 0, 0, b"anything");
        let reply = host.receive(id);
        assert_eq!(
            (reply.rv(), reply.is_empty()),
            (rv::CKR_FUNCTION_NOT_SUPPORTED, true),
            "{number}"
        );
    }
}

#[test]
fn the_end_of_the_connection_is_the_end_of_the_host() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    host.set_up_token(1);
    host.stream.shutdown(std::net::Shutdown::Both).expect("a socket");
    assert_eq!(wait(&mut host.child).code(), Some(0));
}

/// Not a test of speed, but it prints it: `cargo test --release -p keyway-host -- --nocapture round_trip`.
#[test]
#[allow(clippy::print_stdout)]
fn a_round_trip_costs_little() {
    let directory = Directory::new();
    let mut host = Host::softhsm(&directory);
    let slot = host.set_up_token(1);
    for sessions in 1..=2 {
        let rounds = 20_000;
        let start = Instant::now();
        for _ in 0..rounds {
            host.ok(call::C_GETSESSIONINFO, 1, &[Value::Pointer(true)]);
        }
        let each = start.elapsed() / rounds;
        println!("C_GetSessionInfo with {sessions} open: {each:?} for a round trip");
        assert_eq!(host.open_session(slot, 10 + sessions), rv::CKR_OK);
    }
}
