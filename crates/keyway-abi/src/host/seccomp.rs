//! Which system calls a module host may make: a small program that the kernel runs at each (the kernel's documentation, "Seccomp BPF").
//!
//! It is a list of what is closed. Vendors' modules do what they like, and on newer systems other things; what is not named here
//! goes through, numbers that nobody knows yet included.

use libc::{c_long, sock_filter, sock_fprog};
use std::io::{Error, Result};

/// This architecture's number in the data of the kernel (linux/audit.h). A call under another one would have other numbers.
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(
    all(target_arch = "x86_64", target_pointer_width = "64"),
    all(target_arch = "aarch64", target_endian = "little")
)))]
const ARCHITECTURE: Option<u32> = None;

/// The first number of the second set of calls that x86-64 has, which nobody uses (x32).
const FOREIGN: u32 = 0x4000_0000;

/// Not every C library has a name for it.
const KEXEC_FILE_LOAD: c_long = if cfg!(target_arch = "x86_64") { 320 } else { 294 };

/// What no module needs, and what some way into other processes or the kernel has begun with. They fail with EPERM.
const NEVER: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // The file system's shape, and files by handles, past the paths to them.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    // Namespaces, in which everybody is root.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Much of the kernel with few eyes on it. io_uring makes calls that no filter sees.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Keys that the kernel keeps for the user, the daemon's among them.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Other processes than this one, from C libraries without fork and vfork of their own: clone, below.
const FORK: &[c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

const EXEC: &[c_long] = &[libc::SYS_execve, libc::SYS_execveat];

/// Memory that is in no address space, and so under no limit.
const HIDDEN_MEMORY: &[c_long] = &[libc::SYS_memfd_create, libc::SYS_memfd_secret, libc::SYS_shmget];

/// The namespaces that clone can make.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u32;

/// What a host may do. What is false fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Sockets of other families than unix, with EAFNOSUPPORT: as on a system without them. What tells of devices that come and go stays:
    /// libusb does not begin without it.
    pub network: bool,
    /// Processes; threads may always be.
    pub fork: bool,
    /// Other programs.
    pub exec: bool,
    /// Memory that no limit of the address space counts.
    pub hidden_memory: bool,
}

/// What is asked of the lower half of an argument, for the call to be made.
#[derive(Clone, Copy)]
enum Test {
    Is(u32),
    HasNone(u32),
    HasAny(u32),
}

/// Makes the kernel run this filter at each system call from now on.
///
/// # Errors
/// The kernel has no such filters, or there is none for this architecture.
pub fn install(filter: &Filter) -> Result<()> {
    let architecture = ARCHITECTURE.ok_or_else(|| Error::from_raw_os_error(libc::EOPNOTSUPP))?;
    let mut program = program(filter, architecture);
    let program = sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_mut_ptr(),
    };
    // Kernels before 5.16 would make the process slower for good; what the flag leaves out is for those who run code for strangers in
    // one address space.
    let flags = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: the program is there, and of that length.
    if unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) } != 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

fn program(filter: &Filter, architecture: u32) -> Vec<sock_filter> {
    let mut code = vec![
        load(ARCHITECTURE_AT),
        jump(JUMP_EQUAL, architecture, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER_AT),
    ];
    if cfg!(target_arch = "x86_64") {
        code.extend([jump(JUMP_AT_LEAST, FOREIGN, 0, 1), fail(libc::ENOSYS)]);
    }
    let closed = [
        (NEVER, false),
        (FORK, filter.fork),
        (EXEC, filter.exec),
        (HIDDEN_MEMORY, filter.hidden_memory),
    ];
    for (numbers, open) in closed {
        for number in numbers.iter().filter(|_| !open) {
            code.extend([jump(JUMP_EQUAL, word(*number), 0, 1), fail(libc::EPERM)]);
        }
    }
    // Its flags are in memory, where they can't be looked at; C libraries go on with clone.
    code.extend([jump(JUMP_EQUAL, word(libc::SYS_clone3), 0, 1), fail(libc::ENOSYS)]);
    code.extend(unless(libc::SYS_clone, Test::HasNone(NAMESPACES), libc::EPERM));
    // Limits of other processes of the same user, the daemon for one: a limit of no time at all ends it.
    code.extend(unless(libc::SYS_prlimit64, Test::Is(0), libc::EPERM));
    if !filter.fork {
        code.extend(unless(
            libc::SYS_clone,
            Test::HasAny(libc::CLONE_THREAD as u32),
            libc::EPERM,
        ));
    }
    if !filter.network {
        code.extend([
            jump(JUMP_EQUAL, word(libc::SYS_socket), 0, 7),
            load(ARGUMENT_AT),
            jump(JUMP_EQUAL, libc::AF_UNIX as u32, 4, 0),
            jump(JUMP_EQUAL, libc::AF_NETLINK as u32, 0, 2),
            load(THIRD_ARGUMENT_AT),
            jump(JUMP_EQUAL, libc::NETLINK_KOBJECT_UEVENT as u32, 1, 0),
            fail(libc::EAFNOSUPPORT),
            load(NUMBER_AT),
        ]);
    }
    code.push(answer(libc::SECCOMP_RET_ALLOW));
    code
}

