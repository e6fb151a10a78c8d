//! A daemon in miniature whose every reply the test chooses.

use crate::config::Config;
use crate::context::Context;
use crate::link::{Greeting, Link};
use keyway_wire::generated::call::{C_FINALIZE, C_INITIALIZE, C_OPENSESSION};
use keyway_wire::generated::rv::CKR_OK;
use keyway_wire::value::{Bytes, Value};
use keyway_wire::{call, decode_request, encode_reply, flag, Header, HEADER_LENGTH, VERSION};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread;

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub header: Header,
    pub body: Vec<u8>,
}

/// What the server does about a request.
pub enum Act {
    /// Reply with this RV and these values.
    Reply(u64, Vec<Value<'static>>),
    /// Reply that the init call of a fused request failed.
    Init(u64),
    /// Send these bytes.
    Raw(Vec<u8>),
    Nothing,
    HangUp,
}

pub const OK: fn() -> Act = || Act::Reply(CKR_OK, Vec::new());

/// A folder for a socket, removed at the end.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "keyway-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        Self(folder)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }

    /// A context that looks for its daemon here.
    pub fn context(&self) -> Arc<Context> {
        let link = Link::new(Config::unix(self.socket()), Greeting::default(), Arc::default());
        Arc::new(Context::new(link, None))
    }

    /// Serves one connection after the other. What arrives is told, apart from the first and the last call of a context,
    /// which succeed.
    pub fn serve(&self, act: impl FnMut(&Seen) -> Act + Send + 'static) -> Receiver<Seen> {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).expect("a socket");
        let (tell, told) = channel();
        thread::spawn(move || accept(&listener, act, &tell));
        told
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn accept(listener: &UnixListener, mut act: impl FnMut(&Seen) -> Act, tell: &Sender<Seen>) {
    while let Ok((stream, _)) = listener.accept() {
        // Ends when the client goes, or with a message that nobody waits for.
        let _ = connection(stream, &mut act, tell);
    }
}

fn connection(mut stream: UnixStream, act: &mut impl FnMut(&Seen) -> Act, tell: &Sender<Seen>) -> std::io::Result<()> {
    let mut version = [0];
    stream.read_exact(&mut version)?;
    assert_eq!(version, [VERSION]);
    stream.write_all(&version)?;
    loop {
        let mut header = [0; HEADER_LENGTH];
        stream.read_exact(&mut header)?;
        let header = Header::decode(&header);
        let mut body = vec![0; header.length as usize];
        stream.read_exact(&mut body)?;
        let seen = Seen { header, body };
        let action = match header.call {
            C_INITIALIZE => Act::Reply(CKR_OK, vec![Value::Bytes(Bytes::Data(b"test"))]),
            C_FINALIZE => OK(),
            _ => {
                let _ = tell.send(seen.clone());
                act(&seen)
            }
        };
        match action {
            Act::Reply(..) if header.flags & flag::POSTED != 0 => {}
            Act::Reply(rv, values) => stream.write_all(&reply(&header, rv, 0, &values))?,
            Act::Init(rv) => stream.write_all(&reply(&header, rv, flag::INIT, &[]))?,
            Act::Raw(bytes) => stream.write_all(&bytes)?,
            Act::Nothing => {}
            Act::HangUp => return Ok(()),
        }
    }
}

/// The bytes of a reply.
pub fn reply(request: &Header, rv: u64, flags: u16, values: &[Value<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    encode_reply(call(request.call).expect("a call"), values, &mut body).expect("a reply");
    let header = Header {
        length: body.len() as u32,
        ..request.reply(rv, flags)
    };
    [header.encode().as_slice(), &body].concat()
}

/// Makes a call and returns its RV.
pub fn invoke(context: &Context, number: u16, target: u64, args: &[Value<'_>]) -> u64 {
    let call = call(number).expect("a call");
    context
        .invoke(call, target, args, &mut |_, _| Ok(()))
        .unwrap_or_else(|rv| rv)
}

/// Opens a session and returns its handle, or the RV.
pub fn open_session(context: &Context, slot: u64) -> Result<u64, u64> {
    let mut handle = None;
    let args = [Value::Ulong(4), Value::Cell(Some(0))];
    let rv = context.invoke(call(C_OPENSESSION).expect("a call"), slot, &args, &mut |_, values| {
        if let [Value::Cell(cell)] = values {
            handle = *cell;
        }
        Ok(())
    });
    match rv {
        Ok(CKR_OK) => handle.ok_or(0),
        Ok(rv) | Err(rv) => Err(rv),
    }
}

/// The handle in a request of C_OpenSession.
pub fn opened(seen: &Seen) -> u64 {
    let call = call(seen.header.call).expect("a call");
    match decode_request(call, 0, &seen.body).expect("a request").as_slice() {
        [_, Value::Cell(Some(handle))] => *handle,
        other => panic!("not a request for a session: {other:?}"),
    }
}
