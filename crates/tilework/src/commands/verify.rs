//! `verify`: is C the product of A and B, and are its bytes what was committed?

use super::multiply::add_request;
use crate::args::inspect::VerifyArgs;
use crate::failure::{CliError, Exit};
use crate::output::Output;
use crate::product::certificate::{Remedy, Verification, verify_output, verify_product};
use crate::product::damage::{place, tile_json};
use crate::product::inputs::{InputRequest, Paths};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use tilework_core::ids::TaskIdx;
use tilework_store::disk::{Disk, RealDisk};

/// Bad rows, and bad tiles, named at most.
const ROWS_SHOWN_MAX: usize = 5;
/// Bad tiles listed at most in JSON.
const TILES_TOLD_MAX: usize = 1000;

/// Runs the command.
pub fn run(args: &VerifyArgs, output: &Output) -> Result<(), CliError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (verification, c) = match &args.paths[..] {
        [c] => {
            if args.formula.alpha != 1.0 || args.formula.add.is_some() || args.formula.beta.is_some() {
                let message =
                    "what C is made of stands in its journal: --alpha, --beta and --add go with A, B and C";
                return Err(CliError::usage(message)
                    .with_next(format!("leave them out: tilework verify {}", c.display())));
            }
            (verify_output(&disk, c)?, c)
        }
        [a, b, c] => {
            let inputs = InputRequest {
                a: a.clone(),
                b: b.clone(),
                paths_are: Paths::Local,
                transpose_a: args.transpose_a,
                transpose_b: args.transpose_b,
                symmetric: false,
                dtype: None,
                alpha: args.formula.alpha,
                add: add_request(&args.formula)?,
            };
            (verify_product(&disk, &inputs, c)?, c)
        }
        _ => {
            return Err(CliError::usage("verify takes A, B and C, or C alone")
                .with_next("tilework verify A.npy B.npy C.npy"));
        }
    };
    verification
        .notes
        .iter()
        .for_each(|note| output.note(&format!("note: {note}")));
    if verification.holds() {
        return output.result(facts(&verification, "done"), |out| {
            describe(out, &verification, c)
        });
    }
    let error = CliError::new(Exit::CheckFailed, what_is_wrong(&verification, c));
    Err(error
        .with_next(remedy(&verification, c))
        .with_facts(facts(&verification, "failed")))
}

fn remedy(verification: &Verification, c: &Path) -> String {
    let (c, made_by) = (c.display(), verification.made_by);
    let formula = if verification.is_plain {
        ""
    } else {
        " --alpha X --beta Y --add D"
    };
    match verification.remedy {
        Remedy::Repair => format!("compute what is damaged again: tilework repair {c}"),
        Remedy::RepairWithInputs => format!("put the inputs back, then: tilework repair {c}"),
        Remedy::ComputeAnew => {
            format!("compute it again: tilework {made_by} -o {c}{formula} --overwrite")
        }
        Remedy::None => format!("put a copy of `{c}` in its place"),
    }
}

fn facts(verification: &Verification, status: &str) -> Value {
    let certificate = verification.certificate.as_ref();
    json!({
        "status": status,
        "residual_max": certificate.map(|certificate| certificate.residual_max),
        "residual_bound": certificate.map(|certificate| certificate.residual_bound),
        "tiles_bad": verification.bad_tiles.len(),
        "bad_tiles": verification.grid.map(|grid| {
            let shown = verification.bad_tiles.iter().take(TILES_TOLD_MAX);
            shown.map(|task| tile_json(&grid, *task)).collect::<Vec<_>>()
        }),
        "wrong": verification.wrong_frame,
        "tiles_checked": verification.n_tiles_checked,
        "notes": verification.notes,
    })
}

fn describe(out: &mut dyn Write, verification: &Verification, c: &Path) -> io::Result<()> {
    writeln!(out, "{}: verified", c.display())?;
    if verification.n_tiles_checked > 0 {
        writeln!(
            out,
            "  bytes    all {} tiles are what was committed",
            verification.n_tiles_checked
        )?;
    }
    if let Some(certificate) = &verification.certificate {
        let (max, bound) = (certificate.residual_max, certificate.residual_bound);
        writeln!(
            out,
            "  product  C·x = {} in every row; largest residual {max:.1e}, bound {bound:.1e}",
            right_side(verification)
        )?;
    }
    Ok(())
}

/// What C·x is held against.
fn right_side(verification: &Verification) -> &'static str {
    if verification.is_plain {
        "A·(B·x)"
    } else {
        "alpha·A·(B·x) + beta·D·x"
    }
}

fn what_is_wrong(verification: &Verification, c: &Path) -> String {
    let mut parts = verification.wrong_frame.clone();
    if let Some(grid) = verification.grid {
        let bad = &verification.bad_tiles;
        let name = |task: &u64| format!("{task} ({})", place(&grid.tile(TaskIdx(*task))));
        let tiles: Vec<String> = bad.iter().take(ROWS_SHOWN_MAX).map(name).collect();
        if !bad.is_empty() {
            parts.push(format!("{} bad tiles: {}", bad.len(), tiles.join(", ")));
        }
    }
    if let Some(certificate) = verification
        .certificate
        .as_ref()
        .filter(|certificate| !certificate.holds())
    {
        let rows: Vec<String> = certificate
            .bad_rows
            .iter()
            .take(ROWS_SHOWN_MAX)
            .map(u64::to_string)
            .collect();
        parts.push(format!(
            "C·x differs from {} in {} rows: {}",
            right_side(verification),
            certificate.bad_rows.len(),
            rows.join(", ")
        ));
    }
    format!("`{}` is wrong; {}", c.display(), parts.join("; "))
}
