//! Landlock: what a process keeps itself from (Linux 5.13 and later; the kernel's documentation, "Landlock: unprivileged access control").
//!
//! Whatever is closed, a process that has closed something can trace those alone that have closed the same and more. That keeps hosts
//! of one user from reading each other's memory, and the daemon's.

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

// Numbers of system calls that are the same on every architecture.
const CREATE_RULESET: libc::c_long = 444;
const ADD_RULE: libc::c_long = 445;
const RESTRICT_SELF: libc::c_long = 446;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

// Rights to files, LANDLOCK_ACCESS_FS_*.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_BLOCK: u64 = 1 << 11;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// The rights that a rule for something else than a directory may have.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// Signals to, and abstract sockets of, processes outside (LANDLOCK_SCOPE_*).
const SCOPES: u64 = 0b11;

/// The first version that has them.
pub const HAS_SCOPES: u32 = 6;

/// The first version that lets files be moved to other directories (REFER) once anything is closed.
const HAS_REFER: u32 = 2;

/// Older kernels take the structure as well, as long as what they do not know is 0.
#[repr(C)]
struct Attributes {
    files: u64,
    network: u64,
    scopes: u64,
}

#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

/// What a rule allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading files and directories, and running programs.
    Read,
    /// That, and every change.
    Write,
}

/// The version of this kernel's Landlock.
///
/// # Errors
/// There is none, or it is turned off.
pub fn abi() -> Result<u32> {
    // SAFETY: no structure is given, and none is asked for.
    let version = unsafe {
        libc::syscall(
            CREATE_RULESET,
            core::ptr::null::<Attributes>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| Error::last_os_error())
}

/// Closes other processes to this one, and as few files as that takes.
///
/// # Errors
/// The kernel can't, or not without closing too much.
pub fn isolate(abi: u32) -> Result<()> {
    if abi >= HAS_SCOPES {
        return Ruleset::create(0, SCOPES)?.enforce();
    }
    if abi < HAS_REFER {
        return Err(Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    // Something must be closed: making device files, which only root can do anyway.
    let mut ruleset = Ruleset::create(MAKE_BLOCK | REFER, 0)?;
    ruleset.add(Path::new("/"), REFER)?;
    ruleset.enforce()
}

/// Everything of the file system closed, but for what is allowed. It holds once it is enforced.
pub struct Ruleset {
    descriptor: OwnedFd,
    handled: u64,
}

impl Ruleset {
    /// Closes all that this version knows.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn new(abi: u32) -> Result<Self> {
        let known = match abi {
            1 => REFER - 1,
            2 => TRUNCATE - 1,
            3 | 4 => IOCTL_DEV - 1,
            _ => (IOCTL_DEV << 1) - 1,
        };
        Self::create(known, if abi >= HAS_SCOPES { SCOPES } else { 0 })
    }

    fn create(files: u64, scopes: u64) -> Result<Self> {
        let attributes = Attributes {
            files,
            network: 0,
            scopes,
        };
        let size = core::mem::size_of::<Attributes>();
        // SAFETY: the structure is there, and of this size.
        let descriptor = unsafe { libc::syscall(CREATE_RULESET, core::ptr::from_ref(&attributes), size, 0_u32) };
        if descriptor < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor as libc::c_int) };
        Ok(Self {
            descriptor,
            handled: files,
        })
    }

    /// Leaves a path open, with all beneath if it is a directory. It must be there: the rule is for what is at the path now.
    ///
    /// # Errors
    /// It is not there, or the kernel refused.
    pub fn allow(&mut self, path: &Path, access: Access) -> Result<()> {
        match access {
            Access::Read => self.add(path, EXECUTE | READ_FILE | READ_DIR),
            Access::Write => self.add(path, self.handled),
        }
    }

    fn add(&mut self, path: &Path, rights: u64) -> Result<()> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the name is a text.
        let parent = unsafe { libc::open(name.as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
        if parent < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let parent = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(parent) });
        let of_kind = if parent.metadata()?.is_dir() {
            u64::MAX
        } else {
            OF_FILES
        };
        let rule = PathBeneath {
            allowed: rights & self.handled & of_kind,
            parent: parent.as_raw_fd(),
        };
        // SAFETY: the structure is that of this type of rule, and there.
        check(unsafe {
            libc::syscall(
                ADD_RULE,
                self.descriptor.as_raw_fd(),
                RULE_PATH_BENEATH,
                core::ptr::from_ref(&rule),
                0_u32,
            )
        })
    }

    /// Makes it hold for this process and all that it starts, for good.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn enforce(self) -> Result<()> {
        // SAFETY: plain numbers.
        check(unsafe { libc::syscall(RESTRICT_SELF, self.descriptor.as_raw_fd(), 0_u32) })
    }
}

