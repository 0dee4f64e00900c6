//! Fuzzes `journal_frames`.

#![no_main]

tilework_fuzz::fuzz!(tilework_store, "journal_frames");
