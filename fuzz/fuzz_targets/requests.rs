//! Fuzzes `requests`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "requests");
