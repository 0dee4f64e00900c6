//! Fuzzes `job_description`.

#![no_main]

tilework_fuzz::fuzz!(tilework_runtime, "job_description");
