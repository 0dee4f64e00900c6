//! Fuzzes `server_address`.

#![no_main]

tilework_fuzz::fuzz!(tilework_nats, "server_address");
