//! The loaded library, whose connection breaks under its sessions.

mod support;

use keyway_wire::generated::call::*;
use keyway_wire::generated::mechanism::CKM_SHA256;
use keyway_wire::generated::rv::*;
use keyway_wire::generated::session_state::CKS_RW_USER_FUNCTIONS;
use keyway_wire::value::{Info, Value};
use support::{bytes, data, invoke, mechanism, room, with, Application, Way};

/// SHA-256 of "abc", from the standard.
const ABC: [u8; 32] = [
    0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61,
    0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
];

fn state(application: &Application, session: u64) -> u64 {
    let info = [Value::Pointer(true)];
    with(
        &application.module,
        C_GETSESSIONINFO,
        session,
        &info,
        |rv, reply| match (rv, reply) {
            (CKR_OK, [Value::Info(Some(Info::Session(info)))]) => info.state,
            _ => panic!("{rv:#x} {reply:?}"),
        },
    )
}

/// How many mappings of this process are as those that hold PINs.
fn guarded() -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("a file");
    maps.lines()
        .filter_map(|line| line.strip_prefix("VmFlags:"))
        .filter(|flags| {
            ["lo", "dd", "wf"]
                .iter()
                .all(|wanted| flags.split_whitespace().any(|flag| flag == *wanted))
        })
        .count()
}

#[test]
fn a_session_and_its_login_and_operation_outlast_the_host() {
    let application = Application::initialized_by(Way::Renewable);
    let module = &application.module;
    let before = guarded();
    let session = application.session();
    assert_eq!(guarded(), before + 1, "where the PIN is");
    assert_eq!(invoke(module, C_DIGESTINIT, session, &[mechanism(CKM_SHA256)]), CKR_OK);
    for part in [b"a", b"b", b"c"] {
        assert_eq!(invoke(module, C_DIGESTUPDATE, session, &[bytes(part)]), CKR_OK);
        application.hosts.kill();
        assert_eq!(state(&application, session), CKS_RW_USER_FUNCTIONS);
    }
    assert_eq!(data(module, C_DIGESTFINAL, session, &[room(32)]), Ok(ABC.to_vec()));
    assert_eq!(invoke(module, C_LOGOUT, session, &[]), CKR_OK);
    assert_eq!(guarded(), before);
}
