//! The Mandelbrot set as a PNG: one round, whose tasks (blocks of rows) take anything from a moment to seconds.
//! `cargo run --release --example mandelbrot -- run mandelbrot --set width=1536 --set height=1024 --set iterations=2000 -o mandelbrot.png`

use serde::{Deserialize, Serialize};
use tilework::{Files, Job, Next, Report, TaskContext, TaskError};

#[derive(Serialize, Deserialize)]
struct Mandelbrot {
    width: u32,
    height: u32,
    /// A point that stays near zero for so long counts as one of the set.
    iterations: u32,
    #[serde(default = "rows_per_task")]
    rows_per_task: u32,
    /// The left, right, lower and upper edge of what is seen, in the complex plane.
    #[serde(default = "window")]
    window: [f64; 4],
}

fn rows_per_task() -> u32 {
    16
}

fn window() -> [f64; 4] {
    [-2.25, 0.75, -1.0, 1.0]
}

impl Mandelbrot {
    /// The middle of a pixel, as a complex number.
    fn point(&self, row: u32, col: u32) -> (f64, f64) {
        let [left, right, lower, upper] = self.window;
        let share = |at: u32, of: u32| (f64::from(at) + 0.5) / f64::from(of);
        (
            left + share(col, self.width) * (right - left),
            upper - share(row, self.height) * (upper - lower),
        )
    }

    /// Black in the set; outside of it brighter, the longer a point stays near it.
    fn shade(&self, (c_re, c_im): (f64, f64)) -> u8 {
        let (mut re, mut im) = (0.0, 0.0);
        for n in 0..self.iterations {
            let (re_squared, im_squared) = (re * re, im * im);
            if re_squared + im_squared > 4.0 {
                return (255.0 * (f64::from(n) / f64::from(self.iterations)).sqrt().sqrt()) as u8;
            }
            im = 2.0 * re * im + c_im;
            re = re_squared - im_squared + c_re;
        }
        0
    }
}

impl Job for Mandelbrot {
    const KIND: &'static str = "mandelbrot";
    const VERSION: u32 = 1;
    type State = ();
    /// The pixels of some rows, one byte each.
    type Output = Vec<u8>;

    fn start(&self, _: &Files) -> Result<(), TaskError> {
        if [self.width, self.height, self.iterations, self.rows_per_task].contains(&0) {
            return Err(TaskError::fatal("all but the window must be at least 1"));
        }
        Ok(())
    }

    fn tasks(&self, _: &()) -> u64 {
        self.height.div_ceil(self.rows_per_task).into()
    }

    fn run(&self, _: &(), task: u64, context: &TaskContext<'_>) -> Result<Vec<u8>, TaskError> {
        let first = task as u32 * self.rows_per_task;
        let mut pixels = Vec::new();
        for row in first..self.height.min(first + self.rows_per_task) {
            context.check_cancelled()?;
            pixels.extend((0..self.width).map(|col| self.shade(self.point(row, col))));
        }
        Ok(pixels)
    }

    fn advance(&self, _: &(), blocks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<Next<()>, TaskError> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&blocks.flatten().collect::<Vec<u8>>())?;
        writer.finish()?;
        Ok(Next::Done(Report::file(file)))
    }
}

fn main() -> std::process::ExitCode {
    tilework::main(tilework::jobs![Mandelbrot])
}
