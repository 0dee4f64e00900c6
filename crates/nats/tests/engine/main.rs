//! The engine against a real nats-server, which every test starts for itself. One binary, one module for each promise.

mod child;
mod cluster;
mod contract;
mod control;
mod harness;
mod ignored;
mod injection;
mod lease;
mod leaving;
mod machines;
mod old_server;
mod restart;
mod roles;
mod three;
