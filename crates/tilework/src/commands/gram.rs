//! `gram`: G = A'·A or A·A', at half the flops of `multiply`.

use super::multiply::run_product;
use crate::args::gram::{GramArgs, OperandArgs};
use crate::failure::CliError;
use crate::output::Output;
use crate::product::inputs::{InputRequest, Paths};
use tilework_linalg::{Algorithm, AlgorithmChoice};

/// Half of a product is mirrored: an element must not depend on the side of the diagonal that it is computed on.
pub(crate) const ALGORITHM: AlgorithmChoice = AlgorithmChoice::Only(Algorithm::Classical);

/// Runs the command.
pub fn run(args: &GramArgs, output: &Output) -> Result<(), CliError> {
    let inputs = input_request(&args.operand);
    run_product(
        inputs,
        ALGORITHM,
        &args.output,
        &args.run,
        &args.resources,
        output,
    )
}

pub(crate) fn input_request(args: &OperandArgs) -> InputRequest {
    InputRequest {
        a: args.a.clone(),
        b: args.a.clone(),
        paths_are: Paths::Local,
        transpose_a: !args.rows,
        transpose_b: args.rows,
        symmetric: true,
        dtype: args.dtype,
        alpha: 1.0,
        add: None,
    }
}
