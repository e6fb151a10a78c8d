//! Users, capabilities and limits.

use std::io::{Error, Result};

/// Capabilities (linux/capability.h) that a host which runs as root keeps: root's way with files, ports below 1024, and locked memory. It loses
/// above all tracing other processes, loading into the kernel, mounting, and becoming somebody else.
const KEPT: u64 = 1 << 0 // CAP_CHOWN
    | 1 << 1 // CAP_DAC_OVERRIDE
    | 1 << 3 // CAP_FOWNER
    | 1 << 4 // CAP_FSETID
    | 1 << 10 // CAP_NET_BIND_SERVICE
    | 1 << 14; // CAP_IPC_LOCK

/// _LINUX_CAPABILITY_VERSION_3: two structures of 32 bits each.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Becomes this user and group for good, without any other group.
///
/// # Errors
/// The kernel refused: this process is not root's.
pub fn change_user(user: u32, group: u32) -> Result<()> {
    // SAFETY: the list is empty; the other arguments are plain numbers. The order matters: the user goes last.
    unsafe {
        check(libc::setgroups(0, core::ptr::null()))?;
        check(libc::setresgid(group, group, group))?;
        check(libc::setresuid(user, user, user))
    }
}

/// Gives up all capabilities but a few. A process without any loses nothing.
///
/// # Errors
/// The kernel refused.
pub fn keep_few_capabilities() -> Result<()> {
    let mut header = Header {
        version: VERSION,
        pid: 0,
    };
    let mut sets = [Sets::default(); 2];
    let (header, sets_there) = (core::ptr::from_mut(&mut header), sets.as_mut_ptr());
    // SAFETY: both structures are those of this version, and there.
    let got = unsafe { libc::syscall(libc::SYS_capget, header, sets_there) };
    check(got as libc::c_int)?;
    for (half, set) in sets.iter_mut().enumerate() {
        set.permitted &= (KEPT >> (32 * half)) as u32;
        set.effective &= set.permitted;
        set.inheritable = 0;
    }
    // SAFETY: as above.
    let set = unsafe { libc::syscall(libc::SYS_capset, header, sets.as_ptr()) };
    check(set as libc::c_int)
}

/// Limits the bytes of the address space, without a way back.
///
/// # Errors
/// The kernel refused.
pub fn limit_memory(bytes: u64) -> Result<()> {
    // SAFETY: the structure is there.
    check(unsafe { libc::setrlimit(libc::RLIMIT_AS, &at_most(bytes)) })
}

/// Limits the number of open descriptors, without a way back.
///
/// # Errors
/// The kernel refused: the number is above the limit that holds already.
pub fn limit_files(number: u64) -> Result<()> {
    // SAFETY: the structure is there.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &at_most(number)) })
}

fn at_most(number: u64) -> libc::rlimit {
    libc::rlimit {
        rlim_cur: number as libc::rlim_t,
        rlim_max: number as libc::rlim_t,
    }
}

fn check(result: libc::c_int) -> Result<()> {
    if result == -1 {
        return Err(Error::last_os_error());
    }
    Ok(())
}
