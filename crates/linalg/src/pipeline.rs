//! One tile: panels are read by one thread while all others multiply; every source element passes the check on its way.
//!
//! Chunks of B are packed, chunks of A are multiplied with them, slab of depth by slab; the crew keeps that order where it
//! matters. Where the layout keeps B's columns packed over all depth, the first tile of those columns packs them and the next
//! ones only read A. The reader runs ahead by as many chunks as the layout has buffers, across slabs. No partial product is ever
//! written.

use crate::check::{ErrorModel, Verdict};
use crate::classical::{Classical, ClassicalPlan};
use crate::crew::{Crew, Touches};
use crate::epilogue::Epilogue;
use crate::formula::Formula;
use crate::halves::Halves;
use crate::layout::Layout;
use crate::mirror;
use crate::operand::{Number, Operand};
use crate::packed_cols::PackedCols;
use crate::plan::Algorithm;
use crate::reader::{Buffers, ReadPanel, read_panels};
use crate::schedule::{Request, Schedule};
use crate::second_look::{Idle, wrong_row};
use crate::strassen::Strassen;
use crate::tiles::{Grid, Tile};
use crate::workspace::{Lent, TileParts, Workspace};
use rayon::ThreadPool;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::channel;
use tilework_core::failure::{Cause, Failure};
use tilework_kernel::{AlignedBuffer, MatMut};
use tilework_runtime::TaskContext;
use tilework_runtime::threads::start_scoped;

/// Off only in the benchmark that measures what the check costs.
pub(crate) const CHECKED: bool = !cfg!(feature = "bench-unchecked");

/// A computed tile.
#[derive(Debug)]
pub struct ComputedTile {
    /// Its elements, row by row in the layout's leading dimension.
    pub buffer: Lent,
    /// What the check says.
    pub verdict: Verdict,
    /// The check's relative bound.
    pub residual_bound: f64,
    /// CRC32C of its rows without padding.
    pub crc32c: u32,
    /// How it was computed.
    pub algorithm: Algorithm,
}

/// Tiles to be computed.
#[derive(Debug, Clone, Copy)]
pub struct TileRequest<'a> {
    /// op(A).
    pub a: &'a Operand,
    /// op(B).
    pub b: &'a Operand,
    /// What is made of their product; a symmetric one is left as it is, or scaled.
    pub formula: &'a Formula,
    /// The tiles.
    pub grid: &'a Grid,
    /// Chooses the check's x where B is packed for this tile.
    pub seed: [u8; 32],
}

/// Computes the context's tile of what the formula makes of op(A)·op(B).
///
/// Of a tile that the diagonal of a symmetric product crosses, what lies above the diagonal is mirrored before the check, which so
/// covers both halves.
///
/// Where the layout says Strassen, a tile whose inputs are not finite or near overflow is computed classically all the same.
pub fn compute_tile<T: Number>(
    workspace: &mut Workspace<T>,
    request: &TileRequest<'_>,
    context: &TaskContext<'_>,
) -> Result<ComputedTile, Failure> {
    let algorithm = workspace.layout.algorithm;
    let computed = compute_tile_by(algorithm, workspace, request, context)?;
    let is_unfit = algorithm == Algorithm::Strassen
        && (computed.verdict == Verdict::NotFinite
            || workspace.is_near_overflow(&request.grid.tile(context.task), request.formula));
    if !is_unfit {
        return Ok(computed);
    }
    // Its buffer may be the only one.
    drop(computed);
    compute_tile_by(Algorithm::Classical, workspace, request, context)
}

