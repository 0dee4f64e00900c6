//! Fuzzes `record`.

#![no_main]

tilework_fuzz::fuzz!(tilework_store, "record");