/// A call fails unless its first argument passes a test.
fn unless(number: c_long, test: Test, error: libc::c_int) -> [sock_filter; 5] {
    let test = match test {
        Test::Is(value) => jump(JUMP_EQUAL, value, 1, 0),
        Test::HasNone(bits) => jump(JUMP_ANY_BIT, bits, 0, 1),
        Test::HasAny(bits) => jump(JUMP_ANY_BIT, bits, 1, 0),
    };
    let number = jump(JUMP_EQUAL, word(number), 0, 4);
    [number, load(ARGUMENT_AT), test, fail(error), load(NUMBER_AT)]
}

// Where things are in struct seccomp_data (linux/seccomp.h); of an argument, the first unless said, the lower half.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENT_AT: u32 = 16;
const THIRD_ARGUMENT_AT: u32 = 32;

// Instructions (linux/filter.h): classes and modes, joined.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const ANSWER: u16 = 0x06; // BPF_RET | BPF_K

fn load(at: u32) -> sock_filter {
    instruction(LOAD, at, 0, 0)
}

/// Skips so many instructions if it holds, and so many others if not.
fn jump(code: u16, value: u32, holds: u8, fails: u8) -> sock_filter {
    instruction(code, value, holds, fails)
}

fn answer(value: u32) -> sock_filter {
    instruction(ANSWER, value, 0, 0)
}

