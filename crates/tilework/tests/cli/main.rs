//! The program as its users meet it: files, exit codes, messages. One binary, one module for each command or contract.

mod assign;
mod bad_input;
mod clean;
mod cluster;
mod compare;
mod doctor;
mod generate;
mod help;
mod inspect;
mod json;
mod simulate;
mod vocabulary;
