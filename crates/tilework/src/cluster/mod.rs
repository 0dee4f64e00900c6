//! What the processes of a cluster show each other.

pub mod board;
