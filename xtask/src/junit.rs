//! Reads what is needed of the junit.xml that nextest writes: each test's name, time and verdict.
//!
//! Not an XML parser: it relies on attribute values and text being escaped, so that `<` only ever opens a tag.

/// One test of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TestCase {
    /// The test binary and the test's path in it.
    pub(crate) name: String,
    pub(crate) seconds: f64,
    pub(crate) passed: bool,
}

/// The test cases of a junit.xml, in its order.
pub(crate) fn test_cases(xml: &str) -> Vec<TestCase> {
    let mut cases: Vec<TestCase> = Vec::new();
    for tag in xml.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap_or(tag);
        if tag.starts_with("testcase ") {
            let binary = attribute(tag, "classname").unwrap_or_default();
            let test = attribute(tag, "name").unwrap_or_default();
            let seconds = attribute(tag, "time").and_then(|s| s.parse().ok()).unwrap_or(0.0);
            cases.push(TestCase {
                name: format!("{binary} {test}"),
                seconds,
                passed: true,
            });
        } else if (tag.starts_with("failure") || tag.starts_with("error"))
            && let Some(case) = cases.last_mut()
        {
            case.passed = false;
        }
    }
    cases
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let unescaped = value
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    Some(unescaped.replace("&apos;", "'").replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="3" failures="1" errors="0" time="1.5">
    <testsuite name="core" tests="3" disabled="0" errors="0" failures="1">
        <testcase name="a::quick" classname="core" timestamp="2026-01-01T00:00:00Z" time="0.004"/>
        <testcase name="a::wrong" classname="core" time="1.250">
            <failure message="left &lt; right" type="test failure">a &lt;testcase </failure>
            <system-out>text</system-out>
        </testcase>
        <testcase name="b::holds&lt;f64&gt;" classname="core::bin" time="0.250">
        </testcase>
    </testsuite>
</testsuites>"#;

    #[test]
    fn names_times_and_verdicts_are_read() {
        let want = [
            ("core a::quick", 0.004, true),
            ("core a::wrong", 1.25, false),
            ("core::bin b::holds<f64>", 0.25, true),
        ];
        let want = want.map(|(name, seconds, passed)| TestCase {
            name: name.to_string(),
            seconds,
            passed,
        });
        assert_eq!(test_cases(XML), want);
    }

    #[test]
    fn an_empty_report_has_no_tests() {
        assert!(test_cases("<testsuites tests=\"0\"></testsuites>").is_empty());
    }
}
