//! `cargo xtask picture`: a terminal's text from stdin, as an SVG for the README, on stdout.

use std::io::{Read, Write};

const COLUMN_PX: f64 = 8.4;
const LINE_PX: usize = 19;
const MARGIN_PX: usize = 18;

/// Reads stdin, writes stdout.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    std::io::stdout().write_all(svg(text.trim_end()).as_bytes())?;
    Ok(())
}

/// Lines that start with `$ ` are what a user typed and are drawn brighter.
fn svg(text: &str) -> String {
    let columns = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let width = (columns as f64 * COLUMN_PX) as usize + 2 * MARGIN_PX;
    let height = text.lines().count() * LINE_PX + 2 * MARGIN_PX;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#16181d\"/>\n\
         <g font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"14\" fill=\"#b9c0cb\">\n"
    );
    for (i, line) in text.lines().enumerate() {
        let y = MARGIN_PX + i * LINE_PX + 14;
        let fill = if line.starts_with("$ ") {
            " fill=\"#ffffff\""
        } else {
            ""
        };
        let line = escaped(line);
        svg += &format!("<text x=\"{MARGIN_PX}\" y=\"{y}\"{fill} xml:space=\"preserve\">{line}</text>\n");
    }
    svg + "</g>\n</svg>\n"
}

fn escaped(line: &str) -> String {
    line.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_commands_stand_out() {
        let svg = svg("$ a < b\nplain & simple");
        assert!(svg.contains("fill=\"#ffffff\" xml:space=\"preserve\">$ a &lt; b</text>"));
        assert!(svg.contains("plain &amp; simple"));
    }
}
