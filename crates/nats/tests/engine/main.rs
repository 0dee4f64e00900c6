//! The engine against a real nats-server, which every test starts for itself. One binary, one module for each promise.

mod child;
mod contract;
mod harness;
mod ignored;
mod leaving;
mod machines;
mod old_server;
mod restart;
mod roles;
