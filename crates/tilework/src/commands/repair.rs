//! `repair`: computes what is damaged of a finished output again.

use super::multiply::{resources, stop_switch};
use crate::args::inspect::RepairArgs;
use crate::args::multiply::ResourceArgs;
use crate::failure::CliError;
use crate::human;
use crate::output::Output;
use crate::product::damage::{Damage, place, tile_json};
use crate::product::repair::{RepairWatch, Repaired, repair};
use crate::progress::ProgressBar;
use crate::settings::Settings;
use crate::signals;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tilework_core::ids::TaskIdx;
use tilework_linalg::tiles::Grid;
use tilework_runtime::Observer;
use tilework_runtime::run::Progress;
use tilework_store::disk::{Disk, RealDisk};

/// Tiles named at most.
const TILES_SHOWN_MAX: usize = 10;

/// Runs the command.
pub fn run(args: &RepairArgs, output: &Output) -> Result<(), CliError> {
    let allowed = ResourceArgs {
        memory: args.memory,
        threads: args.threads,
        ..ResourceArgs::default()
    };
    let settings = Settings::resolve(&allowed, None, output.started())?;
    let stop = stop_switch(&allowed, None, output)?;
    let _signals = signals::stop_on_signals(&stop, output)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let teller = Teller {
        output,
        bar: OnceLock::new(),
    };
    let repaired = repair(&disk, &args.output, &resources(&settings)?, &stop, &teller);
    teller.bar.get().inspect(|bar| bar.finish());
    let repaired = repaired?;
    output.report(to_json(&repaired, output), |out| {
        describe(out, &repaired, &args.output, output)
    })
}

struct Teller<'a> {
    output: &'a Output,
    bar: OnceLock<ProgressBar>,
}

impl RepairWatch for Teller<'_> {
    fn on_begin(&self, damage: &Damage, grid: &Grid, flops: u64) {
        let n_tiles = damage.tiles.len() as u64;
        let all = human::counted(grid.n_tiles(), "tile");
        self.output
            .note(&format!("{} of {all} damaged", human::count(n_tiles)));
        let _ = self.bar.set(ProgressBar::new(self.output, n_tiles, flops));
    }

    fn on_progress(&self, progress: &Progress) {
        self.bar.get().inspect(|bar| bar.on_progress(progress));
    }
}

fn to_json(repaired: &Repaired, output: &Output) -> Value {
    let Repaired { damage, grid, .. } = repaired;
    let tiles: Vec<Value> = damage.tiles.iter().map(|task| tile_json(grid, *task)).collect();
    json!({
        "status": "done",
        "tiles": grid.n_tiles(),
        "tiles_repaired": tiles,
        "header_repaired": damage.frame.header,
        "length_repaired": damage.frame.len.is_some(),
        "bytes_read": repaired.bytes_read,
        "bytes_written": repaired.bytes_written,
        "seconds": output.seconds(),
    })
}

fn describe(out: &mut dyn Write, repaired: &Repaired, c: &Path, output: &Output) -> io::Result<()> {
    let Repaired { damage, grid, .. } = repaired;
    let (c, all) = (c.display(), human::counted(grid.n_tiles(), "tile"));
    if !damage.is_some() {
        return writeln!(
            out,
            "{c}: nothing to repair; header and {all} are what was committed"
        );
    }
    writeln!(out, "{c}: repaired in {}", human::seconds(output.seconds()))?;
    if let Some(len) = damage.frame.len {
        writeln!(out, "  length   was {}", human::bytes(len))?;
    }
    if damage.frame.header {
        writeln!(out, "  header   written anew")?;
    }
    let n_tiles = damage.tiles.len();
    if n_tiles > 0 {
        writeln!(
            out,
            "  tiles    {n_tiles} of {all} computed again, with the bytes that were committed"
        )?;
    }
    for task in damage.tiles.iter().take(TILES_SHOWN_MAX) {
        writeln!(out, "           {task}: {}", place(&grid.tile(TaskIdx(*task))))?;
    }
    if n_tiles > TILES_SHOWN_MAX {
        writeln!(out, "           and {} more", n_tiles - TILES_SHOWN_MAX)?;
    }
    Ok(())
}
