//! Wrong results on purpose: a computed tile is changed after the kernel and before its check, in one of the ways in which processors,
//! memory and programs go wrong.
//!
//! Only in builds for development and with the feature `test-lies`, of which no release is made. What the lie is depends on the
//! seed and the attempt alone.

use crate::operand::{Number, Operand};
use crate::pipeline::TileRequest;
use crate::tiles::Tile;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::ops::Range;
use std::str::FromStr;
use tilework_core::failure::{Cause, Failure};
use tilework_core::ids::WorkerIdx;
use tilework_runtime::TaskContext;
use tilework_store::element_type::Scalar;

/// Makes the workers of a process lie: `1:sign:0.5:7` for worker 1, in half of its attempts, with seed 7; `*` is every worker.
pub const VARIABLE: &str = "TILEWORK_TEST_LIES";

/// Deepest panels that are swapped.
const PANEL_DEPTH: u64 = 16;

/// A way to be wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lie {
    /// This bit of one element, counted from the lowest.
    Bit(u32),
    /// The sign of one element.
    Sign,
    /// Any bit of one element's exponent.
    Exponent,
    /// Any bit in the upper half of one element's mantissa.
    Mantissa,
    /// One row is a copy of another.
    Row,
    /// Two panels of op(B) changed places on their way to the panels of op(A).
    Panels,
    /// Two elements of a row are off by this much, one up and one down; without a size by what the row's elements have.
    Pair(Option<f64>),
    /// The tile that was computed before this one.
    Stale,
}

impl Lie {
    /// All kinds, by their names.
    pub const ALL: [(&'static str, Lie); 7] = [
        ("sign", Lie::Sign),
        ("exponent", Lie::Exponent),
        ("mantissa", Lie::Mantissa),
        ("row", Lie::Row),
        ("panels", Lie::Panels),
        ("pair", Lie::Pair(None)),
        ("stale", Lie::Stale),
    ];
}

/// Who lies how, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Lies {
    /// Who; every worker if `None`.
    pub worker: Option<WorkerIdx>,
    /// The ways to choose from.
    pub kinds: Vec<Lie>,
    /// In what share of the attempts.
    pub rate: f64,
    /// Chooses place and kind.
    pub seed: u64,
}

impl FromStr for Lies {
    type Err = String;

    /// Reads `WORKER:KIND:RATE:SEED`; the kind may be `any`.
    fn from_str(text: &str) -> Result<Lies, String> {
        let bad = || format!("{VARIABLE} is WORKER:KIND:RATE:SEED, not `{text}`");
        let [worker, kind, rate, seed] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err(bad());
        };
        let named = |(name, _): &&(&str, Lie)| *name == kind || kind == "any";
        let kinds: Vec<Lie> = Lie::ALL.iter().filter(named).map(|(_, lie)| *lie).collect();
        if kinds.is_empty() {
            return Err(bad());
        }
        let worker = match worker {
            "*" => None,
            number => Some(WorkerIdx(number.parse().map_err(|_| bad())?)),
        };
        Ok(Lies {
            worker,
            kinds,
            rate: rate.parse().map_err(|_| bad())?,
            seed: seed.parse().map_err(|_| bad())?,
        })
    }
}

/// What a lie changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The largest change of an element, row by row; infinite where the element is not a finite number any more.
    pub changes: Vec<f64>,
}

/// Changes what a worker computed.
#[derive(Debug)]
pub struct Liar<T> {
    /// What it does; nothing if `None`.
    pub lies: Option<Lies>,
    /// What it did to the tile that was computed last.
    pub told: Option<Told>,
    /// That tile as it was computed.
    truth: Vec<T>,
}

impl<T: Number> Liar<T> {
    pub(crate) fn by_environment() -> Result<Liar<T>, Failure> {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let lies = (!text.is_empty()).then(|| text.parse()).transpose();
        Ok(Liar {
            lies: lies.map_err(|error: String| Failure::fatal(Cause::Job, error))?,
            told: None,
            truth: Vec::new(),
        })
    }

