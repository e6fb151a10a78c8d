//! What a module host may do with the system: the part of its confinement that the configuration decides.

use super::landlock::{self, Access, Ruleset};
use super::privileges::{change_user, keep_few_capabilities, limit_files, limit_memory, separate};
use super::seccomp::{self, Filter};
use std::fmt;
use std::io::Error;
use std::path::{Path, PathBuf};

/// What every program reads that is linked dynamically, and what the C library and OpenSSL look at. Nothing in here is a secret; the loader finds
/// libraries in /usr/lib alone, but vendors' own ones read /usr/share, too.
/// /proc is here as a whole because a rule for /proc/self would be for one process, and a seed has copies. What matters of other processes there
/// (mem, maps, environ, fd) is not decided by permissions of files: it wants the right to trace them.
const SYSTEM: [&str; 13] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/openssl.cnf",
    "/etc/crypto-policies",
    "/proc",
    "/sys/devices/system/cpu",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
];

/// What names of hosts are looked up with.
const NAMES: [&str; 8] = [
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/run/systemd/resolve",
    "/run/NetworkManager",
];

/// Whether a host may have sockets that are not of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It may.
    Open,
    /// It may not, if the kernel can see to that.
    Unasked,
    /// It may not, or it does not start.
    Closed,
}

/// What a host may do. The default takes away what no module needs, and the network, which few do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Numbers of the user and the group to run as. None: those that the host was started with.
    pub user: Option<(u32, u32)>,
    /// Number of a user of its own that it becomes, if the kernel lets it, with root's way to files. Says nothing with `user`.
    pub own_user: Option<u32>,
    /// What it may read. With this and `write` empty it may open whatever the system lets it.
    pub read: Vec<PathBuf>,
    /// What it may read and change.
    pub write: Vec<PathBuf>,
    /// Whether it may have sockets that are not of this machine.
    pub network: Network,
    /// Whether it may start processes.
    pub processes: bool,
    /// Bytes of its address space. 0: no limit.
    pub memory: u64,
    /// Descriptors that it may have open. 0: as many as the daemon.
    pub files: u64,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            user: None,
            own_user: None,
            read: Vec::new(),
            write: Vec::new(),
            network: Network::Unasked,
            processes: true,
            memory: 0,
            files: 0,
        }
    }
}

