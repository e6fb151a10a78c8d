//! A module host under test, driven over its socket like the daemon does.
#![allow(dead_code)] // each test file uses its own part

use keyway_wire::generated::{call, rv};
use keyway_wire::table::Call;
use keyway_wire::value::{Attribute, AttributeValue, Bytes, Mechanism, Parameter, Room, Template, Value};
use keyway_wire::{decode_reply, encode_request, flag, header_object, Header, HEADER_LENGTH, VERSION};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The vendor module that tests run against for real.
pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// No test waits longer for anything.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A directory that is removed at the end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keyway-host-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A configuration of SoftHSM with an empty token directory.
pub fn softhsm_configuration(directory: &Directory) -> PathBuf {
    let tokens = directory.0.join("tokens");
    std::fs::create_dir_all(&tokens).expect("a directory");
    let file = directory.0.join("softhsm2.conf");
    let tokens = tokens.display();
    let text = format!("directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n");
    std::fs::write(&file, text).expect("a file");
    file
}

/// The faulty module, compiled once.
pub fn faulty_module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/faulty/faulty.c");
        let module = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faulty-{}.so", std::process::id()));
        let compiled = Command::new("gcc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&module)
            .arg(source)
            .status();
        assert!(compiled.expect("gcc").success());
        module
    })
}

/// A reply as it came.
#[derive(Debug)]
pub struct Reply {
    pub header: Header,
    body: Vec<u8>,
    row: Option<&'static Call>,
}

impl Reply {
    pub fn rv(&self) -> u64 {
        self.header.object
    }

