//! Fuzzes `webhook_address`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "webhook_address");
