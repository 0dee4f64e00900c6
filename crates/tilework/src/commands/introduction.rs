//! `tilework` alone: the three commands that a newcomer needs.

use crate::failure::CliError;
use crate::output::Output;
use serde_json::json;

const SCREEN: &str = "\
tilework multiplies matrices larger than memory, file to file: planned, checked, resumable.

  tilework demo                               see it work, on matrices of its own
  tilework multiply A.npy B.npy -o C.npy      C = A·B; run it again to go on after an interruption
  tilework help                               everything else
";

/// Prints the introduction.
pub fn run(output: &Output) -> Result<(), CliError> {
    let commands = [
        "tilework demo",
        "tilework multiply A.npy B.npy -o C.npy",
        "tilework help",
    ];
    output.result(json!({ "status": "done", "commands": commands }), |out| {
        out.write_all(SCREEN.as_bytes())
    })
}
