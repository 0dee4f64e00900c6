//! Fuzzes `values`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "values");
