//! Numbers as people read them.

use serde_json::{Value, json};
use std::time::Duration;

/// Bytes with three significant digits: `512 B`, `1.50 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    // From 1023.5 on, rounding would show 1024 of the smaller unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// A size as an option takes it, rounded up: `512MiB`, `1.5GiB`.
pub fn size_option(n: u64) -> String {
    const MIB: u64 = 1 << 20;
    if n > u64::MAX - MIB {
        return n.to_string();
    }
    format!("{}MiB", n.div_ceil(MIB))
}

/// Seconds: `830 µs`, `12.3 ms`, `4.56 s`, `3 min 20 s`, `2 h 05 min`.
pub fn seconds(s: f64) -> String {
    if s < 0.9995e-3 {
        format!("{} µs", three_digits(s.max(0.0) * 1e6))
    } else if s < 0.9995 {
        format!("{} ms", three_digits(s * 1e3))
    } else if s < 99.95 {
        format!("{} s", three_digits(s))
    } else if s < 3570.0 {
        let s = s.round() as u64;
        format!("{} min {:02} s", s / 60, s % 60)
    } else {
        let minutes = (s / 60.0).round() as u64;
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    }
}

/// A duration, as [`seconds`].
pub fn duration(duration: Duration) -> String {
    seconds(duration.as_secs_f64())
}

/// A count in groups of three digits: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 task`, `40 tasks`.
pub fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(n))
}

/// `part` of `whole` in whole percent, never rounded up to 100; of nothing, all is done.
pub fn percent(part: u64, whole: u64) -> u64 {
    match whole {
        0 => 100,
        _ => (u128::from(part.min(whole)) * 100 / u128::from(whole)) as u64,
    }
}

/// Flops per second: `153 GF/s`.
pub fn flops_per_s(rate: f64) -> String {
    if rate >= 1e12 {
        format!("{} TF/s", three_digits(rate / 1e12))
    } else if rate >= 1e9 {
        format!("{} GF/s", three_digits(rate / 1e9))
    } else {
        format!("{} MF/s", three_digits(rate / 1e6))
    }
}

/// A float as JSON, which has no infinities and no NaN: those become `"inf"`, `"-inf"` and `"nan"`.
pub fn json_float(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("nan")
    } else if value > 0.0 {
        json!("inf")
    } else {
        json!("-inf")
    }
}

/// A float in short: up to six significant digits, an exponent where digits alone would be long.
pub fn float(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "nan".to_owned()
    } else if !value.is_finite() || value == 0.0 {
        format!("{value}")
    } else if !(1e-4..1e6).contains(&magnitude) {
        shortest(&format!("{value:e}"), &format!("{value:.5e}"))
    } else {
        let decimals = (5 - magnitude.log10().floor() as i32).max(0) as usize;
        shortest(&format!("{value}"), &format!("{value:.decimals$}"))
    }
}

/// The exact text unless rounding makes it shorter; zeros at the end of a rounded fraction say nothing.
fn shortest(exact: &str, rounded: &str) -> String {
    let (digits, exponent) = rounded.split_once('e').unwrap_or((rounded, ""));
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    };
    let rounded = if exponent.is_empty() {
        digits.to_owned()
    } else {
        format!("{digits}e{exponent}")
    };
    if exact.len() <= rounded.len() {
        exact.to_owned()
    } else {
        rounded
    }
}

/// A word as a shell reads it back: quoted only where it must be.
pub fn shell_word(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell_are_quoted_only_where_they_must_be() {
        assert_eq!(shell_word("./data=a-b.npy"), "./data=a-b.npy");
        assert_eq!(shell_word("my data"), "'my data'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn bytes_keep_three_digits_and_carry_into_the_next_unit() {
        for (n, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 << 20, "10.0 MiB"),
            ((1 << 20) - 1, "1.00 MiB"),
            (3 << 29, "1.50 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(size_option((256 << 20) + 1), "257MiB");
    }

    #[test]
    fn times_go_from_microseconds_to_hours() {
        for (s, text) in [
            (0.0, "0.00 µs"),
            (0.000_83, "830 µs"),
            (0.0123, "12.3 ms"),
            (0.9999, "1.00 s"),
            (4.56, "4.56 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 05 min"),
        ] {
            assert_eq!(seconds(s), text);
        }
    }

    #[test]
    fn counts_are_grouped_and_percent_never_promises_the_end() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(counted(1, "task"), "1 task");
        assert_eq!(counted(4000, "task"), "4,000 tasks");
        assert_eq!((percent(999, 1000), percent(0, 0), percent(3, 2)), (99, 100, 100));
        assert_eq!(flops_per_s(153.4e9), "153 GF/s");
    }

    #[test]
    fn floats_are_short_and_json_floats_are_always_valid() {
        for (value, text) in [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (0.1 + 0.2, "0.3"),
            (123_456.789, "123457"),
            (1e300, "1e300"),
            (1.0 / 3e9, "3.33333e-10"),
            (1_000_000.000_1, "1e6"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(value), text);
        }
        assert_eq!(json_float(f64::NEG_INFINITY), "-inf");
        assert_eq!(json_float(1.5), 1.5);
    }
}
