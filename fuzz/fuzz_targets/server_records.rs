//! Fuzzes `server_records`.

#![no_main]

tilework_fuzz::fuzz!(tilework_nats, "server_records");
