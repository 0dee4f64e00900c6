//! What users type: a value that is accepted can be used without a second thought.

use crate::args::Args;
use crate::args::values::{
    parse_bandwidth, parse_duration, parse_factor, parse_gflops, parse_shape, parse_size, parse_tolerance,
};
use crate::webhook::address::WebhookUrl;
use clap::Parser;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Instant, SystemTime};
use ureq::http::Uri;

/// Sizes, times, rates, shapes and factors.
pub(super) fn values(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Ok(bytes) = parse_size(text) {
        assert!((1..=i64::MAX as u64).contains(&bytes));
        assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
    }
    if let Ok(rate) = parse_bandwidth(text) {
        assert!((1..=i64::MAX as u64).contains(&rate));
    }
    if let Ok(time) = parse_duration(text) {
        assert!(!time.is_zero());
        // So that whoever waits that long need not ask whether there is such a time.
        assert!(Instant::now().checked_add(time).is_some(), "{time:?} from now");
        assert!(SystemTime::now().checked_add(time).is_some(), "{time:?} from now");
        assert!(u64::try_from(time.as_millis()).is_ok());
        assert_eq!(
            parse_duration(&humantime::format_duration(time).to_string()),
            Ok(time)
        );
    }
    if let Ok(shape) = parse_shape(text) {
        assert_eq!(parse_shape(&format!("{}x{}", shape.rows, shape.cols)), Ok(shape));
    }
    if let Ok(rate) = parse_gflops(text) {
        assert!(rate.is_finite() && rate > 0.0);
    }
    if let Ok(tolerance) = parse_tolerance(text) {
        assert!(tolerance.is_finite() && tolerance >= 0.0);
    }
    if let Ok(factor) = parse_factor(text) {
        assert!(factor.is_finite());
        assert_eq!(
            parse_factor(&factor.to_string()).map(f64::to_bits),
            Ok(factor.to_bits())
        );
    }
}

/// Where alarms are posted: what is shown of it leads to the same host, and says nothing else.
pub(super) fn webhook_address(input: &[u8]) {
    let Some(url) = str::from_utf8(input)
        .ok()
        .and_then(|text| text.parse::<WebhookUrl>().ok())
    else {
        return;
    };
    let shown = url.to_string();
    let of_shown: Uri = shown.parse().expect("an address of ours");
    let all = url.uri();
    assert_eq!(of_shown.scheme(), all.scheme());
    assert_eq!(of_shown.host(), all.host());
    assert_eq!(of_shown.port(), all.port());
    assert!(matches!(of_shown.path(), "" | "/") && of_shown.query().is_none() && !shown.contains('@'));
    assert!(all.host().is_some_and(|host| !host.is_empty()));
    assert_eq!(url.is_https(), shown.starts_with("https://"));
}

/// A command line, a word a line, without the program's name.
pub(super) fn command_line(input: &[u8]) {
    let words = input.split(|byte| *byte == b'\n').map(OsStr::from_bytes);
    let _ = Args::try_parse_from(std::iter::once(OsStr::new("tilework")).chain(words));
}
