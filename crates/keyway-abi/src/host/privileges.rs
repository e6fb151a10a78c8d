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

/// CAP_KILL, CAP_SETUID, CAP_SETPCAP: the first because the daemon, which had the same, could not end a host of another user without it.
const SEPARATING: u32 = 1 << 5 | 1 << 7 | 1 << 8;

/// SECBIT_NO_SETUID_FIXUP (linux/securebits.h): capabilities stay as they are when the user changes, and access(2) asks for them.
const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;

/// _LINUX_CAPABILITY_VERSION_3: two structures of 32 bits each.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

const HEADER: Header = Header {
    version: VERSION,
    pid: 0,
};

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

/// Becomes a user that nothing belongs to, with the groups and the capabilities of before: what root could open stays open,
/// but the process is not root for any other one, nor for who asks a socket who is at its other end.
///
/// # Errors
/// The kernel refused, or the daemon could not end this process any more. Nothing has changed that matters.
pub fn separate(user: u32) -> Result<()> {
    if capabilities()?[0].effective & SEPARATING != SEPARATING {
        return Err(Error::from_raw_os_error(libc::EPERM));
    }
    // SAFETY: plain numbers.
    unsafe {
        check(libc::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0, 0))?;
        check(libc::setresuid(user, user, user))
    }
}

/// Gives up all capabilities but a few. A process without any loses nothing.
///
/// # Arguments
/// `also_in_programs`: programs that it runs have the same ones. Root's have them anyway.
///
/// # Errors
/// The kernel refused.
pub fn keep_few_capabilities(also_in_programs: bool) -> Result<()> {
    let mut sets = capabilities()?;
    for (half, set) in sets.iter_mut().enumerate() {
        set.permitted &= (KEPT >> (32 * half)) as u32;
        set.effective &= set.permitted;
        set.inheritable = if also_in_programs { set.permitted } else { 0 };
    }
    let mut header = HEADER;
    // SAFETY: both structures are those of this version, and there.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) };
    check(set as libc::c_int)?;
    for capability in (0..32).filter(|number| sets[0].inheritable >> number & 1 != 0) {
        // SAFETY: plain numbers. Where it can't be done, programs that are run have fewer.
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) };
    }
    Ok(())
}

fn capabilities() -> Result<[Sets; 2]> {
    let (mut header, mut sets) = (HEADER, [Sets::default(); 2]);
    // SAFETY: both structures are those of this version, and there.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    check(got as libc::c_int)?;
    Ok(sets)
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
