//! The TLS connection against a server whose every byte the test chooses.

use crate::address::{Address, Port};
use crate::config::{Config, Environment};
use crate::link::{Greeting, Link, Missing};
use crate::secured::Secured;
use crate::socket::Socket;
use crate::stream::Stream;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// More than all buffers on the way can hold.
const MUCH: usize = 32 << 20;
/// A test that would wait for ever fails after this time.
const DEADLINE: Duration = Duration::from_secs(30);

type Server = StreamOwned<ServerConnection, TcpStream>;

/// A file of the folder beside this one.
fn file(name: &str) -> String {
    format!("{}/src/tests/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Starts a server that treats one client in a thread of its own, and connects to it.
fn connect<T: Send + 'static>(serve: impl FnOnce(Server) -> T + Send + 'static) -> (Stream, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let number = listener.local_addr().expect("an address").port();
    let served = thread::spawn(move || serve(accept(&listener)));
    let host = "localhost".to_owned();
    let address = Address::Tls(Port { host, number });
    let stream = Stream::connect(&address, &config(&address), &Arc::default()).expect("a connection");
    (stream, served)
}

fn accept(listener: &TcpListener) -> Server {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file("server.pem"))
        .expect("PEM")
        .collect();
    let key = PrivateKeyDer::from_pem_file(file("server.key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certificates.expect("certificates"), key)
        });
    let tls = ServerConnection::new(Arc::new(config.expect("a configuration"))).expect("a server");
    let (socket, _) = listener.accept().expect("a client");
    // What was sent is there.
    socket.set_nodelay(true).expect("an option");
    socket.set_read_timeout(Some(DEADLINE)).expect("a limit");
    socket.set_write_timeout(Some(DEADLINE)).expect("a limit");
    let mut server = StreamOwned::new(tls, socket);
    server.conn.complete_io(&mut server.sock).expect("a handshake");
    server
}

fn config(address: &Address) -> Config {
    let variables = [
        ("KEYWAY_ADDRESS", address.to_string()),
        ("KEYWAY_CA", file("ca.pem")),
        ("KEYWAY_SILENCE", "1".to_owned()),
    ];
    let environment = Environment {
        variables: variables.map(|(name, value)| (name, value.into())).into(),
        files: Vec::new(),
    };
    environment.config().expect("a configuration")
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number >> 10 ^ number) as u8).collect()
}

/// Receives `count` bytes.
fn receive(stream: &Stream, count: usize) -> Vec<u8> {
    let mut buffer = vec![0; count];
    let mut start = 0;
    while start < count {
        // The other side may be slow.
        let Some(more) = stream.receive(&mut buffer[start..]) else {
            continue;
        };
        assert!(more > 0, "the end after {start} bytes of {count}");
        start += more;
    }
    buffer
}

#[test]
fn a_peer_that_first_sends_and_then_receives_gets_and_gives_everything() {
    let (stream, served) = connect(|mut server| {
        server.write_all(&bytes(MUCH)).expect("to send");
        server.flush().expect("to send");
        let mut received = vec![0; MUCH];
        server.read_exact(&mut received).expect("to receive");
        received
    });
    thread::scope(|scope| {
        // Waits for the peer, which waits for the other thread.
        let sent = scope.spawn(|| stream.send(&bytes(MUCH)));
        assert!(receive(&stream, MUCH) == bytes(MUCH));
        assert_eq!(sent.join().expect("a thread"), Ok(()));
    });
    assert!(served.join().expect("a server") == bytes(MUCH));
}

#[test]
fn new_keys_in_the_middle_change_nothing() {
    const ROUNDS: u8 = 40;
    let (stream, served) = connect(|mut server| {
        for _ in 0..ROUNDS {
            // Asks for new keys of the other side, too.
            server.conn.refresh_traffic_keys().expect("new keys");
            let mut received = [0; 70_000];
            server.read_exact(&mut received).expect("to receive");
            server.write_all(&received).expect("to send");
        }
    });
    for round in 0..ROUNDS {
        let sent = vec![round; 70_000];
        assert_eq!(stream.send(&sent), Ok(()));
        assert!(receive(&stream, sent.len()) == sent);
    }
    served.join().expect("a server");
}

