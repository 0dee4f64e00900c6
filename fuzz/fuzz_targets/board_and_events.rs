//! Fuzzes `board_and_events`.

#![no_main]

tilework_fuzz::fuzz!(tilework, "board_and_events");
