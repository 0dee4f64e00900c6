//! The contract of engines, kept against a real nats-server.

use crate::harness::TestServer;
use std::cell::RefCell;
use tilework_runtime::contract;

#[test]
fn the_nats_engine_keeps_the_contract() {
    let servers = RefCell::new(Vec::new());
    contract::check(|n_workers| {
        // The last engine's ports are gone by now.
        servers.borrow_mut().clear();
        let server = TestServer::start();
        let driver = Box::new(server.driver());
        let workers = (0..n_workers).map(|worker| Box::new(server.worker(worker)) as _);
        let ports = (driver as _, workers.collect());
        servers.borrow_mut().push(server);
        ports
    });
}
