//! Fuzzes `messages`.

#![no_main]

tilework_fuzz::fuzz!(tilework_nats, "messages");