#[test]
fn what_came_before_the_end_is_received_and_nothing_is_sent_after_it() {
    let (stream, served) = connect(|mut server| {
        server.write_all(b"last words").expect("to send");
        server.conn.send_close_notify();
        server.flush().expect("to send");
        server
    });
    let _open = served.join().expect("a server");
    assert!(stream.has_bytes());
    assert_eq!(receive(&stream, 10), b"last words");
    assert_eq!(stream.send(b"too late"), Err(0));
    assert_eq!(stream.receive(&mut [0; 1]), Some(0));
}

#[test]
fn there_are_bytes_only_when_some_can_be_received() {
    let (stream, served) = connect(|mut server| {
        let mut received = [0; 4];
        server.read_exact(&mut received).expect("to receive");
        server.write_all(b"pong").expect("to send");
        server.read_exact(&mut received).expect("to receive");
    });
    // The server's session tickets may have come or not; they are no bytes.
    assert!(!stream.has_bytes());
    assert_eq!(stream.send(b"ping"), Ok(()));
    assert_eq!(receive(&stream, 1), b"p");
    assert!(stream.has_bytes());
    assert_eq!(receive(&stream, 3), b"ong");
    assert!(!stream.has_bytes());
    assert_eq!(stream.send(b"over"), Ok(()));
    served.join().expect("a server");
    assert_eq!(stream.receive(&mut [0; 1]), Some(0));
    assert!(stream.has_bytes(), "the end can be received");
}

#[test]
fn a_peer_that_says_nothing_is_told_of_and_heard_later() {
    let (stream, served) = connect(|mut server| {
        let mut received = [0; 4];
        server.read_exact(&mut received).expect("to receive");
        server.write_all(b"pong").expect("to send");
    });
    assert_eq!(stream.receive(&mut [0; 4]), None);
    assert!(stream.has_room());
    assert_eq!(stream.send(b"ping"), Ok(()));
    assert_eq!(receive(&stream, 4), b"pong");
    served.join().expect("a server");
}

#[test]
fn who_ends_a_connection_takes_leave_and_who_drops_it_writes_nothing() {
    let end = |mut server: Server| server.read(&mut [0; 1]).map_err(|error| error.kind());
    let (stream, served) = connect(end);
    stream.shut();
    assert_eq!(served.join().expect("a server"), Ok(0));
    assert_eq!(stream.send(b"x"), Err(0));

    let (stream, served) = connect(end);
    drop(stream);
    let ended = served.join().expect("a server");
    // A reset if the session tickets had not been received.
    assert!(
        matches!(ended, Err(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)),
        "{ended:?}"
    );
}

#[test]
fn a_handshake_that_comes_in_drops_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let dripping = thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        socket.set_nodelay(true).expect("an option");
        // The head of a long record, and never the rest.
        let mut bytes = [22, 3, 3, 0x40, 0].into_iter().chain(std::iter::repeat(0));
        while socket.write_all(&[bytes.next().unwrap_or(0)]).is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let end = Instant::now() + DEADLINE;
    let socket = Socket::tcp(&address, end, None, Arc::default()).expect("a connection");
    let port = Port {
        host: "localhost".to_owned(),
        number: address.port(),
    };
    let credentials = config(&Address::Tls(port.clone())).credentials.expect("credentials");
    let tls = credentials.connection(&port).expect("a client");
    let soon = Instant::now() + Duration::from_millis(200);
    assert_eq!(Secured::handshake(tls, socket, soon).map(drop), Err(None));
    dripping.join().expect("a server");
}

#[test]
fn threads_that_wait_for_a_silent_address_wait_for_it_once() {
    const THREADS: usize = 8;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = Address::Tls(Port {
        host: "127.0.0.1".to_owned(),
        number: listener.local_addr().expect("an address").port(),
    });
    let link = Link::new(config(&address), Greeting::default(), Arc::default());
    let together = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                together.wait();
                assert_eq!(link.get().map(drop), Err(Missing::Absent));
            });
        }
    });
    listener.set_nonblocking(true).expect("an option");
    assert_eq!(std::iter::from_fn(|| listener.accept().ok()).count(), 1);
}
