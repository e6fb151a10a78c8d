//! `libkeyway.so` with module hosts behind it, loaded as an application loads it, and SoftHSM with a fresh token.
//!
//! In place of the daemon stands a thread that starts a host for each connection and hands it the socket.
#![allow(dead_code)] // each test file uses its own part

use keyway_abi::host::{Arguments, Library, Message};
use keyway_wire::generated::call::{C_GETSLOTLIST, C_LOGIN, C_OPENSESSION};
use keyway_wire::generated::initialize_flag::CKF_OS_LOCKING_OK;
use keyway_wire::generated::rv::CKR_OK;
use keyway_wire::generated::session_flag::{CKF_RW_SESSION, CKF_SERIAL_SESSION};
use keyway_wire::value::{Attribute, AttributeValue, Bytes, Mechanism, Parameter, Room, Template, Value};
use keyway_wire::{call, flag, table::Call, Header, HEADER_LENGTH};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const PIN: &[u8] = b"12345678";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder of the binaries, which are built if they are not.
fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let build = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "keyway-module", "-p", "keyway-host"])
            .status();
        assert!(build.expect("cargo").success());
        let test = std::env::current_exe().expect("a path");
        test.ancestors().nth(2).expect("target/debug").to_path_buf()
    })
}

/// The module under test.
pub fn libkeyway() -> PathBuf {
    binaries().join("libkeyway.so")
}

/// A token in a folder of its own, removed at the end.
pub struct Token {
    folder: PathBuf,
}

impl Token {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("keyway-module-{}-{number}", std::process::id()));
        let tokens = folder.join("tokens");
        std::fs::create_dir_all(&tokens).expect("a folder");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        let token = Self { folder };
        std::fs::write(token.configuration(), text).expect("a file");
        let pin = std::str::from_utf8(PIN).expect("a text");
        let done = Command::new("softhsm2-util")
            .args([
                "--init-token",
                "--free",
                "--label",
                "test",
                "--pin",
                pin,
                "--so-pin",
                pin,
            ])
            .env("SOFTHSM2_CONF", token.configuration())
            .output();
        assert!(done.expect("softhsm2-util").status.success());
        token
    }

    pub fn configuration(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    /// What KEYWAY_STATS names.
    pub fn stats(&self) -> PathBuf {
        self.folder.join("stats")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Starts a module host for each connection.
pub struct Hosts {
    socket: PathBuf,
    ended: Arc<AtomicBool>,
    children: Arc<Mutex<Vec<Child>>>,
    thread: Option<JoinHandle<()>>,
}

/// How a host gets a client's stream: given away, or through a relay that says of sessions that they can be made anew.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Direct,
    Renewable,
}

/// Passes bytes on, and says of each session that is opened that it can be made anew.
fn relay(client: UnixStream) -> OwnedFd {
    let (host, ours) = UnixStream::pair().expect("a pair");
    let (mut from, mut to) = (
        client.try_clone().expect("a stream"),
        ours.try_clone().expect("a stream"),
    );
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ = answers(&ours, &client);
        let _ = client.shutdown(Shutdown::Both);
    });
    host.into()
}

fn answers(mut host: &UnixStream, mut client: &UnixStream) -> std::io::Result<()> {
    let mut version = [0];
    host.read_exact(&mut version)?;
    client.write_all(&version)?;
    loop {
        let mut start = [0; HEADER_LENGTH];
        host.read_exact(&mut start)?;
        let mut header = Header::decode(&start);
        if header.call == C_OPENSESSION {
            header.flags |= flag::RENEWABLE;
        }
        let mut frame = header.encode().to_vec();
        frame.resize(HEADER_LENGTH + header.length as usize, 0);
        host.read_exact(&mut frame[HEADER_LENGTH..])?;
        client.write_all(&frame)?;
    }
}

