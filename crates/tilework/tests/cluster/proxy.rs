//! A network between one process and the server that can be frozen, healed, cut, and taken away.
#![allow(dead_code, reason = "chaos and the tests of single faults use a part each")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often a connection looks at the state of the network.
const LOOK: Duration = Duration::from_millis(10);

/// Passes bytes on to a server, for as long as it may.
pub(crate) struct Proxy {
    port: u16,
    network: Arc<Network>,
}

#[derive(Default)]
struct Network {
    is_frozen: AtomicBool,
    is_away: AtomicBool,
    n_answer_bytes: AtomicU64,
    n_resets: AtomicU64,
    n_connections: AtomicU64,
    n_open: AtomicU64,
    is_over: AtomicBool,
}

impl Proxy {
    /// To the server at `port`.
    pub(crate) fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own_port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let network = Arc::new(Network::default());
        let shared = Arc::clone(&network);
        thread::spawn(move || accept(&listener, port, &shared));
        Proxy {
            port: own_port,
            network,
        }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Nothing passes any more, and nobody is told.
    pub(crate) fn freeze(&self) {
        self.network.is_frozen.store(true, Ordering::SeqCst);
    }

    /// Bytes that the server ever said.
    pub(crate) fn n_answer_bytes(&self) -> u64 {
        self.network.n_answer_bytes.load(Ordering::SeqCst)
    }

    /// What waited passes.
    pub(crate) fn heal(&self) {
        self.network.is_frozen.store(false, Ordering::SeqCst);
    }

    /// Ends all connections; new ones may be made.
    pub(crate) fn reset(&self) {
        self.network.n_resets.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends all connections, and no new ones can be made.
    pub(crate) fn take_away(&self) {
        self.network.is_away.store(true, Ordering::SeqCst);
    }

    /// New connections can be made again.
    pub(crate) fn bring_back(&self) {
        self.network.is_away.store(false, Ordering::SeqCst);
    }

    /// Connections that are there now.
    pub(crate) fn n_open(&self) -> u64 {
        self.network.n_open.load(Ordering::SeqCst)
    }

    /// Connections that were ever made.
    pub(crate) fn n_connections(&self) -> u64 {
        self.network.n_connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.network.is_over.store(true, Ordering::SeqCst);
    }
}

fn accept(listener: &TcpListener, port: u16, network: &Arc<Network>) {
    while !network.is_over.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok(_) if network.is_away.load(Ordering::SeqCst) => {}
            Ok((inner, _)) => {
                let Ok(outer) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                network.n_connections.fetch_add(1, Ordering::SeqCst);
                inner.set_nonblocking(false).unwrap();
                let n_resets = network.n_resets.load(Ordering::SeqCst);
                let ways = [
                    (inner.try_clone(), outer.try_clone(), false),
                    (Ok(outer), Ok(inner), true),
                ];
                for (from, to, are_answers) in ways {
                    let way = Way {
                        from: from.unwrap(),
                        to: to.unwrap(),
                        are_answers,
                        n_resets,
                        network: Arc::clone(network),
                    };
                    thread::spawn(move || way.pass());
                }
            }
            Err(_) => thread::sleep(LOOK), // waits: a connection
        }
    }
}

/// One direction of a connection.
struct Way {
    from: TcpStream,
    to: TcpStream,
    are_answers: bool,
    n_resets: u64,
    network: Arc<Network>,
}

impl Way {
    fn is_cut(&self) -> bool {
        let network = &self.network;
        network.n_resets.load(Ordering::SeqCst) != self.n_resets
            || network.is_away.load(Ordering::SeqCst)
            || network.is_over.load(Ordering::SeqCst)
    }

    fn is_held(&self) -> bool {
        self.network.is_frozen.load(Ordering::SeqCst)
    }

    fn pass(mut self) {
        // Of the two ways one counts.
        let counts = u64::from(self.are_answers);
        self.network.n_open.fetch_add(counts, Ordering::SeqCst);
        self.pass_until_it_ends();
        self.network.n_open.fetch_sub(counts, Ordering::SeqCst);
    }

    fn pass_until_it_ends(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        self.from.set_read_timeout(Some(LOOK)).unwrap();
        while !self.is_cut() {
            match self.from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    while self.is_held() && !self.is_cut() {
                        thread::sleep(LOOK); // waits: the network is healed
                    }
                    if self.are_answers {
                        let n_bytes = &self.network.n_answer_bytes;
                        n_bytes.fetch_add(n as u64, Ordering::SeqCst);
                    }
                    if self.is_cut() || self.to.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        let _ = self.from.shutdown(Shutdown::Both);
        let _ = self.to.shutdown(Shutdown::Both);
    }
}
