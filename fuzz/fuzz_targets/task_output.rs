//! Fuzzes `task_output`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "task_output");
