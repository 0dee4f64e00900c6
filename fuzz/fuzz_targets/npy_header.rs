//! Fuzzes `npy_header`.

#![no_main]

tilework_fuzz::fuzz!(tilework_store, "npy_header");
