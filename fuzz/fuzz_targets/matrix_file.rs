//! Fuzzes `matrix_file`.

#![no_main]

tilework_fuzz::fuzz!(tilework_store, "matrix_file");