/// What was demanded and can't be had.
#[derive(Debug)]
pub enum Refusal {
    /// Running as this user and group.
    User(u32, u32, Error),
    /// Giving up capabilities.
    Capabilities(Error),
    /// A limit; its name.
    Limit(&'static str, Error),
    /// A path that is to stay open can't be found.
    Path(PathBuf, Error),
    /// Nothing but some paths.
    Landlock(Error),
    /// No network, no processes or a limit of memory.
    Seccomp(Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user, group, error) => write!(f, "sandbox: can't run as user {user} and group {group}: {error}"),
            Self::Capabilities(error) => write!(f, "sandbox: can't give up capabilities: {error}"),
            Self::Limit(name, error) => write!(f, "sandbox: can't limit {name}: {error}"),
            Self::Path(path, error) => write!(f, "sandbox: {}: {error}", path.display()),
            Self::Landlock(error) => write!(f, "sandbox: read and write need Landlock: {error}"),
            Self::Seccomp(error) => write!(f, "sandbox: network, processes and memory need seccomp: {error}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Sandbox {
    /// Becomes another user, or gives up what root need not be able to do. To be called first: the kernel forgets other
    /// restrictions when a process changes its user.
    ///
    /// Returns what could not be done of what nobody demands, a line each.
    ///
    /// # Errors
    /// What the configuration demands can't be done.
    pub fn give_up_rights(&self) -> Result<Vec<String>, Refusal> {
        let mut separated = None;
        if let Some((user, group)) = self.user {
            change_user(user, group).map_err(|error| Refusal::User(user, group, error))?;
        } else {
            separated = self.own_user.map(separate);
        }
        keep_few_capabilities(matches!(separated, Some(Ok(())))).map_err(Refusal::Capabilities)?;
        let failed = separated.and_then(Result::err);
        Ok(Vec::from_iter(
            failed.map(|error| format!("their user is the daemon's: {error}")),
        ))
    }

    /// Closes the rest. To be called before foreign code runs, when new privileges can't be gained any more.
    ///
    /// Returns what the kernel could not do, a line each, of what the configuration does not demand.
    ///
    /// # Arguments
    /// `module`: the file that is to be loaded. `seed`: this process makes copies of itself, which call `enter_copy`.
    ///
    /// # Errors
    /// What the configuration demands can't be done.
    pub fn enter(&self, module: &Path, seed: bool) -> Result<Vec<String>, Refusal> {
        let mut lacking = Vec::new();
        // A seed has a descriptor for each of its copies.
        if !seed {
            self.limit_files()?;
        }
        if self.read.is_empty() && self.write.is_empty() {
            let isolated = landlock::abi().and_then(|abi| landlock::isolate(abi).map(|()| abi));
            lacking.extend(landlock_lacks(isolated));
        } else {
            let abi = landlock::abi().map_err(Refusal::Landlock)?;
            self.close_files(abi, module)?;
            lacking.extend(landlock_lacks(Ok(abi)));
        }
        match seccomp::install(&self.filter(seed)) {
            Err(error) if self.demands_a_filter() => return Err(Refusal::Seccomp(error)),
            Err(error) => lacking.push(format!("system calls are not filtered: {error}")),
            Ok(()) => {}
        }
        if self.memory > 0 {
            limit_memory(self.memory).map_err(|error| Refusal::Limit("memory", error))?;
        }
        Ok(lacking)
    }

    /// Closes, in a copy of a seed, what the seed needed, and keeps it apart from the seed and other copies.
    ///
    /// # Errors
    /// What the configuration demands can't be done.
    pub fn enter_copy(&self) -> Result<(), Refusal> {
        // Where there is no Landlock, the seed has told so.
        let _ = landlock::abi().and_then(landlock::isolate);
        self.limit_files()?;
        if self.processes {
            return Ok(());
        }
        seccomp::install(&self.filter(false)).map_err(Refusal::Seccomp)
    }

    fn limit_files(&self) -> Result<(), Refusal> {
        if self.files == 0 {
            return Ok(());
        }
        limit_files(self.files).map_err(|error| Refusal::Limit("files", error))
    }

    fn demands_a_filter(&self) -> bool {
        self.network == Network::Closed || !self.processes || self.memory > 0
    }

    fn filter(&self, fork: bool) -> Filter {
        Filter {
            network: self.network == Network::Open,
            fork: self.processes || fork,
            exec: self.processes,
            hidden_memory: self.memory == 0,
        }
    }

    fn close_files(&self, abi: u32, module: &Path) -> Result<(), Refusal> {
        let mut ruleset = Ruleset::new(abi).map_err(Refusal::Landlock)?;
        let names = if self.network == Network::Open { &NAMES[..] } else { &[] };
        let library = module.canonicalize().ok();
        let near = library.as_deref().and_then(Path::parent);
        for path in SYSTEM.iter().chain(names).map(Path::new).chain(near) {
            // What a system has not got needs no rule.
            let _ = ruleset.allow(path, Access::Read);
        }
        let _ = ruleset.allow(Path::new("/dev/null"), Access::Write);
        for (paths, access) in [(&self.read, Access::Read), (&self.write, Access::Write)] {
            for path in paths {
                let allowed = ruleset.allow(path, access);
                allowed.map_err(|error| Refusal::Path(path.clone(), error))?;
            }
        }
        ruleset.enforce().map_err(Refusal::Landlock)
    }
}

/// What can't be done here of what Landlock does unasked: one line, or none.
fn landlock_lacks(abi: std::io::Result<u32>) -> Option<String> {
    match abi {
        Ok(abi) if abi >= landlock::HAS_SCOPES => None,
        Ok(abi) => Some(format!(
            "signals to other processes and abstract sockets are not closed: Landlock here is of version {abi}"
        )),
        Err(error) => Some(format!(
            "other processes of its user are not closed to it: Landlock: {error}"
        )),
    }
}
