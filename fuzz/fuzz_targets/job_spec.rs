//! Fuzzes `job_spec`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "job_spec");