fn fail(error: libc::c_int) -> sock_filter {
    answer(libc::SECCOMP_RET_ERRNO | error.unsigned_abs())
}

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The number of a call, as the kernel gives it.
fn word(number: c_long) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: u32 = 0xc000_003e;
    const OPEN: Filter = Filter {
        network: true,
        fork: true,
        exec: true,
        hidden_memory: true,
    };
    const CLOSED: Filter = Filter {
        network: false,
        fork: false,
        exec: false,
        hidden_memory: false,
    };
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const THREAD: u32 = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u32;

    /// What the kernel would answer.
    fn run(filter: &Filter, architecture: u32, number: c_long, argument: u32, third: u32) -> u32 {
        let program = program(filter, HERE);
        let (mut at, mut word_here) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let holds = match code {
                LOAD => {
                    word_here = match k {
                        NUMBER_AT => word(number),
                        ARCHITECTURE_AT => architecture,
                        ARGUMENT_AT => argument,
                        THIRD_ARGUMENT_AT => third,
                        _ => panic!("loads from {k}"),
                    };
                    at += 1;
                    continue;
                }
                ANSWER => return k,
                JUMP_EQUAL => word_here == k,
                JUMP_AT_LEAST => word_here >= k,
                JUMP_ANY_BIT => word_here & k != 0,
                _ => panic!("unknown instruction {code}"),
            };
            at += 1 + usize::from(if holds { jt } else { jf });
        }
    }

    fn ask(filter: &Filter, number: c_long, argument: u32) -> u32 {
        run(filter, HERE, number, argument, 0)
    }

    fn error(number: libc::c_int) -> u32 {
        libc::SECCOMP_RET_ERRNO | number as u32
    }

    #[test]
    fn what_is_named_nowhere_goes_through() {
        let checked = [libc::SYS_clone, libc::SYS_clone3, libc::SYS_prlimit64, libc::SYS_socket];
        let named = [NEVER, FORK, EXEC, HIDDEN_MEMORY, &checked].concat();
        for number in (0..2000)
            .chain([c_long::from(FOREIGN) - 1])
            .filter(|number| !named.contains(number))
        {
            for argument in [0, 1, u32::MAX] {
                assert_eq!(ask(&CLOSED, number, argument), ALLOW, "{number}");
            }
        }
    }

    #[test]
    fn what_is_closed_fails_whatever_its_argument() {
        for (filter, lists) in [(&OPEN, &[NEVER][..]), (&CLOSED, &[NEVER, FORK, EXEC, HIDDEN_MEMORY])] {
            for number in lists.concat() {
                for argument in [0, 1, u32::MAX] {
                    assert_eq!(ask(filter, number, argument), error(libc::EPERM), "{number}");
                }
            }
        }
        for number in [FORK, EXEC, HIDDEN_MEMORY].concat() {
            assert_eq!(ask(&OPEN, number, 0), ALLOW, "{number}");
        }
    }

    #[test]
    fn calls_under_other_numbers_end_the_process_or_are_unknown() {
        assert_eq!(
            run(&OPEN, 0x4000_0003, libc::SYS_read, 0, 0),
            libc::SECCOMP_RET_KILL_PROCESS
        );
        if cfg!(target_arch = "x86_64") {
            let read = c_long::from(FOREIGN) | libc::SYS_read;
            assert_eq!(ask(&OPEN, read, 0), error(libc::ENOSYS));
        }
    }

    #[test]
    fn threads_may_be_and_namespaces_may_not() {
        for filter in [OPEN, CLOSED] {
            assert_eq!(ask(&filter, libc::SYS_clone, THREAD), ALLOW);
            assert_eq!(
                ask(&filter, libc::SYS_clone, THREAD | libc::CLONE_NEWNET as u32),
                error(libc::EPERM)
            );
            assert_eq!(
                ask(&filter, libc::SYS_clone, libc::CLONE_NEWUSER as u32),
                error(libc::EPERM)
            );
            assert_eq!(ask(&filter, libc::SYS_clone3, 0), error(libc::ENOSYS));
        }
        assert_eq!(ask(&OPEN, libc::SYS_clone, libc::SIGCHLD as u32), ALLOW);
        assert_eq!(ask(&CLOSED, libc::SYS_clone, libc::SIGCHLD as u32), error(libc::EPERM));
        let spawn = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as u32;
        assert_eq!(ask(&CLOSED, libc::SYS_clone, spawn), error(libc::EPERM));
    }

    #[test]
    fn sockets_are_of_this_machine_where_there_is_no_network() {
        for family in 0..64 {
            let expected = if family == libc::AF_UNIX {
                ALLOW
            } else {
                error(libc::EAFNOSUPPORT)
            };
            assert_eq!(ask(&CLOSED, libc::SYS_socket, family as u32), expected);
            assert_eq!(ask(&OPEN, libc::SYS_socket, family as u32), ALLOW);
        }
        let netlink = |protocol: libc::c_int| {
            let family = libc::AF_NETLINK as u32;
            run(&CLOSED, HERE, libc::SYS_socket, family, protocol as u32)
        };
        for protocol in 0..32 {
            let expected = if protocol == libc::NETLINK_KOBJECT_UEVENT {
                ALLOW
            } else {
                error(libc::EAFNOSUPPORT)
            };
            assert_eq!(netlink(protocol), expected);
        }
        let internet = libc::AF_INET as u32;
        let protocol = libc::NETLINK_KOBJECT_UEVENT as u32;
        assert_eq!(
            run(&CLOSED, HERE, libc::SYS_socket, internet, protocol),
            error(libc::EAFNOSUPPORT)
        );
    }

    #[test]
    fn limits_are_its_own() {
        assert_eq!(ask(&OPEN, libc::SYS_prlimit64, 0), ALLOW);
        assert_eq!(ask(&OPEN, libc::SYS_prlimit64, 1), error(libc::EPERM));
    }
}