impl Hosts {
    pub fn start(token: &Token, way: Way) -> Self {
        let socket = token.socket();
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (ended, children) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Child>>>::default());
        let configuration = token.configuration();
        let (end, list) = (Arc::clone(&ended), Arc::clone(&children));
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let mut command = Command::new(binaries().join("keyway-host"));
                command
                    .args(["--fd", "0", SOFTHSM])
                    .env("SOFTHSM2_CONF", &configuration);
                let stream = match way {
                    Way::Direct => OwnedFd::from(stream),
                    Way::Renewable => relay(stream),
                };
                lock(&list).push(command.stdin(stream).spawn().expect("a host"));
            }
        });
        Self {
            socket,
            ended,
            children,
            thread: Some(thread),
        }
    }

    /// Ends all hosts as a crash would.
    pub fn kill(&self) {
        for child in lock(&self.children).iter_mut() {
            child.kill().expect("to kill it");
            child.wait().expect("to see it end");
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        match UnixStream::connect(&self.socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => {}
            _ => {
                let _ = self.thread.take().map(JoinHandle::join);
            }
        }
        for child in lock(&self.children).iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A module as an application sees it, and the token behind it. There is one at a time, since a process has one of each module.
pub struct Application {
    pub module: Library,
    pub hosts: Hosts,
    pub token: Token,
    _alone: MutexGuard<'static, ()>,
}

impl Application {
    /// Loads the module; it is not initialised.
    pub fn new() -> Self {
        Self::by(Way::Direct)
    }

    fn by(way: Way) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = lock(&ALONE);
        let module = Library::load(&libkeyway()).expect("the module");
        let token = Token::new();
        std::env::set_var("KEYWAY_ADDRESS", token.socket());
        std::env::set_var("KEYWAY_STATS", token.stats());
        Self {
            hosts: Hosts::start(&token, way),
            module,
            token,
            _alone: alone,
        }
    }

    /// Loads and initialises it.
    pub fn initialized() -> Self {
        Self::initialized_by(Way::Direct)
    }

    pub fn initialized_by(way: Way) -> Self {
        let application = Self::by(way);
        assert_eq!(application.module.initialize(CKF_OS_LOCKING_OK, None), CKR_OK);
        application
    }

    /// A session that is logged in.
    pub fn session(&self) -> u64 {
        let session = open_session(&self.module, slot(&self.module)).expect("a session");
        assert_eq!(login(&self.module, session), CKR_OK);
        session
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.module.finalize();
    }
}

/// Makes a call and hands its RV and reply to `look`.
pub fn with<T>(
    module: &Library,
    number: u16,
    target: u64,
    args: &[Value<'_>],
    look: impl FnOnce(u64, &[Value<'_>]) -> T,
) -> T {
    let row: &Call = call(number).expect("a call");
    let arguments = Arguments::build(row, args, Message::Inactive).expect("arguments");
    let rv = module.call(row, target, &arguments);
    let mut reply = arguments.reply(rv);
    if let Some(session) = arguments.session() {
        reply.push(Value::Cell(Some(session)));
    }
    look(rv, &reply)
}

/// Makes a call and returns its RV.
pub fn invoke(module: &Library, number: u16, target: u64, args: &[Value<'_>]) -> u64 {
    with(module, number, target, args, |rv, _| rv)
}

/// The number in the last cell of a reply: a handle.
pub fn handle(module: &Library, number: u16, target: u64, args: &[Value<'_>]) -> Result<u64, u64> {
    with(module, number, target, args, |rv, reply| match (rv, reply.last()) {
        (CKR_OK, Some(Value::Cell(Some(handle)))) => Ok(*handle),
        _ => Err(rv),
    })
}

/// The first data of a reply.
pub fn data(module: &Library, number: u16, target: u64, args: &[Value<'_>]) -> Result<Vec<u8>, u64> {
    with(module, number, target, args, |rv, reply| match (rv, reply.first()) {
        (CKR_OK, Some(Value::Output(output))) => Ok(output.data.unwrap_or_default().to_vec()),
        _ => Err(rv),
    })
}

/// The first slot with a token.
pub fn slot(module: &Library) -> u64 {
    let args = [
        Value::Bool(1),
        Value::Room(Room {
            length: Some(8),
            buffer: true,
        }),
    ];
    with(module, C_GETSLOTLIST, 0, &args, |rv, reply| match (rv, reply) {
        (CKR_OK, [Value::Numbers(numbers)]) => numbers.data.as_ref().expect("slots")[0],
        _ => panic!("no slots: {rv:x}"),
    })
}

pub fn open_session(module: &Library, slot: u64) -> Result<u64, u64> {
    let args = [Value::Ulong(CKF_SERIAL_SESSION | CKF_RW_SESSION), Value::Cell(Some(0))];
    handle(module, C_OPENSESSION, slot, &args)
}

pub fn login(module: &Library, session: u64) -> u64 {
    invoke(module, C_LOGIN, session, &[Value::Ulong(1), bytes(PIN)])
}

pub fn bytes(data: &[u8]) -> Value<'_> {
    Value::Bytes(Bytes::Data(data))
}

pub fn room(length: u64) -> Value<'static> {
    Value::Room(Room {
        length: Some(length),
        buffer: true,
    })
}

pub fn query() -> Value<'static> {
    Value::Room(Room {
        length: Some(0),
        buffer: false,
    })
}

pub fn mechanism(mechanism: u64) -> Value<'static> {
    Value::Mechanism(Some(Mechanism {
        mechanism,
        parameter: Parameter::Null(0),
    }))
}

pub fn template<'a>(attributes: &[(u64, AttributeValue<'a>)]) -> Value<'a> {
    let attribute = |(attribute, value): &(u64, AttributeValue<'a>)| Attribute {
        attribute: *attribute,
        value: value.clone(),
    };
    Value::Template(Template::Attributes(attributes.iter().map(attribute).collect()))
}

/// How often the module had waited when it was last finalised.
pub fn round_trips(token: &Token) -> usize {
    let text = std::fs::read_to_string(token.stats()).expect("counts");
    let line = text.lines().last().expect("a line");
    let number = line
        .split("\"round_trips\":")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    number.and_then(|number| number.parse().ok()).expect("a number")
}
