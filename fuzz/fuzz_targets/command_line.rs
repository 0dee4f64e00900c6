//! Fuzzes `command_line`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "command_line");
