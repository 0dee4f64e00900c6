//! The `tilework` program: everything is in the library.

fn main() -> std::process::ExitCode {
    tilework::main(&[])
}