    /// Changes a tile before it is checked, if the attempt is one to lie in.
    pub(crate) fn falsify(
        &mut self,
        request: &TileRequest<'_>,
        context: &TaskContext<'_>,
        tile: &Tile,
        c: &mut [T],
        leading_dimension: usize,
    ) -> Result<(), Failure> {
        self.told = None;
        let Some(lies) = self
            .lies
            .as_ref()
            .filter(|lies| lies.worker.is_none_or(|worker| worker == context.worker))
        else {
            return Ok(());
        };
        let before = std::mem::replace(&mut self.truth, c.to_vec());
        let mut dice = Dice::new(lies.seed, context);
        if c.is_empty() || dice.share() >= lies.rate {
            return Ok(());
        }
        let mut page = Page {
            tile,
            c,
            leading_dimension,
        };
        match lies.kinds[dice.below(lies.kinds.len())] {
            Lie::Bit(bit) => page.flip(bit, &mut dice),
            Lie::Sign => page.flip(Bits::of::<T>().sign, &mut dice),
            Lie::Exponent => page.flip(dice.within(Bits::of::<T>().exponent), &mut dice),
            Lie::Mantissa => page.flip(dice.within(Bits::of::<T>().high_mantissa), &mut dice),
            Lie::Row => page.copy_row(&mut dice),
            Lie::Panels => page.swap_panels(request, &mut dice)?,
            Lie::Pair(size) => page.cancelling_pair(size, &mut dice),
            Lie::Stale => page.keep(&before),
        }
        let changes = page.changes(&self.truth);
        self.told = changes
            .iter()
            .any(|change| *change > 0.0)
            .then_some(Told { changes });
        Ok(())
    }
}

/// Where what is in a number.
struct Bits {
    high_mantissa: Range<u32>,
    exponent: Range<u32>,
    sign: u32,
}

impl Bits {
    fn of<T: Number>() -> Bits {
        let sign = 8 * size_of::<T>() as u32 - 1;
        let mantissa = T::UNIT_ROUNDOFF.log2().abs() as u32 - 1;
        Bits {
            high_mantissa: mantissa / 2..mantissa,
            exponent: mantissa..sign,
            sign,
        }
    }
}

struct Dice(ChaCha8Rng);

impl Dice {
    fn new(seed: u64, context: &TaskContext<'_>) -> Dice {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&context.task.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&context.epoch.0.to_le_bytes());
        bytes[20] = context.attempt;
        Dice(ChaCha8Rng::from_seed(bytes))
    }

    fn below(&mut self, n: usize) -> usize {
        (self.0.next_u64() % n as u64) as usize
    }

    fn within(&mut self, range: Range<u32>) -> u32 {
        range.start + self.below(range.len()) as u32
    }

    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A tile that is changed.
struct Page<'a, T> {
    tile: &'a Tile,
    c: &'a mut [T],
    leading_dimension: usize,
}

