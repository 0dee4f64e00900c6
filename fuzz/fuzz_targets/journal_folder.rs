//! Fuzzes `journal_folder`.

#![no_main]

tilework_fuzz::fuzz!(tilework_store, "journal_folder");
