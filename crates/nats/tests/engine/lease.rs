//! Of several drivers one leads: another takes over when it goes, at once if it says so, and nobody leads without the server.

use crate::harness::{SOON, TestServer, wait_until};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tilework_core::lease::DriverIdx;
use tilework_core::limits::{LEASE_ALIVE_MS, LEASE_MS, LEASE_RENEW_MS, LEASE_STEP_DOWN_MS};
use tilework_nats::{Control, LeaseKeeper, NatsOptions, Role};

/// What the failure model promises.
const TAKE_OVER: Duration = Duration::from_secs(10);
const STEP_DOWN: Duration = Duration::from_millis(LEASE_STEP_DOWN_MS + 500);

fn keeper(server: &TestServer, driver: u32) -> Arc<LeaseKeeper> {
    keeper_with(&server.options(Role::Driver, &format!("d{driver}")), driver)
}

fn keeper_with(options: &NatsOptions, driver: u32) -> Arc<LeaseKeeper> {
    let keeper = hanging_keeper(options, driver);
    keep_alive(&keeper);
    keeper
}

/// The keeper of a driver that never says that it is alive.
fn hanging_keeper(options: &NatsOptions, driver: u32) -> Arc<LeaseKeeper> {
    let control = Control::connect(options).expect("it connects");
    let name = format!("driver {driver}");
    Arc::new(LeaseKeeper::start(Arc::new(control), DriverIdx(driver), name))
}

/// Says that the driver is alive, until its keeper is dropped.
pub(crate) fn keep_alive(keeper: &Arc<LeaseKeeper>) {
    let keeper = Arc::downgrade(keeper);
    thread::spawn(move || {
        while let Some(keeper) = keeper.upgrade() {
            keeper.alive();
            drop(keeper);
            thread::sleep(Duration::from_millis(100)); // waits: the pace of a driver's loop
        }
    });
}

fn wait_for_leader(keeper: &LeaseKeeper, within: Duration) -> Duration {
    wait_until("it leads", within, || keeper.is_leader())
}

/// A connection to the server that can hang, as if the other machine was switched off.
struct Wire {
    address: SocketAddr,
    hangs: Arc<AtomicBool>,
}

impl Wire {
    fn to(server: &TestServer) -> Wire {
        let url = server.options(Role::Driver, "d").servers.remove(0);
        let target = url.strip_prefix("nats://").expect("a URL").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let hangs = Arc::new(AtomicBool::new(false));
        let wire_hangs = Arc::clone(&hangs);
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let Ok(far) = TcpStream::connect(&target) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (
                        from.try_clone().expect("a socket"),
                        to.try_clone().expect("a socket"),
                    );
                    let hangs = Arc::clone(&wire_hangs);
                    thread::spawn(move || pass_on(from, to, &hangs));
                }
            }
        });
        Wire { address, hangs }
    }

    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, hangs: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        // What came while it hung is lost, and with it the connection.
        if hangs.load(Ordering::SeqCst) {
            while hangs.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(10)); // waits: for the wire to be mended
            }
            break;
        }
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn one_leads_and_the_other_takes_over_at_once_when_it_leaves() {
    let server = TestServer::start();
    let first = keeper(&server, 1);
    wait_for_leader(&first, SOON);
    let second = keeper(&server, 2);
    assert!(
        !second.changed(Duration::from_millis(LEASE_MS + LEASE_RENEW_MS)),
        "it is renewed"
    );
    assert!(first.is_leader() && first.changed(Duration::ZERO) && first.changed(Duration::ZERO));
    drop(first);
    let left = Instant::now();
    assert!(second.changed(SOON));
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    assert!(second.is_leader());
}

#[test]
fn another_takes_over_from_one_that_hangs_which_knows_by_its_own_clock() {
    let server = TestServer::start();
    let wire = Wire::to(&server);
    let mut options = server.options(Role::Driver, "d1");
    options.servers = vec![format!("nats://{}", wire.address)];
    let first = keeper_with(&options, 1);
    wait_for_leader(&first, SOON);
    assert!(first.changed(Duration::ZERO));
    let second = keeper(&server, 2);
    wire.hang(true);
    let hung = Instant::now();
    assert!(!first.changed(STEP_DOWN), "nobody told it");
    assert!(!second.is_leader(), "there are never two");
    wait_for_leader(&second, TAKE_OVER.saturating_sub(hung.elapsed()));
    wire.hang(false);
    // It comes back, and follows.
    assert!(!first.changed(Duration::from_millis(LEASE_MS + LEASE_RENEW_MS)));
    assert!(second.is_leader());
}

#[test]
fn nobody_leads_without_the_server_and_one_does_when_it_is_back() {
    let mut server = TestServer::start();
    let first = keeper(&server, 1);
    wait_for_leader(&first, SOON);
    let second = keeper(&server, 2);
    let n_leaders = || {
        [&first, &second]
            .iter()
            .filter(|keeper| keeper.is_leader())
            .count()
    };
    for is_lost in [false, true] {
        server.kill();
        wait_until("nobody leads", STEP_DOWN, || n_leaders() == 0);
        if is_lost {
            server.wipe_store();
        }
        server.start_again();
        wait_until("one leads", TAKE_OVER, || n_leaders() == 1);
    }
    // A lead that was lost and won again is told as lost first.
    let winner = if first.is_leader() { &first } else { &second };
    assert!(winner.changed(Duration::ZERO));
}

#[test]
fn a_driver_that_hangs_loses_the_lease_though_its_keeper_runs() {
    let server = TestServer::start();
    let first = hanging_keeper(&server.options(Role::Driver, "d1"), 1);
    wait_for_leader(&first, SOON);
    let second = keeper(&server, 2);
    let allowed = Duration::from_millis(LEASE_ALIVE_MS) + TAKE_OVER;
    wait_for_leader(&second, allowed);
    assert!(!first.is_leader());
    // It may have it again when it goes on.
    keep_alive(&first);
    drop(second);
    wait_for_leader(&first, SOON);
}

#[test]
fn a_short_absence_of_the_server_ends_no_lead() {
    let mut server = TestServer::start();
    let first = keeper(&server, 1);
    wait_for_leader(&first, SOON);
    assert!(first.changed(Duration::ZERO));
    server.kill();
    server.start_again();
    let second = keeper(&server, 2);
    assert!(first.changed(Duration::from_millis(LEASE_MS + LEASE_RENEW_MS)));
    assert!(!second.is_leader());
}