fn compute_tile_by<T: Number>(
    algorithm: Algorithm,
    workspace: &mut Workspace<T>,
    request: &TileRequest<'_>,
    context: &TaskContext<'_>,
) -> Result<ComputedTile, Failure> {
    let &TileRequest {
        a,
        b,
        formula,
        grid,
        seed,
    } = request;
    workspace.refill_chunks()?;
    let tile = grid.tile(context.task);
    // Whatever interrupts the packing leaves nothing that a later tile would take for packed.
    let packed_before = workspace.packed_cols.take();
    let packed_before = packed_before
        .filter(|(by, cols)| *by == algorithm && cols.group_of(&tile.cols).is_some())
        .map(|(_, cols)| cols);
    let is_packed = packed_before.is_some();
    let packed_cols = packed_before.unwrap_or_else(|| {
        let widths = if workspace.layout.keeps_columns() {
            grid.widths_up_to(&tile)
        } else {
            vec![tile.n_cols()]
        };
        PackedCols::new(tile.cols.clone(), widths)
    });
    let plan = TilePlan::new::<T>(algorithm, &workspace.layout, a, b, &tile);
    let model = plan.error_model::<T>(a, b, &packed_cols);
    let epilogue = Epilogue::new(formula, &workspace.layout, &tile);
    let model = epilogue
        .as_ref()
        .map_or(model, |epilogue| epilogue.enlarge::<T>(model));
    if !is_packed {
        workspace.check.start_columns(model, seed);
        workspace.largest_b.reset();
    }
    workspace.check.start_tile(model);
    workspace.largest_a.reset();
    workspace.largest_d.reset();
    let mut buffer = workspace.take_tile();
    let ld = workspace.layout.leading_dimension;
    let c = &mut buffer.as_mut_slice::<T>()[..tile.n_rows() * ld];
    if a.cols() == 0 {
        c.fill(T::default());
    }
    let columns = Columns {
        packed: &packed_cols,
        is_packed,
        to_diagonal: grid.symmetric,
    };
    plan.compute(workspace, a, b, &columns, c, context)?;
    if grid.symmetric {
        workspace.threads.install(|| mirror::complete(c, ld, &tile));
    }
    if let Some(epilogue) = epilogue {
        epilogue.apply(workspace, &model, c, &|| context.check_cancelled())?;
    }
    #[cfg(any(debug_assertions, feature = "test-lies"))]
    workspace.liar.falsify(request, context, &tile, c, ld)?;
    let (check, band_rows) = (&mut workspace.check, workspace.layout.band_rows);
    let (mut verdict, crc32c) = if CHECKED {
        let n_cols = tile.n_cols();
        workspace
            .threads
            .install(|| check.finish_tile(c, n_cols, ld, band_rows))
    } else {
        let unchecked = Verdict::Passed {
            residual_max: 0.0,
            suspects: Vec::new(),
        };
        (unchecked, 0)
    };
    if let Verdict::Passed { suspects, .. } = &verdict
        && !suspects.is_empty()
        && algorithm == Algorithm::Classical
    {
        workspace.n_second_looks += 1;
        let idle = Idle {
            threads: &workspace.threads,
            chunks: &mut workspace.chunks,
        };
        match wrong_row(request, &tile, suspects, (c, ld), idle, context)? {
            Some(row) => verdict = Verdict::Differs { row },
            None => workspace.check.trust(suspects),
        }
    }
    // Anything but a pass may come from damaged packed columns, infinities too: the next attempt packs them anew.
    let is_sound = matches!(verdict, Verdict::Passed { .. });
    if workspace.layout.keeps_columns() && is_sound {
        workspace.packed_cols = Some((algorithm, packed_cols));
    }
    Ok(ComputedTile {
        buffer,
        verdict,
        residual_bound: model.coefficient,
        crc32c,
        algorithm,
    })
}

/// Columns of op(B) for a tile.
struct Columns<'a> {
    packed: &'a PackedCols,
    /// Whether an earlier tile packed them.
    is_packed: bool,
    /// Whether what lies above the diagonal is left out.
    to_diagonal: bool,
}

/// How one tile is computed.
enum TilePlan {
    Classical(Schedule),
    Strassen(Halves),
}

impl TilePlan {
    fn new<T: Number>(
        algorithm: Algorithm,
        layout: &Layout,
        a: &Operand,
        b: &Operand,
        tile: &Tile,
    ) -> TilePlan {
        match algorithm {
            Algorithm::Classical => TilePlan::Classical(Schedule::new::<T>(layout, a, b, tile)),
            Algorithm::Strassen => TilePlan::Strassen(Halves::new::<T>(layout, a, b, tile)),
        }
    }

    fn error_model<T: Number>(&self, a: &Operand, b: &Operand, packed_cols: &PackedCols) -> ErrorModel {
        let (n_cols, n_groups) = (packed_cols.n_cols(), packed_cols.n_groups());
        match self {
            TilePlan::Classical(schedule) => {
                ErrorModel::new::<T>(a, b, n_cols, schedule.n_col_chunks(n_cols), n_groups)
            }
            TilePlan::Strassen(halves) => ErrorModel::new::<T>(a, b, n_cols, halves.n_col_chunks(), n_groups)
                .strassen::<T>(halves.top_rows),
        }
    }

