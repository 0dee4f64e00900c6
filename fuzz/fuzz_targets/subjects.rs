//! Fuzzes `subjects`.

#![no_main]

tilework_fuzz::fuzz!(tilework_nats, "subjects");
