//! The module host: one vendor module in a process of its own, served on an inherited socket (docs/wire.md).
//!
//! Exit status: 0 the peer is gone, 2 the command line or the peer is not understood, 3 the module can't be loaded,
//! 4 it can't be confined as it shall be.
#![forbid(unsafe_code)]

mod ahead;
mod execute;
mod frames;
mod options;
mod pace;
mod seed;
mod serve;
mod sessions;

use execute::Context;
use keyway_abi::host::{confine, inherit, inherit_memory, inherit_packets, Library, Refusal, Segment};
use keyway_wire::VERSION;
use options::Options;
use serve::Server;
use std::fmt::Display;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

const NOT_UNDERSTOOD: i32 = 2;
const NO_MODULE: i32 = 3;
const NOT_CONFINED: i32 = 4;

/// What a line begins with that says what could not be done and was not demanded. The daemon writes such a line once.
const LACKING: &str = "keyway-host: not confined: ";

fn main() {
    let options = Options::parse(std::env::args_os().skip(1)).unwrap_or_else(|usage| fail(NOT_UNDERSTOOD, usage));
    if let Some(sandbox) = &options.sandbox {
        tell(demand(sandbox.give_up_rights()));
    }
    let kept: Vec<_> = [options.descriptor].into_iter().chain(options.segment).collect();
    let socket = confine(&kept).and_then(|()| Socket::inherit(&options));
    let socket = socket.unwrap_or_else(|error| {
        let descriptor = options.descriptor;
        fail(NOT_UNDERSTOOD, format_args!("descriptor {descriptor}: {error}"))
    });
    let segment = options.segment.map(|descriptor| shared(inherit_memory(descriptor)));
    if let Some(sandbox) = &options.sandbox {
        // The module's own code runs as soon as it is loaded.
        tell(demand(sandbox.enter(&options.module, options.seed)));
    }
    let module = options.module.display();
    let library =
        Library::load(&options.module).unwrap_or_else(|error| fail(NO_MODULE, format_args!("{module} {error}")));
    let context = Context::new(library);
    let (stream, segment, context) = match socket {
        Socket::Client(stream) => (stream, segment, context),
        Socket::Seed(packets) => {
            let (stream, memory, context) = seed::serve(packets, context);
            if let Some(sandbox) = &options.sandbox {
                demand(sandbox.enter_copy());
            }
            (stream, memory.map(|memory| shared(Segment::map(memory))), context)
        }
    };
    if let Err(error) = agree(&stream) {
        fail(NOT_UNDERSTOOD, error);
    }
    match Server::new(context, stream, segment, options.threads) {
        Ok(server) => server.run(),
        Err(error) => fail(NOT_UNDERSTOOD, error),
    }
}

/// The result of confining this process, or the end.
fn demand<T>(result: Result<T, Refusal>) -> T {
    result.unwrap_or_else(|refusal| fail(NOT_CONFINED, refusal))
}

/// Says what could not be done.
fn tell(lacking: Vec<String>) {
    for each in lacking {
        eprintln!("{LACKING}{each}");
    }
}

/// The memory that is shared with the daemon, or the end.
fn shared(segment: std::io::Result<Segment>) -> Segment {
    segment.unwrap_or_else(|error| fail(NOT_UNDERSTOOD, format_args!("shared memory: {error}")))
}

/// What the inherited descriptor is.
enum Socket {
    Client(UnixStream),
    Seed(OwnedFd),
}

impl Socket {
    fn inherit(options: &Options) -> std::io::Result<Self> {
        if options.seed {
            inherit_packets(options.descriptor).map(Self::Seed)
        } else {
            inherit(options.descriptor).map(Self::Client)
        }
    }
}

/// Settles the version of the wire; our byte tells the peer that the module is loaded.
fn agree(mut stream: &UnixStream) -> std::io::Result<()> {
    let mut version = [0];
    stream.read_exact(&mut version)?;
    if version[0] < VERSION {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "the peer does not speak the native wire",
        ));
    }
    stream.write_all(&[VERSION])
}

/// One line that says what is wrong, and the end.
fn fail(status: i32, reason: impl Display) -> ! {
    eprintln!("keyway-host: {reason}");
    std::process::exit(status)
}
