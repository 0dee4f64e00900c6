//! Fuzzes `notes_beside_a_job`.

#![no_main]

tilework_fuzz::fuzz!(tilework_runtime, "notes_beside_a_job");
