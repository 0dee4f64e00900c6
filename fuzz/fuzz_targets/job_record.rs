//! Fuzzes `job_record`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "job_record");
