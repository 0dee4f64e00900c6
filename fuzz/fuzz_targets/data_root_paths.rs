//! Fuzzes `data_root_paths`.

#![no_main]

tilework_fuzz::fuzz!(tilework_store, "data_root_paths");