fn check(result: libc::c_long) -> Result<()> {
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{ErrorKind, Read, Write};
    use std::process::{Child, Command, Stdio};

    /// Runs something in a thread of its own, which is what the kernel closes things to. Nothing where there is no Landlock.
    fn closed(enforce: impl FnOnce() -> Result<()> + Send, look: impl FnOnce() + Send) {
        if abi().is_err() {
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: plain numbers.
                assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
                enforce().expect("Landlock");
                look();
            });
        });
    }

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("keyway-landlock-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("other")).expect("a directory");
        fs::write(path.join("file"), "text").expect("a file");
        path
    }

    /// A process that waits until its standard input ends, and what is known of it only to those who may trace it.
    fn victim() -> (Child, String) {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat");
        child.stdin.as_mut().expect("a pipe").write_all(b"x").expect("writable");
        // Until it has answered, it may be a copy of this process.
        child
            .stdout
            .as_mut()
            .expect("a pipe")
            .read_exact(&mut [0])
            .expect("an answer");
        let memory = format!("/proc/{}/mem", child.id());
        fs::File::open(&memory).expect("nothing is closed yet");
        (child, memory)
    }

    #[test]
    fn other_processes_are_closed_and_files_are_not_whatever_the_version() {
        for version in [HAS_REFER, 4, HAS_SCOPES]
            .into_iter()
            .filter(|version| abi().is_ok_and(|abi| abi >= *version))
        {
            let home = directory(&format!("isolate-{version}"));
            let (mut child, memory) = victim();
            closed(
                || isolate(version),
                || {
                    let error = fs::File::open(&memory).expect_err("it can be looked into");
                    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                    fs::rename(home.join("file"), home.join("other/file")).expect("moved");
                    fs::write(home.join("other/file"), "more").expect("written");
                },
            );
            child.kill().expect("killed");
            child.wait().expect("a child");
            fs::remove_dir_all(home).expect("removed");
        }
    }

    #[test]
    fn a_version_that_would_close_moving_files_closes_nothing() {
        assert!(isolate(1).is_err());
    }

    #[test]
    fn only_what_is_allowed_can_be_opened_whatever_the_version() {
        for version in (1..=6).filter(|version| abi().is_ok_and(|abi| abi >= *version)) {
            let home = directory(&format!("files-{version}"));
            closed(
                || {
                    let mut ruleset = Ruleset::new(version)?;
                    ruleset.allow(&home.join("file"), Access::Read)?;
                    ruleset.allow(&home.join("other"), Access::Write)?;
                    ruleset.enforce()
                },
                || {
                    assert_eq!(fs::read(home.join("file")).expect("read"), b"text");
                    fs::write(home.join("other/new"), "more").expect("written");
                    fs::remove_file(home.join("other/new")).expect("removed");
                    for refused in [
                        fs::write(home.join("file"), "no"),
                        fs::write(home.join("new"), "no"),
                        fs::read_dir(&home).map(|_| ()),
                        fs::read("/etc/passwd").map(|_| ()),
                    ] {
                        assert_eq!(refused.expect_err("closed").kind(), ErrorKind::PermissionDenied);
                    }
                },
            );
            fs::remove_dir_all(home).expect("removed");
        }
    }

    #[test]
    fn what_is_not_there_can_not_be_allowed() {
        if let Ok(version) = abi() {
            let mut ruleset = Ruleset::new(version).expect("a ruleset");
            let error = ruleset
                .allow(Path::new("/nonexistent"), Access::Read)
                .expect_err("it is not there");
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
}
