//! Fuzzes `join_file`.

#![no_main]

tilework_fuzz::fuzz!(tilework_nats, "join_file");
