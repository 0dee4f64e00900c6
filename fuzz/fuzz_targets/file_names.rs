//! Fuzzes `file_names`.

#![no_main]

tilework_fuzz::fuzz!(tilework_store, "file_names");
