//! What stands behind the C functions: the one context of this process.

use crate::config::Environment;
use crate::context::Context;
use crate::link::{Greeting, Link};
use crate::lock::{lock, read, write};
use keyway_abi::guard::{Answer, Cryptoki};
use keyway_abi::process::{close_inherited, is_privileged, Place};
use keyway_wire::generated::rv::{
    CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_GENERAL_ERROR, CKR_OK,
};
use keyway_wire::table::Call;
use keyway_wire::value::{Bytes, Value};
use rustix::process::{getpid, Pid};
use std::env;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, RwLock};

/// The library.
#[derive(Debug)]
pub struct Library {
    /// A forked child gets a new one: in the old one, locks may be held by threads that the child does not have.
    process: Place<Process>,
}

/// What belongs to one process.
#[derive(Debug)]
struct Process {
    pid: Pid,
    initialized: AtomicBool,
    context: RwLock<Option<Arc<Context>>>,
    /// Held by C_Initialize and C_Finalize.
    changing: Mutex<()>,
    /// The descriptor of the connection, or -1.
    descriptor: Arc<AtomicI32>,
}

impl Process {
    fn new(pid: Pid) -> Self {
        Self {
            pid,
            initialized: AtomicBool::new(false),
            context: RwLock::new(None),
            changing: Mutex::new(()),
            descriptor: Arc::new(AtomicI32::new(-1)),
        }
    }
}

impl Library {
    /// A library that is not initialised.
    #[must_use]
    pub const fn new() -> Self {
        Self { process: Place::new() }
    }

    /// That of this process, if it has one.
    fn process(&'static self) -> Option<&'static Process> {
        let process = self.process.get()?;
        if process.pid == getpid() {
            return Some(process);
        }
        // The connection is the parent's. As long as the child has a copy of the descriptor, the daemon does not see the parent go.
        let descriptor = process.descriptor.swap(-1, Ordering::Relaxed);
        if descriptor >= 0 {
            close_inherited(descriptor);
        }
        None
    }

    /// The context. Every function asks whether it is `ready` first, so whose process this is has been looked at.
    fn context(&'static self) -> Result<Arc<Context>, u64> {
        let process = self.process.get().ok_or(CKR_CRYPTOKI_NOT_INITIALIZED)?;
        let context = read(&process.context).clone();
        context.ok_or(CKR_CRYPTOKI_NOT_INITIALIZED)
    }

    fn start(&'static self, flags: u64, reserved: Bytes<'_>) -> Result<u64, u64> {
        let process = match self.process() {
            Some(process) => process,
            None => self.process.replace(self.process.get(), Process::new(getpid())),
        };
        let _changing = lock(&process.changing);
        if process.initialized.load(Ordering::Acquire) {
            return Err(CKR_CRYPTOKI_ALREADY_INITIALIZED);
        }
        let config = Environment::current().config().map_err(|error| {
            // There is nobody else to tell.
            eprintln!("keyway: {error}");
            CKR_GENERAL_ERROR
        })?;
        let greeting = Greeting {
            flags,
            reserved: copied(reserved),
            application: application(process.pid),
        };
        let link = Link::new(config, greeting, Arc::clone(&process.descriptor));
        let context = Context::new(link, stats_file());
        let rv = context.open();
        if rv == CKR_OK {
            *write(&process.context) = Some(Arc::new(context));
            process.initialized.store(true, Ordering::Release);
        }
        Ok(rv)
    }
}

impl Default for Library {
    fn default() -> Self {
        Self::new()
    }
}

impl Cryptoki for Library {
    fn ready(&'static self) -> Result<(), u64> {
        match self.process() {
            Some(process) if process.initialized.load(Ordering::Acquire) => Ok(()),
            _ => Err(CKR_CRYPTOKI_NOT_INITIALIZED),
        }
    }

    fn initialize(&'static self, flags: u64, reserved: Bytes<'_>) -> u64 {
        self.start(flags, reserved).unwrap_or_else(|rv| rv)
    }

    fn finalize(&'static self) -> u64 {
        let Some(process) = self.process() else {
            return CKR_CRYPTOKI_NOT_INITIALIZED;
        };
        let _changing = lock(&process.changing);
        process.initialized.store(false, Ordering::Release);
        let context = write(&process.context).take();
        context.map_or(CKR_CRYPTOKI_NOT_INITIALIZED, |context| context.close())
    }

    fn unload(&'static self) {
        let Some(process) = self.process() else { return };
        process.initialized.store(false, Ordering::Release);
        // Another thread that is at it will not be waited for: the process may be about to end.
        let context = process.context.try_write().ok().and_then(|mut context| context.take());
        // Without C_Finalize, this closes the connection, which ends the context at the other end.
        drop(context);
    }

    fn message_mechanism(&'static self, session: u64, call: &'static Call) -> Option<u64> {
        self.context().ok()?.message_mechanism(session, call)
    }

    fn invoke(
        &'static self,
        call: &'static Call,
        target: u64,
        args: &[Value<'_>],
        answer: &mut Answer<'_>,
    ) -> Result<u64, u64> {
        self.context()?.invoke(call, target, args, answer)
    }
}

fn copied(reserved: Bytes<'_>) -> Option<Vec<u8>> {
    match reserved {
        Bytes::Null(_) => None,
        Bytes::Data(text) => Some(text.to_vec()),
    }
}

/// What names this program in the daemon's logs.
fn application(pid: Pid) -> String {
    let program = env::current_exe().ok();
    let name = program.as_deref().and_then(|path| path.file_name()).unwrap_or_default();
    format!("{} ({})", name.to_string_lossy(), pid.as_raw_nonzero())
}

fn stats_file() -> Option<PathBuf> {
    (!is_privileged())
        .then(|| env::var_os("KEYWAY_STATS"))
        .flatten()
        .filter(|file| !file.is_empty())
        .map(PathBuf::from)
}