    fn compute<T: Number>(
        &self,
        workspace: &mut Workspace<T>,
        a: &Operand,
        b: &Operand,
        columns: &Columns<'_>,
        c: &mut [T],
        context: &TaskContext<'_>,
    ) -> Result<(), Failure> {
        let tile = match self {
            TilePlan::Classical(schedule) => &schedule.tile,
            TilePlan::Strassen(halves) => &halves.tile,
        };
        let Workspace {
            layout,
            kernel,
            threads,
            packed_b,
            scratch,
            chunks,
            check,
            largest_a,
            largest_b,
            ..
        } = workspace;
        let parts = TileParts {
            c: MatMut::new(c, tile.n_rows(), tile.n_cols(), layout.leading_dimension),
            layout,
            kernel,
            scratch,
            packed_b: packed_b.as_mut_slice(),
            check: check.split(tile.n_rows()),
            largest_a,
            largest_b,
        };
        let source = Source { a, b, context };
        match self {
            TilePlan::Classical(schedule) => {
                let plan = ClassicalPlan {
                    schedule,
                    packed_cols: columns.packed,
                    to_diagonal: columns.to_diagonal,
                };
                let work = Classical::new(plan, parts);
                let requests = schedule.requests(columns.is_packed);
                stream::<T>(&source, requests, &work, threads, chunks)
            }
            TilePlan::Strassen(halves) => {
                let work = Strassen::new(halves, parts);
                stream::<T>(
                    &source,
                    halves.requests(columns.is_packed),
                    &work,
                    threads,
                    chunks,
                )
            }
        }
    }
}

/// What a tile is computed from, and for whom.
struct Source<'a> {
    a: &'a Operand,
    b: &'a Operand,
    context: &'a TaskContext<'a>,
}

/// What all algorithms have in common: panels come in, are cut into work, and each piece of work is done by some thread.
pub(crate) trait TileWork: Sync {
    /// Cuts what was read into work.
    fn feed(&self, crew: &Crew<Work>, read: ReadPanel);

    /// Does a piece of work.
    fn execute(&self, touches: Touches, work: &Work, context: &TaskContext<'_>);
}

/// What a piece of work is done with.
pub(crate) struct Work {
    pub(crate) read: Arc<ReadPanel>,
    /// The depth that is packed or multiplied.
    pub(crate) depth: Range<u64>,
}

/// Reads on a thread of its own, cuts what comes into work here, and has all other threads do it.
fn stream<T: Number>(
    source: &Source<'_>,
    requests: impl Iterator<Item = Request> + Send,
    tile_work: &impl TileWork,
    threads: &ThreadPool,
    chunks: &mut Vec<AlignedBuffer>,
) -> Result<(), Failure> {
    let Source { a, b, context } = *source;
    let (home, free) = channel();
    for chunk in chunks.drain(..) {
        let _ = home.send(chunk);
    }
    let (to_here, filled) = channel();
    let crew = Crew::new();
    std::thread::scope(|scope| {
        let buffers = Buffers { free, home };
        let read = || read_panels::<T>(a, b, requests, buffers, to_here);
        let reader = start_scoped(scope, "reads panels", read)?;
        let fed = threads.in_place_scope(|scope| {
            scope.spawn_broadcast(|_, _| {
                crew.work(|touches, work| tile_work.execute(touches, &work, context));
            });
            let fed = filled.iter().try_for_each(|read| {
                context.check_cancelled()?;
                tile_work.feed(&crew, read?);
                if crew.is_open() {
                    Ok(())
                } else {
                    Err(Failure::fatal(Cause::Panic, "a compute thread panicked"))
                }
            });
            match fed {
                Ok(()) => crew.close(),
                Err(_) => crew.abandon(),
            }
            fed
        });
        drop(filled);
        *chunks = reader
            .join()
            .map_err(|_| Failure::fatal(Cause::Panic, "the reader panicked"))?;
        fed
    })
}

/// A range in indices from `start`.
pub(crate) fn offsets(range: &Range<u64>, start: u64) -> Range<usize> {
    (range.start - start) as usize..(range.end - start) as usize
}
