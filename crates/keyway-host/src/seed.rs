//! The seed: a host that has the module loaded and warmed up, and makes more like itself.
//!
//! Loading a module and its first C_Initialize take milliseconds, most of them spent in libraries below it. A process
//! that has done both once, and finalised the module again, can be copied in a fraction of that. The copies share its memory
//! until they write to it.
//!
//! The daemon holds the other end of a socket of packets:
//!
//! | from the daemon | answered by |
//! |---|---|
//! | a frame of the wire | `R` and the frame of its reply |
//! | any packet with a descriptor, and perhaps that of memory to share behind it | `B` and the pid (u32) of a copy that serves the wire on it; pid 0: it can't be done |
//!
//! `S` is sent once the module is loaded; `D`, a pid (u32) and a wait status (i32) when a copy has ended.
//! When the daemon closes the socket, the seed ends, and all copies with it.

use crate::execute::Context;
use keyway_abi::host::{end_now, fork_alone, Fork};
use keyway_wire::{Header, HEADER_LENGTH};
use rustix::event::{poll, PollFd, PollFlags};
use rustix::io::{retry_on_intr, Errno};
use rustix::net::{recvmsg, send, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, SendFlags};
use rustix::process::{pidfd_open, waitpid, Pid, PidfdFlags, WaitOptions};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Bytes in the largest packet: a C_Initialize with its pReserved.
const PACKET: usize = 64 << 10;

/// A copy that has not been reported as ended.
struct Copy {
    pid: Pid,
    /// Readable once it has ended.
    ended: OwnedFd,
}

/// Serves the daemon until it is gone. Returns in a copy only, with what the copy is to serve.
pub fn serve(daemon: OwnedFd, context: Context) -> (UnixStream, Option<OwnedFd>, Context) {
    let mut copies: Vec<Copy> = Vec::new();
    tell(daemon.as_fd(), b"S");
    loop {
        let asked = wait(daemon.as_fd(), &copies);
        copies.retain(|copy| !report_end(daemon.as_fd(), copy));
        if !asked {
            continue;
        }
        let mut packet = vec![0; PACKET];
        let (length, stream, memory) = receive(daemon.as_fd(), &mut packet);
        let Some(stream) = stream else {
            answer(daemon.as_fd(), &context, &packet[..length]);
            continue;
        };
        match fork_alone() {
            // What belongs to the seed is closed here with `daemon` and `copies`.
            Ok(Fork::Child) => return (UnixStream::from(stream), memory, context),
            Ok(Fork::Parent(number)) => {
                let copy = i32::try_from(number).ok().and_then(Pid::from_raw);
                if let Some((pid, ended)) = copy.and_then(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
                {
                    copies.push(Copy { pid, ended });
                }
                tell(daemon.as_fd(), &born(number));
            }
            Err(_) => tell(daemon.as_fd(), &born(0)),
        }
    }
}

/// Waits for a packet or for the end of a copy; returns whether there is a packet, or nobody to send one.
fn wait(daemon: BorrowedFd<'_>, copies: &[Copy]) -> bool {
    let mut events = vec![PollFd::from_borrowed_fd(daemon, PollFlags::IN)];
    events.extend(copies.iter().map(|copy| PollFd::new(&copy.ended, PollFlags::IN)));
    match retry_on_intr(|| poll(&mut events, None)) {
        Ok(_) => !events[0].revents().is_empty(),
        Err(_) => end_now(1),
    }
}

/// One packet and the descriptors that came with it. Ends the process when the daemon is gone.
fn receive(daemon: BorrowedFd<'_>, packet: &mut [u8]) -> (usize, Option<OwnedFd>, Option<OwnedFd>) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received: Result<RecvMsg, Errno> = retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(packet)];
        recvmsg(daemon, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let length = match received {
        Ok(message) if message.bytes > 0 => message.bytes,
        _ => end_now(0),
    };
    let mut descriptors = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    (length, descriptors.next(), descriptors.next())
}

/// Executes a request; one that is no frame is answered by an empty reply.
fn answer(daemon: BorrowedFd<'_>, context: &Context, packet: &[u8]) {
    let mut reply = Vec::new();
    if let Some((header, body)) = packet.split_first_chunk::<HEADER_LENGTH>() {
        context.answer(&Header::decode(header), body, &mut reply);
    }
    reply.insert(0, b'R');
    tell(daemon, &reply);
}

/// Reports a copy that has ended; returns whether it has.
fn report_end(daemon: BorrowedFd<'_>, copy: &Copy) -> bool {
    let status = match waitpid(Some(copy.pid), WaitOptions::NOHANG) {
        Ok(None) => return false,
        Ok(Some((_, status))) => status.as_raw(),
        Err(_) => 0,
    };
    let mut packet = vec![b'D'];
    packet.extend(copy.pid.as_raw_nonzero().get().to_be_bytes());
    packet.extend(status.to_be_bytes());
    tell(daemon, &packet);
    true
}

fn born(pid: u32) -> Vec<u8> {
    let mut packet = vec![b'B'];
    packet.extend(pid.to_be_bytes());
    packet
}

fn tell(daemon: BorrowedFd<'_>, packet: &[u8]) {
    if retry_on_intr(|| send(daemon, packet, SendFlags::NOSIGNAL)).is_err() {
        end_now(0);
    }
}
