//! Fuzzes `text_matrix`.

#![no_main]

tilework_fuzz::fuzz!(tilework_store, "text_matrix");