impl<T: Number> Page<'_, T> {
    fn element(&mut self, dice: &mut Dice) -> &mut T {
        let (row, col) = (dice.below(self.tile.n_rows()), dice.below(self.tile.n_cols()));
        &mut self.c[row * self.leading_dimension + col]
    }

    fn flip(&mut self, bit: u32, dice: &mut Dice) {
        bytemuck::bytes_of_mut(self.element(dice))[bit as usize / 8] ^= 1 << (bit % 8);
    }

    fn row(&self, row: usize) -> Range<usize> {
        let start = row * self.leading_dimension;
        start..start + self.tile.n_cols()
    }

    fn copy_row(&mut self, dice: &mut Dice) {
        let n_rows = self.tile.n_rows();
        let row = dice.below(n_rows);
        let other = (row + 1 + dice.below((n_rows - 1).max(1))) % n_rows;
        self.c.copy_within(self.row(other), self.row(row).start);
    }

    fn cancelling_pair(&mut self, size: Option<f64>, dice: &mut Dice) {
        let (row, n_cols) = (self.row(dice.below(self.tile.n_rows())), self.tile.n_cols());
        if n_cols < 2 {
            return;
        }
        let row = &mut self.c[row];
        let size = size.unwrap_or_else(|| {
            let largest = row
                .iter()
                .map(|element| Scalar::to_f64(*element).abs())
                .fold(0.0, f64::max);
            2.0 * largest
        });
        let up = dice.below(n_cols);
        let down = (up + 1 + dice.below(n_cols - 1)) % n_cols;
        for (at, size) in [(up, size), (down, -size)] {
            row[at] = <T as Scalar>::from_f64(Scalar::to_f64(row[at]) + size);
        }
    }

    fn keep(&mut self, before: &[T]) {
        let len = before.len().min(self.c.len());
        self.c[..len].copy_from_slice(&before[..len]);
    }

    /// What is missing of two panels' products, and what comes in their place, added to each element.
    fn swap_panels(&mut self, request: &TileRequest<'_>, dice: &mut Dice) -> Result<(), Failure> {
        let (a, b) = (request.a, request.b);
        let k = a.cols();
        let depth = PANEL_DEPTH.min(k / 2);
        if depth == 0 {
            return Ok(());
        }
        let one = dice.below((k - 2 * depth + 1) as usize) as u64;
        let two = one + depth + dice.below((k - 2 * depth - one + 1) as usize) as u64;
        let (rows, cols) = (self.tile.rows.clone(), self.tile.cols.clone());
        let values = |operand: &Operand, rows: Range<u64>, cols: Range<u64>| {
            let mut buffer = vec![T::ZERO; ((rows.end - rows.start) * (cols.end - cols.start)) as usize];
            let view = operand.read(rows, cols, &mut buffer)?;
            let elements = (0..view.rows() * view.cols())
                .map(|at| Scalar::to_f64(view.get(at / view.cols(), at % view.cols())));
            Ok::<Vec<f64>, Failure>(elements.collect())
        };
        let of_a = |start: u64| values(a, rows.clone(), start..start + depth);
        let of_b = |start: u64| values(b, start..start + depth, cols.clone());
        let (a_one, a_two, b_one, b_two) = (of_a(one)?, of_a(two)?, of_b(one)?, of_b(two)?);
        let (depth, n_cols, alpha) = (depth as usize, self.tile.n_cols(), request.formula.alpha());
        for row in 0..self.tile.n_rows() {
            for col in 0..n_cols {
                let term = |p: usize| {
                    (a_one[row * depth + p] - a_two[row * depth + p])
                        * (b_two[p * n_cols + col] - b_one[p * n_cols + col])
                };
                let swapped = alpha * (0..depth).map(term).sum::<f64>();
                let element = &mut self.c[row * self.leading_dimension + col];
                *element = <T as Scalar>::from_f64(Scalar::to_f64(*element) + swapped);
            }
        }
        Ok(())
    }

    fn changes(&self, truth: &[T]) -> Vec<f64> {
        let change = |at: usize| {
            let change = (Scalar::to_f64(self.c[at]) - Scalar::to_f64(truth[at])).abs();
            let is_same = bytemuck::bytes_of(&self.c[at]) == bytemuck::bytes_of(&truth[at]);
            if is_same {
                0.0
            } else if change.is_finite() {
                change
            } else {
                f64::INFINITY
            }
        };
        let rows = (0..self.tile.n_rows()).map(|row| self.row(row).map(change).fold(0.0, f64::max));
        rows.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_nothing_else() {
        let lies: Lies = "1:sign:0.5:7".parse().unwrap();
        let expected = Lies {
            worker: Some(WorkerIdx(1)),
            kinds: vec![Lie::Sign],
            rate: 0.5,
            seed: 7,
        };
        assert_eq!(lies, expected);
        assert_eq!("*:any:1:0".parse::<Lies>().unwrap().kinds.len(), Lie::ALL.len());
        for bad in [
            "sign:0.5:7",
            "1:lie:1:1",
            "x:row:1:1",
            "*:row:often:1",
            "*:row:1:",
        ] {
            assert!(bad.parse::<Lies>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bits_are_where_the_types_have_them() {
        let (wide, narrow) = (Bits::of::<f64>(), Bits::of::<f32>());
        assert_eq!((wide.exponent, wide.sign), (52..63, 63));
        assert_eq!((narrow.exponent, narrow.sign), (23..31, 31));
    }
}