    pub fn values(&self) -> Vec<Value<'_>> {
        decode_reply(self.row.expect("a known call"), &self.body).expect("a well-formed reply")
    }

    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The data of the first output.
    pub fn data(&self) -> Vec<u8> {
        let values = self.values();
        let found = values.iter().find_map(|value| match value {
            Value::Output(output) => output.data,
            Value::Bytes(Bytes::Data(data)) => Some(*data),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no data in {values:?}")).to_vec()
    }

    /// The numbers in cells.
    pub fn cells(&self) -> Vec<u64> {
        let number = |value: &Value<'_>| match value {
            Value::Cell(number) => *number,
            _ => None,
        };
        self.values().iter().filter_map(number).collect()
    }

    /// The first array of numbers.
    pub fn numbers(&self) -> Vec<u64> {
        let values = self.values();
        let found = values.iter().find_map(|value| match value {
            Value::Numbers(numbers) => numbers.data.clone(),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no numbers in {values:?}"))
    }
}

/// A running host and the socket to it.
pub struct Host {
    pub child: Child,
    pub stream: UnixStream,
    last_id: u64,
    early: HashMap<u64, Reply>,
}

/// How to start a host.
pub fn command(module: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyway-host"));
    command
        .args(["--fd", "0"])
        .arg(module)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts a host whose socket is its standard input, and does not wait for it.
pub fn spawn(mut command: Command) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    ours.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    ours.set_write_timeout(Some(DEADLINE)).expect("a timeout");
    let child = command.stdin(OwnedFd::from(theirs)).spawn().expect("the host starts");
    (child, ours)
}

/// Waits for a process to end.
pub fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(Instant::now() < deadline, "the process is still there");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Host {
    /// Starts a host and waits until its module is loaded.
    pub fn start(command: Command) -> Self {
        let (child, mut stream) = spawn(command);
        stream.write_all(&[VERSION]).expect("writable");
        let mut version = [0];
        stream.read_exact(&mut version).expect("the host is ready");
        assert_eq!(version, [VERSION]);
        Self {
            child,
            stream,
            last_id: 0,
            early: HashMap::new(),
        }
    }

    /// A host of SoftHSM, initialised with OS locking.
    pub fn softhsm(directory: &Directory) -> Self {
        let mut command = command(Path::new(SOFTHSM));
        command.env("SOFTHSM2_CONF", softhsm_configuration(directory));
        Self::initialised(command)
    }

    /// A host of the faulty module, initialised with OS locking.
    pub fn faulty(faults: &str) -> Self {
        let mut command = command(faulty_module());
        command.env("FAULTY", faults);
        Self::initialised(command)
    }

    pub fn initialised(command: Command) -> Self {
        let mut host = Self::start(command);
        assert_eq!(host.initialize(2, Bytes::Null(0)), rv::CKR_OK);
        host
    }

    pub fn initialize(&mut self, flags: u64, reserved: Bytes<'_>) -> u64 {
        let args = [
            Value::Ulong(flags),
            Value::Bytes(reserved),
            Value::Bytes(Bytes::Data(b"test")),
        ];
        self.call(call::C_INITIALIZE, 0, &args).rv()
    }

    /// Sends raw bytes as the body of a request. Returns the request's id.
    pub fn send_raw(&mut self, number: u16, flags: u16, target: u64, object: u64, body: &[u8]) -> u64 {
        self.last_id += 1;
        let length = u32::try_from(body.len()).expect("a small body");
        let header = Header {
            length,
            call: number,
            flags,
            id: self.last_id,
            target,
            object,
        };
        let frame = [&header.encode()[..], body].concat();
        self.stream.write_all(&frame).expect("writable");
        self.last_id
    }

    /// Sends a request. Returns its id.
    pub fn send(&mut self, number: u16, target: u64, args: &[Value<'_>]) -> u64 {
        let row = keyway_wire::call(number).expect("a known call");
        let mut body = Vec::new();
        encode_request(row, args, &mut body).expect("values of the row");
        self.send_raw(number, 0, target, header_object(row, args), &body)
    }

    /// Sends a request fused with the init call of its row. Returns its id.
    pub fn send_fused(&mut self, number: u16, target: u64, first: &[Value<'_>], second: &[Value<'_>]) -> u64 {
        let row = keyway_wire::call(number).expect("a known call");
        let init = keyway_wire::call(row.init).expect("a call that can be fused");
        let mut body = Vec::new();
        encode_request(init, first, &mut body).expect("values of the row");
        encode_request(row, second, &mut body).expect("values of the row");
        self.send_raw(number, flag::FUSED, target, header_object(init, first), &body)
    }

    /// The next reply, whatever request it answers.
    pub fn receive_any(&mut self) -> std::io::Result<Reply> {
        let mut header = [0; HEADER_LENGTH];
        self.stream.read_exact(&mut header)?;
        let header = Header::decode(&header);
        let mut body = vec![0; header.length as usize];
        self.stream.read_exact(&mut body)?;
        assert_ne!(header.flags & flag::REPLY, 0);
        Ok(Reply {
            header,
            body,
            row: keyway_wire::call(header.call),
        })
    }

    /// The reply to a request.
    pub fn receive(&mut self, id: u64) -> Reply {
        loop {
            if let Some(reply) = self.early.remove(&id) {
                return reply;
            }
            let reply = self.receive_any().expect("a reply");
            self.early.insert(reply.header.id, reply);
        }
    }

    pub fn call(&mut self, number: u16, target: u64, args: &[Value<'_>]) -> Reply {
        let id = self.send(number, target, args);
        self.receive(id)
    }

    /// A call that must succeed.
    pub fn ok(&mut self, number: u16, target: u64, args: &[Value<'_>]) -> Reply {
        let reply = self.call(number, target, args);
        assert_eq!(reply.rv(), rv::CKR_OK, "call {number}");
        reply
    }

    pub fn open_session(&mut self, slot: u64, handle: u64) -> u64 {
        let args = [Value::Ulong(6), Value::Cell(Some(handle))];
        self.call(call::C_OPENSESSION, slot, &args).rv()
    }

    /// Sets up a token on SoftHSM and logs in to it with this session. Returns the slot.
    pub fn set_up_token(&mut self, session: u64) -> u64 {
        let slots = [
            Value::Bool(1),
            Value::Room(Room {
                length: Some(10),
                buffer: true,
            }),
        ];
        let slot = self.ok(call::C_GETSLOTLIST, 0, &slots).numbers()[0];
        let label = b"test                            ";
        self.ok(call::C_INITTOKEN, slot, &[pin(b"so-pin"), Value::Label(Some(label))]);
        let slot = self.ok(call::C_GETSLOTLIST, 0, &slots).numbers()[0];
        assert_eq!(self.open_session(slot, session), rv::CKR_OK);
        self.ok(call::C_LOGIN, session, &[Value::Ulong(0), pin(b"so-pin")]);
        self.ok(call::C_INITPIN, session, &[pin(b"user-pin")]);
        self.ok(call::C_LOGOUT, session, &[]);
        self.ok(call::C_LOGIN, session, &[Value::Ulong(1), pin(b"user-pin")]);
        slot
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn pin(pin: &[u8]) -> Value<'_> {
    Value::Bytes(Bytes::Data(pin))
}

pub fn data(data: &[u8]) -> Value<'_> {
    Value::Bytes(Bytes::Data(data))
}

/// Room for so many bytes or numbers.
pub fn room(length: u64) -> Value<'static> {
    Value::Room(Room {
        length: Some(length),
        buffer: true,
    })
}

/// The question how much room is needed.
pub fn how_long() -> Value<'static> {
    Value::Room(Room {
        length: Some(0),
        buffer: false,
    })
}

pub fn plain(mechanism: u64) -> Value<'static> {
    with(mechanism, Parameter::Null(0))
}

pub fn with(mechanism: u64, parameter: Parameter<'_>) -> Value<'_> {
    Value::Mechanism(Some(Mechanism { mechanism, parameter }))
}

pub fn template<'a>(attributes: &[(u64, AttributeValue<'a>)]) -> Value<'a> {
    let attribute = |(attribute, value): &(u64, AttributeValue<'a>)| Attribute {
        attribute: *attribute,
        value: value.clone(),
    };
    Value::Template(Template::Attributes(attributes.iter().map(attribute).collect()))
}

pub const YES: AttributeValue<'static> = AttributeValue::Bytes(&[1]);
pub const NO: AttributeValue<'static> = AttributeValue::Bytes(&[0]);
