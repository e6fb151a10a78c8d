//! The host with a module that misbehaves, and with clients that do.

mod support;

use keyway_wire::generated::{attribute as cka, call, mechanism as ckm, message_shapes_of, rv, shapes_of};
use keyway_wire::limits::MAX_BODY;
use keyway_wire::value::{
    AttributeValue, Bytes, Info, Member, Numbers, ObjectsRoom, Output, Parameter, Template, Value,
};
use keyway_wire::{Header, VERSION};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use support::{command, data, faulty_module, how_long, plain, room, spawn, template, wait, with, Host};

const GARBAGE: u64 = 1 << 60;

/// What a host says and how it ends when its module can't be used.
fn refused(module: &Path, faults: &str) -> (Option<i32>, String) {
    let mut command = command(module);
    command.env("FAULTY", faults);
    let (mut child, _stream) = spawn(command);
    let status = wait(&mut child);
    let mut text = String::new();
    child
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut text)
        .expect("text");
    (status.code(), text)
}

#[test]
fn what_can_not_be_confined_as_it_shall_be_does_not_start() {
    for (options, reason) in [
        (["--read", "/nonexistent"], "sandbox: "),
        (["--files", "99999999999"], "sandbox: can't limit files: "),
    ] {
        let mut command = command(faulty_module());
        command.args(options);
        let (mut child, _stream) = spawn(command);
        assert_eq!(wait(&mut child).code(), Some(4));
        let mut text = String::new();
        let said = child.stderr.as_mut().expect("a pipe").read_to_string(&mut text);
        said.expect("text");
        assert!(text.starts_with(&format!("keyway-host: {reason}")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn what_can_not_be_used_is_named_in_one_line() {
    let faulty = faulty_module();
    let name = faulty.display();
    for (module, faults, reason) in [
        (Path::new("/nonexistent.so"), "", "/nonexistent.so can't be loaded: "),
        (
            Path::new("libc.so.6"),
            "",
            "libc.so.6 is no Cryptoki module: it has no C_GetFunctionList",
        ),
        (
            faulty,
            "fail-list",
            &*format!("{name} C_GetFunctionList failed with 0x5"),
        ),
        (
            faulty,
            "null-list",
            &*format!("{name} C_GetFunctionList gave no function list"),
        ),
        (
            faulty,
            "bad-version",
            &*format!("{name} its function list has the unknown version 9.9"),
        ),
    ] {
        let (status, text) = refused(module, faults);
        assert_eq!(status, Some(3), "{reason}");
        assert!(text.starts_with(&format!("keyway-host: {reason}")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert_eq!(refused(faulty, "fail-load").0, Some(1));
    assert_eq!(refused(faulty, "crash-load").0, None);
}

#[test]
fn a_peer_that_speaks_something_else_is_left() {
    let (mut child, mut stream) = spawn(command(faulty_module()));
    stream.write_all(b"\x16\x03\x01").expect("writable");
    assert_eq!(wait(&mut child).code(), Some(2));
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "and gets no answer");
    let (mut child, stream) = spawn(command(faulty_module()));
    drop(stream);
    assert_eq!(wait(&mut child).code(), Some(2));
    // A newer peer gets the version that this host speaks.
    let (_child, mut stream) = spawn(command(faulty_module()));
    stream.write_all(&[0xff]).expect("writable");
    let mut version = [0];
    stream.read_exact(&mut version).expect("an answer");
    assert_eq!(version, [VERSION]);
}

#[test]
fn noise_of_the_module_stays_off_the_wire() {
    let mut host = Host::faulty("noise");
    assert_eq!(host.open_session(0, 1), rv::CKR_OK);
}

#[test]
fn initialisation_is_passed_on_as_it_came() {
    for (flags, reserved, text) in [
        (0, Bytes::Null(0), ""),
        (2, Bytes::Null(0), ""),
        (0, Bytes::Data(b""), ""),
        (3, Bytes::Data(b"slot=1"), "slot=1"),
    ] {
        let mut host = Host::start(command(faulty_module()));
        assert_eq!(host.initialize(flags, reserved), rv::CKR_OK);
        let reply = host.ok(call::C_GETINFO, 0, &[Value::Pointer(true)]);
        let values = reply.values();
        let Some(Value::Info(Some(Info::Module(info)))) = values.first() else {
            panic!("{values:?}")
        };
        assert_eq!(info.flags, flags);
        assert!(info.library_description.starts_with(text.as_bytes()));
        assert_eq!(host.initialize(0, Bytes::Null(0)), rv::CKR_CRYPTOKI_ALREADY_INITIALIZED);
        host.ok(call::C_FINALIZE, 0, &[]);
        assert_eq!(
            host.call(call::C_FINALIZE, 0, &[]).rv(),
            rv::CKR_CRYPTOKI_NOT_INITIALIZED
        );
    }
    let mut command = command(faulty_module());
    command.env("FAULTY", "fail-init");
    assert_eq!(Host::start(command).initialize(2, Bytes::Null(0)), rv::CKR_DEVICE_ERROR);
}

fn signing(host: &mut Host, session: u64) -> u64 {
    host.ok(call::C_SIGNINIT, session, &[plain(ckm::CKM_ECDSA), Value::Ulong(1)]);
    host.send(call::C_SIGN, session, &[data(b"abc"), room(10)])
}

#[test]
fn a_crash_of_the_module_is_a_crash_of_its_host_alone() {
    for (faults, signal) in [("crash-sign", Some(11)), ("exit-sign", None)] {
        let mut host = Host::faulty(faults);
        assert_eq!(host.open_session(0, 1), rv::CKR_OK);
        signing(&mut host, 1);
        assert!(host.receive_any().is_err());
        let status = wait(&mut host.child);
        assert_eq!((status.signal(), status.core_dumped()), (signal, false), "{faults}");
    }
}

#[test]
fn a_host_ends_with_its_peer_even_if_the_module_hangs() {
    let mut host = Host::faulty("hang-sign");
    assert_eq!(host.open_session(0, 1), rv::CKR_OK);
    assert_eq!(host.open_session(0, 2), rv::CKR_OK);
    signing(&mut host, 1);
    // Another session goes on.
    host.ok(call::C_GETSESSIONINFO, 2, &[Value::Pointer(true)]);
    host.stream.shutdown(std::net::Shutdown::Both).expect("a socket");
    assert_eq!(wait(&mut host.child).code(), Some(0));
}

#[test]
fn waiting_for_a_slot_event_holds_up_nobody() {
    let mut host = Host::faulty("");
    let args = |flags| [Value::Ulong(flags), Value::Cell(Some(0)), Value::Pointer(false)];
    assert_eq!(host.call(call::C_WAITFORSLOTEVENT, 0, &args(1)).rv(), rv::CKR_NO_EVENT);
    host.send(call::C_WAITFORSLOTEVENT, 0, &args(0));
    assert_eq!(host.open_session(0, 1), rv::CKR_OK);
    let id = signing(&mut host, 1);
    assert_eq!(host.receive(id).data(), b"\x00cba");
}

#[test]
fn garbage_lengths_are_reported_and_not_believed() {
    let mut host = Host::faulty("garbage-length");
    let garbage = Numbers {
        count: Some(GARBAGE),
        data: None,
    };
    let slots = host.ok(call::C_GETSLOTLIST, 0, &[Value::Bool(0), room(4)]);
    assert_eq!(slots.values(), [Value::Numbers(garbage.clone())]);
    let mechanisms = host.ok(call::C_GETMECHANISMLIST, 0, &[room(4)]);
    assert_eq!(mechanisms.values(), [Value::Numbers(garbage)]);
    assert_eq!(host.open_session(0, 1), rv::CKR_OK);
    let id = signing(&mut host, 1);
    assert_eq!(
        host.receive(id).values(),
        [Value::Output(Output {
            length: Some(GARBAGE),
            data: None
        })]
    );
    host.ok(call::C_FINDOBJECTSINIT, 1, &[template(&[])]);
    for maximum in [0, 5, u64::MAX] {
        let room = Value::ObjectsRoom(ObjectsRoom {
            maximum,
            count: true,
            buffer: true,
        });
        let found = host.ok(call::C_FINDOBJECTS, 1, &[room]);
        assert!(
            matches!(
                &found.values()[..],
                [Value::Numbers(Numbers {
                    count: Some(_),
                    data: None
                })]
            ),
            "{maximum}"
        );
    }
    let query = template(&[
        (cka::CKA_LABEL, AttributeValue::RoomBytes(10)),
        (cka::CKA_CLASS, AttributeValue::RoomNumbers(1)),
        (cka::CKA_WRAP_TEMPLATE, AttributeValue::Template(Vec::new())),
    ]);
    let reply = host.ok(call::C_GETATTRIBUTEVALUE, 1, &[Value::Ulong(1), query]);
    let values = reply.values();
    let Value::Template(Template::Attributes(answer)) = &values[0] else {
        panic!("{values:?}")
    };
    assert!(matches!(
        [&answer[0].value, &answer[1].value, &answer[2].value],
        [AttributeValue::Null(GARBAGE), AttributeValue::LengthNumbers(_), _]
    ));
}

#[test]
fn absurd_capacities_cost_nothing() {
    let mut host = Host::faulty("");
    assert_eq!(host.open_session(0, 1), rv::CKR_OK);
    host.ok(call::C_SIGNINIT, 1, &[plain(ckm::CKM_ECDSA), Value::Ulong(1)]);
    let signed = host.ok(call::C_SIGN, 1, &[data(b"abc"), room(u64::MAX - 1)]);
    assert_eq!(signed.data(), b"\x00cba");
    assert_eq!(
        host.ok(call::C_GETSLOTLIST, 0, &[Value::Bool(0), room(u64::MAX)])
            .numbers(),
        [0]
    );
    let random = |length| [Value::Fill { buffer: true, length }];
    assert_eq!(
        host.call(call::C_GENERATERANDOM, 1, &random(GARBAGE)).rv(),
        rv::CKR_HOST_MEMORY
    );
    assert_eq!(host.ok(call::C_GENERATERANDOM, 1, &random(16)).data(), [0x2a; 16]);
    let many = vec![(cka::CKA_LABEL, AttributeValue::RoomBytes(u64::MAX)); 4096];
    assert_eq!(
        host.call(call::C_GETATTRIBUTEVALUE, 1, &[Value::Ulong(1), template(&many)])
            .rv(),
        rv::CKR_BUFFER_TOO_SMALL
    );
}

#[test]
fn a_module_without_functions_supports_none() {
    let mut host = Host::faulty("no-functions");
    assert_eq!(host.open_session(0, 1), rv::CKR_FUNCTION_NOT_SUPPORTED);
    let slots = host.call(call::C_GETSLOTLIST, 0, &[Value::Bool(0), how_long()]);
    assert_eq!(slots.rv(), rv::CKR_FUNCTION_NOT_SUPPORTED);
}

#[test]
fn malformed_requests_are_refused_and_the_connection_goes_on() {
    let mut host = Host::faulty("");
    assert_eq!(host.open_session(0, 1), rv::CKR_OK);
    let truncated = &[0, 0, 0, 9, 1][..];
    for (number, flags, body) in [
        (call::C_SIGN, 0, &b""[..]),
        (call::C_SIGN, 0, truncated),
        (call::C_SIGNINIT, 0, &[7]),
        (call::C_GETSESSIONINFO, 0, &[1, 0]),
        (call::C_GETSESSIONINFO, 0, &[2]),
        (call::C_GETSESSIONINFO, 2, &[1]),
        (call::C_GETSESSIONINFO, 0x10, &[1]),
        (call::C_GETSESSIONINFO, 1, &[1]),
        (call::C_SIGN, 2, &[0]),
        (call::C_FINDOBJECTSINIT, 0, &[0, 0, 255, 255]),
    ] {
        let id = host.send_raw(number, flags, 1, 0, body);
        let reply = host.receive(id);
        assert_eq!(
            (reply.rv(), reply.is_empty()),
            (rv::CKR_ARGUMENTS_BAD, true),
            "{number} {flags} {body:?}"
        );
    }
    // Posted ones are dropped.
    host.send_raw(call::C_SIGN, 8, 1, 0, truncated);
    host.ok(call::C_GETSESSIONINFO, 1, &[Value::Pointer(true)]);
    // A length that no frame can have ends the connection.
    let header = Header {
        length: MAX_BODY as u32 + 1,
        call: 1,
        id: 99,
        ..Header::default()
    };
    host.stream.write_all(&header.encode()).expect("writable");
    assert_eq!(wait(&mut host.child).code(), Some(0));
}

/// A host of the faulty module with a newer interface.
fn newer(version: &str, faults: &str) -> Host {
    let mut command = command(faulty_module());
    command.env("FAULTY", faults).env("FAULTY_VERSION", version);
    let mut host = Host::initialised(command);
    assert_eq!(host.open_session(0, 1), rv::CKR_OK);
    host
}

fn encapsulate() -> [Value<'static>; 5] {
    let nothing = Value::Template(Template::Attributes(Vec::new()));
    [plain(1), Value::Ulong(40), nothing, room(100), Value::Cell(Some(0))]
}

#[test]
fn the_newest_interface_is_used_as_far_as_it_goes() {
    let named = [Value::Ulong(1), data(b"pin"), data(b"name")];
    let mut host = newer("3.2", "");
    host.ok(call::C_LOGINUSER, 1, &named);
    let reply = host.ok(call::C_ENCAPSULATEKEY, 1, &encapsulate());
    assert_eq!((reply.data(), reply.cells()), (b"ciphertext".to_vec(), vec![40]));
    let asynchronous = [Value::Ulong(6 | 8), Value::Cell(Some(2))];
    assert_eq!(
        host.call(call::C_OPENSESSION, 0, &asynchronous).rv(),
        rv::CKR_SESSION_ASYNC_NOT_SUPPORTED
    );

    let mut host = newer("3.0", "");
    host.ok(call::C_LOGINUSER, 1, &named);
    assert_eq!(
        host.call(call::C_ENCAPSULATEKEY, 1, &encapsulate()).rv(),
        rv::CKR_FUNCTION_NOT_SUPPORTED
    );

    let mut host = newer("2.40", "");
    assert_eq!(
        host.call(call::C_LOGINUSER, 1, &named).rv(),
        rv::CKR_FUNCTION_NOT_SUPPORTED
    );

    let mut host = newer("3.2", "short-interface");
    assert_eq!(
        host.call(call::C_ENCAPSULATEKEY, 1, &encapsulate()).rv(),
        rv::CKR_FUNCTION_NOT_SUPPORTED
    );
}

/// CK_GCM_MESSAGE_PARAMS with room for an IV of 12 bytes and a tag of 16.
fn gcm<'a>(iv: &'a [u8], tag: &'a [u8], tag_bits: u64) -> Parameter<'a> {
    let shape = message_shapes_of(ckm::CKM_AES_GCM)[0];
    let text = |text| Member::String(Bytes::Data(text));
    Parameter::Structured(
        shape,
        vec![
            text(iv),
            Member::Ulong(0),
            Member::Ulong(1),
            text(tag),
            Member::Ulong(tag_bits),
        ],
    )
}

fn encrypt(parameter: Parameter<'_>) -> [Value<'_>; 4] {
    [Value::Parameter(parameter), data(b"extra"), data(b"plain"), room(5)]
}

#[test]
fn what_the_token_writes_into_a_parameter_comes_back() {
    let mut host = newer("3.0", "");
    host.ok(
        call::C_MESSAGEENCRYPTINIT,
        1,
        &[plain(ckm::CKM_AES_GCM), Value::Ulong(1)],
    );
    let reply = host.ok(call::C_ENCRYPTMESSAGE, 1, &encrypt(gcm(&[1; 12], &[2; 16], 128)));
    assert_eq!(reply.data(), b"plain".map(|byte| byte ^ 0x55));
    assert_eq!(reply.values()[0], Value::Parameter(gcm(&[0xaa; 12], &[5; 16], 128)));
}

#[test]
fn no_pointer_and_no_length_of_a_peer_reaches_the_module() {
    let mut host = newer("3.0", "");
    let pointers = [0x41; 48];
    // Without a message operation the module gets zeroes, which it does not look at.
    let early = host.call(call::C_ENCRYPTMESSAGE, 1, &encrypt(Parameter::Flat(&pointers)));
    assert_eq!(early.rv(), rv::CKR_OPERATION_NOT_INITIALIZED);
    host.ok(
        call::C_MESSAGEENCRYPTINIT,
        1,
        &[plain(ckm::CKM_AES_GCM), Value::Ulong(1)],
    );
    let empty = || Member::String(Bytes::Data(&[]));
    let members = vec![empty(), Member::Ulong(0), empty(), Member::Ulong(128)];
    let other_shape = Parameter::Structured(shapes_of(ckm::CKM_AES_GCM)[0], members);
    for (parameter, expected) in [
        (Parameter::Flat(&pointers[..]), rv::CKR_MECHANISM_PARAM_INVALID),
        (other_shape, rv::CKR_MECHANISM_PARAM_INVALID),
        (gcm(&[1; 12], &[2; 15], 128), rv::CKR_ARGUMENTS_BAD),
        (gcm(&[1; 12], &[2; 16], u64::MAX), rv::CKR_ARGUMENTS_BAD),
        (Parameter::Flat(&pointers[..47]), rv::CKR_MECHANISM_PARAM_INVALID),
        (Parameter::Null(48), rv::CKR_MECHANISM_PARAM_INVALID),
    ] {
        let shown = format!("{parameter:?}");
        let reply = host.call(call::C_ENCRYPTMESSAGE, 1, &encrypt(parameter));
        assert_eq!(reply.rv(), expected, "{shown}");
    }
    let other = with(ckm::CKM_AES_CBC, gcm(&[1; 12], &[2; 16], 128));
    let refused = host.call(call::C_SIGNINIT, 1, &[other, Value::Ulong(1)]);
    assert_eq!(refused.rv(), rv::CKR_MECHANISM_PARAM_INVALID);
    // What nobody knows goes through as it is.
    host.ok(
        call::C_SIGNINIT,
        1,
        &[with(0x8000_1234, Parameter::Flat(&pointers)), Value::Ulong(1)],
    );
}
