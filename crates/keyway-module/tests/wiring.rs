//! The whole path but for the daemon: the module as it is shipped, a module host, SoftHSM.

mod support;

use keyway_wire::generated::attribute::*;
use keyway_wire::generated::call::*;
use keyway_wire::generated::initialize_flag::CKF_OS_LOCKING_OK;
use keyway_wire::generated::mechanism::*;
use keyway_wire::generated::rv::*;
use keyway_wire::value::{AttributeValue, Info, ObjectsRoom, Value};
use support::*;

const TRUE: AttributeValue<'static> = AttributeValue::Bytes(&[1]);
const P256: AttributeValue<'static> = AttributeValue::Bytes(b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07");

/// A key pair on the curve P-256: the public key, the private key.
fn key_pair(application: &Application, session: u64) -> (u64, u64) {
    let public = template(&[(CKA_EC_PARAMS, P256), (CKA_VERIFY, TRUE), (CKA_TOKEN, TRUE)]);
    let private = template(&[(CKA_SIGN, TRUE), (CKA_TOKEN, TRUE)]);
    let cell = || Value::Cell(Some(0));
    let args = [mechanism(CKM_EC_KEY_PAIR_GEN), public, private, cell(), cell()];
    with(
        &application.module,
        C_GENERATEKEYPAIR,
        session,
        &args,
        |rv, reply| match (rv, reply) {
            (CKR_OK, [_, Value::Cell(Some(public)), Value::Cell(Some(private))]) => (*public, *private),
            _ => panic!("no key pair: {rv:x}"),
        },
    )
}

/// Signs 32 bytes, after asking for the length.
fn sign(application: &Application, session: u64, key: u64) -> Vec<u8> {
    let module = &application.module;
    assert_eq!(
        invoke(module, C_SIGNINIT, session, &[mechanism(CKM_ECDSA), Value::Ulong(key)]),
        CKR_OK
    );
    assert_eq!(invoke(module, C_SIGN, session, &[bytes(&[7; 32]), query()]), CKR_OK);
    data(module, C_SIGN, session, &[bytes(&[7; 32]), room(64)]).expect("a signature")
}

fn verify(application: &Application, session: u64, key: u64, signature: &[u8]) -> u64 {
    let module = &application.module;
    assert_eq!(
        invoke(
            module,
            C_VERIFYINIT,
            session,
            &[mechanism(CKM_ECDSA), Value::Ulong(key)]
        ),
        CKR_OK
    );
    invoke(module, C_VERIFY, session, &[bytes(&[7; 32]), bytes(signature)])
}

#[test]
fn signatures_are_the_tokens_and_take_one_round_trip_once_learned() {
    let mut counts = Vec::new();
    for signatures in [2, 12] {
        let application = Application::initialized();
        let session = application.session();
        let (public, private) = key_pair(&application, session);
        for _ in 0..signatures {
            let signature = sign(&application, session, private);
            assert_eq!(signature.len(), 64);
            assert_eq!(verify(&application, session, public, &signature), CKR_OK);
            let mut wrong = signature;
            wrong[40] ^= 1;
            assert_eq!(verify(&application, session, public, &wrong), CKR_SIGNATURE_INVALID);
        }
        assert_eq!(application.module.finalize(), CKR_OK);
        counts.push(round_trips(&application.token));
    }
    // Ten times a signature and two verifications: three init calls, and three questions for the length, are not asked.
    assert_eq!(counts[1] - counts[0], 30);
}

