//! The way to the daemon: made when it is needed, and made again after it was lost.

use crate::address::Address;
use crate::config::{Config, Renewal};
use crate::connection::{Connection, Failure, Request};
use crate::lock::{lock, read, write};
use crate::stream::Unreachable;
use keyway_wire::generated::call::C_INITIALIZE;
use keyway_wire::generated::rv::CKR_OK;
use keyway_wire::value::{Bytes, Value};
use keyway_wire::{call, encode_request};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// What C_Initialize was called with; every new connection begins with it.
#[derive(Debug, Default)]
pub struct Greeting {
    /// The flags of CK_C_INITIALIZE_ARGS.
    pub flags: u64,
    /// pReserved.
    pub reserved: Option<Vec<u8>>,
    /// What names this client in logs.
    pub application: String,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Nobody is there, or nobody who speaks the wire.
    Absent,
    /// The module behind the daemon did not initialise. The RV.
    Refused(u64),
}

/// The connection of a context.
#[derive(Debug)]
pub struct Link {
    config: Config,
    greeting: Greeting,
    current: RwLock<Option<Arc<Connection>>>,
    /// How the last attempt went that failed.
    connecting: Mutex<Missing>,
    /// How many attempts have failed.
    failures: AtomicU64,
    made: AtomicBool,
    /// Whether connections are watched: there has been a session that can be made anew on another one.
    watching: AtomicBool,
    /// The connection on which the context is being opened.
    opening: Mutex<Option<Arc<Connection>>>,
    closed: AtomicBool,
    /// What standard error was told last of each address.
    told: Mutex<HashMap<String, String>>,
    noted: Arc<AtomicI32>,
}

impl Link {
    /// A link without a connection yet. The descriptor of each connection is noted in `noted`.
    #[must_use]
    pub fn new(config: Config, greeting: Greeting, noted: Arc<AtomicI32>) -> Self {
        Self {
            config,
            greeting,
            current: RwLock::new(None),
            connecting: Mutex::new(Missing::Absent),
            failures: AtomicU64::new(0),
            made: AtomicBool::new(false),
            watching: AtomicBool::new(false),
            opening: Mutex::default(),
            closed: AtomicBool::new(false),
            told: Mutex::default(),
            noted,
        }
    }

    /// What becomes of sessions when the connection is lost.
    pub const fn renewal(&self) -> Renewal {
        self.config.renewal
    }

    /// A session was opened on a connection that can be made anew on another one: whether the daemon is there is watched from now on.
    pub fn watch(&self, connection: &Connection) {
        self.watching.store(true, Ordering::Relaxed);
        connection.watch(true);
    }

    /// Whether there has been a connection.
    pub fn was_made(&self) -> bool {
        self.made.load(Ordering::Relaxed)
    }

    /// The connection, which is made if there is none.
    ///
    /// # Errors
    /// It can't be made.
    pub fn get(&self) -> Result<Arc<Connection>, Missing> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let failures = self.failures.load(Ordering::Acquire);
        let mut connecting = lock(&self.connecting);
        // Another thread may have made it meanwhile, or tried to; each would wait for a silent address in turn.
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        if self.failures.load(Ordering::Acquire) != failures {
            return Err(*connecting);
        }
        *write(&self.current) = None;
        let connection = self.connect().inspect_err(|missing| {
            *connecting = *missing;
            self.failures.fetch_add(1, Ordering::Release);
        })?;
        *write(&self.current) = Some(Arc::clone(&connection));
        self.made.store(true, Ordering::Relaxed);
        Ok(connection)
    }

    /// Tries the addresses in their order.
    fn connect(&self) -> Result<Arc<Connection>, Missing> {
        for address in &self.config.addresses {
            if self.closed.load(Ordering::SeqCst) {
                break;
            }
            match self.connect_to(address) {
                Err(Missing::Absent) => {}
                result => return result,
            }
        }
        Err(Missing::Absent)
    }

    fn connect_to(&self, address: &Address) -> Result<Arc<Connection>, Missing> {
        let connection = Connection::open(address, &self.config, &self.noted).map_err(|unreachable| {
            if let Unreachable::Distrusted(reason) = unreachable {
                self.tell(address, reason);
            }
            Missing::Absent
        })?;
        let connection = Arc::new(connection);
        *lock(&self.opening) = Some(Arc::clone(&connection));
        if self.closed.load(Ordering::SeqCst) {
            connection.shut();
        }
        let watching = self.watching.load(Ordering::Relaxed);
        // A silent one is not waited for if there is somewhere else to go.
        connection.watch(watching || self.config.addresses.len() > 1);
        let greeted = self.greet(&connection);
        connection.watch(watching);
        *lock(&self.opening) = None;
        if greeted == Err(Missing::Absent) {
            if let Some(reason) = connection.reason() {
                self.tell(address, reason);
            }
        }
        greeted.map(|()| connection)
    }

    /// Says on standard error why an address can't be used: there is nobody else to tell. Once, however often it is tried.
    fn tell(&self, address: &Address, reason: String) {
        let address = address.to_string();
        let mut told = lock(&self.told);
        if told.get(&address) != Some(&reason) {
            eprintln!("keyway: {address}: {reason}");
            told.insert(address, reason);
        }
    }

    /// Takes the connection, if there is one. None is made any more; who waits for one waits no longer, but for an address that does
    /// not answer.
    pub fn close(&self) -> Option<Arc<Connection>> {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(connection) = lock(&self.opening).take() {
            connection.shut();
        }
        write(&self.current).take().filter(|connection| !connection.is_broken())
    }

    fn usable(&self) -> Option<Arc<Connection>> {
        read(&self.current)
            .as_ref()
            .filter(|connection| !connection.is_broken())
            .cloned()
    }

    /// Opens the context on a new connection.
    fn greet(&self, connection: &Connection) -> Result<(), Missing> {
        let Greeting {
            flags,
            reserved,
            application,
        } = &self.greeting;
        let args = [
            Value::Ulong(*flags),
            Value::Bytes(reserved.as_deref().map_or(Bytes::Null(0), Bytes::Data)),
            Value::Bytes(Bytes::Data(application.as_bytes())),
        ];
        let row = call(C_INITIALIZE).ok_or(Missing::Absent)?;
        let request = Request {
            call: C_INITIALIZE,
            ..Request::default()
        };
        match connection.call(request, |body| encode_request(row, &args, body)) {
            Ok(reply) if reply.header.object == CKR_OK => Ok(()),
            Ok(reply) => Err(Missing::Refused(reply.header.object)),
            Err(Failure::Refused(rv)) => Err(Missing::Refused(rv)),
            Err(Failure::NotSent | Failure::Lost) => Err(Missing::Absent),
        }
    }
}