#[test]
fn objects_are_found() {
    let application = Application::initialized();
    let session = application.session();
    let (public, private) = key_pair(&application, session);
    let find = |wanted: &[(u64, AttributeValue<'_>)]| {
        let module = &application.module;
        assert_eq!(invoke(module, C_FINDOBJECTSINIT, session, &[template(wanted)]), CKR_OK);
        let room = Value::ObjectsRoom(ObjectsRoom {
            maximum: 10,
            count: true,
            buffer: true,
        });
        let found = with(module, C_FINDOBJECTS, session, &[room], |rv, reply| match (rv, reply) {
            (CKR_OK, [Value::Numbers(numbers)]) => numbers.data.clone().unwrap_or_default(),
            _ => panic!("nothing found: {rv:x}"),
        });
        assert_eq!(invoke(module, C_FINDOBJECTSFINAL, session, &[]), CKR_OK);
        found
    };
    for _ in 0..3 {
        assert_eq!(find(&[(CKA_CLASS, AttributeValue::Number(2))]), [public]);
        assert_eq!(find(&[(CKA_CLASS, AttributeValue::Number(3))]), [private]);
        assert_eq!(find(&[(CKA_CLASS, AttributeValue::Number(4))]), []);
    }
    let module = &application.module;
    // Searching is over for certain.
    assert_eq!(
        invoke(module, C_FINDOBJECTSFINAL, session, &[]),
        CKR_OPERATION_NOT_INITIALIZED
    );
}

#[test]
fn wrong_handles_are_the_modules_to_refuse() {
    let application = Application::initialized();
    let session = application.session();
    let module = &application.module;
    let info = [Value::Pointer(true)];
    assert_eq!(
        invoke(module, C_GETSESSIONINFO, session + 7, &info),
        CKR_SESSION_HANDLE_INVALID
    );
    assert_eq!(invoke(module, C_GETTOKENINFO, 999, &info), CKR_SLOT_ID_INVALID);
    assert_eq!(
        invoke(module, C_SIGNINIT, session, &[mechanism(CKM_ECDSA), Value::Ulong(999)]),
        CKR_OBJECT_HANDLE_INVALID
    );
    assert_eq!(open_session(module, 999), Err(CKR_SLOT_ID_INVALID));
    assert_eq!(invoke(module, C_CLOSESESSION, session, &[]), CKR_OK);
    assert_eq!(invoke(module, C_CLOSESESSION, session, &[]), CKR_SESSION_HANDLE_INVALID);
}

#[test]
fn initialised_once_and_finalised_once() {
    let application = Application::new();
    let module = &application.module;
    assert_eq!(module.finalize(), CKR_CRYPTOKI_NOT_INITIALIZED);
    assert_eq!(
        invoke(module, C_GETINFO, 0, &[Value::Pointer(true)]),
        CKR_CRYPTOKI_NOT_INITIALIZED
    );
    for _ in 0..3 {
        assert_eq!(module.initialize(CKF_OS_LOCKING_OK, None), CKR_OK);
        assert_eq!(
            module.initialize(CKF_OS_LOCKING_OK, None),
            CKR_CRYPTOKI_ALREADY_INITIALIZED
        );
        let manufacturer = with(module, C_GETINFO, 0, &[Value::Pointer(true)], |rv, reply| {
            match (rv, reply) {
                (CKR_OK, [Value::Info(Some(Info::Module(info)))]) => info.manufacturer_id,
                _ => panic!("no information: {rv:x}"),
            }
        });
        assert!(manufacturer.starts_with(b"SoftHSM"));
        assert_eq!(module.finalize(), CKR_OK);
        assert_eq!(module.finalize(), CKR_CRYPTOKI_NOT_INITIALIZED);
    }
    // This module refuses it; that it can tell is what counts.
    assert_eq!(
        module.initialize(CKF_OS_LOCKING_OK, Some(b"configdir=''")),
        CKR_ARGUMENTS_BAD
    );
    assert_eq!(
        invoke(module, C_GETINFO, 0, &[Value::Pointer(true)]),
        CKR_CRYPTOKI_NOT_INITIALIZED
    );
}

#[test]
fn an_application_goes_on_after_its_host_crashed() {
    let application = Application::initialized();
    let session = application.session();
    let (_, private) = key_pair(&application, session);
    sign(&application, session, private);
    let module = &application.module;
    application.hosts.kill();
    let info = [Value::Pointer(true)];
    // Whether the end has been noticed when the call is made is a matter of luck.
    assert!([CKR_DEVICE_ERROR, CKR_DEVICE_REMOVED].contains(&invoke(module, C_GETSESSIONINFO, session, &info)));
    assert_eq!(invoke(module, C_GETSESSIONINFO, session, &info), CKR_DEVICE_REMOVED);
    let sign_init = [mechanism(CKM_ECDSA), Value::Ulong(private)];
    assert_eq!(invoke(module, C_SIGNINIT, session, &sign_init), CKR_DEVICE_REMOVED);
    assert_eq!(invoke(module, C_CLOSESESSION, session, &[]), CKR_OK);
    let session = application.session();
    let (public, private) = key_pair(&application, session);
    let signature = sign(&application, session, private);
    assert_eq!(verify(&application, session, public, &signature), CKR_OK);
}
