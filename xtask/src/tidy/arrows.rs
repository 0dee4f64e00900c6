//! The arrows between our crates, and the crates that keep a heavy dependency to themselves.

use super::finding::Finding;
use super::tree::{Member, Tree};

/// Each crate and the crates of ours that it may name, in its dev-dependencies too.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tilework-core", &[]),
    ("tilework-kernel", &[]),
    ("tilework-fuzzing", &[]),
    ("tilework-store", &["tilework-core", "tilework-fuzzing"]),
    (
        "tilework-runtime",
        &[
            "tilework-core",
            "tilework-fuzzing",
            "tilework-kernel",
            "tilework-store",
        ],
    ),
    (
        "tilework-linalg",
        &[
            "tilework-core",
            "tilework-kernel",
            "tilework-store",
            "tilework-runtime",
        ],
    ),
    (
        "tilework",
        &[
            "tilework-core",
            "tilework-fuzzing",
            "tilework-kernel",
            "tilework-store",
            "tilework-runtime",
            "tilework-linalg",
            "tilework-nats",
            "tilework-sim",
        ],
    ),
    (
        "tilework-nats",
        &["tilework-core", "tilework-fuzzing", "tilework-runtime"],
    ),
    ("tilework-sim", &["tilework-core", "tilework-store"]),
    ("xtask", &[]),
];

/// Dependencies and the only crates that may name them.
const KEPT: &[(&str, &[&str])] = &[
    ("async-nats", &["tilework-nats"]),
    ("tokio", &["tilework-nats", "tilework-dashboard"]),
    ("axum", &["tilework-dashboard"]),
    ("ureq", &["tilework"]),
];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let ours: Vec<&str> = tree.members.iter().map(|member| member.name.as_str()).collect();
    let mut findings = Vec::new();
    for member in &tree.members {
        let manifest = tree.file(&member.manifest).map_or("", |file| file.text.as_str());
        findings.extend(check_member(member, manifest, &ours));
    }
    if let Some(root) = tree.file("Cargo.toml") {
        findings.extend(check_root(&root.text, &ours));
    }
    findings
}

fn check_member(member: &Member, manifest: &str, ours: &[&str]) -> Vec<Finding> {
    let finding = |line, message| Finding::new(&member.manifest, line, message);
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == member.name) else {
        let message = format!(
            "crate `{}` has no row in the table of arrows: add it to xtask",
            member.name
        );
        return vec![finding(1, message)];
    };
    let mut findings = Vec::new();
    for dependency in &member.dependencies {
        let line = line_of(manifest, dependency);
        if ours.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
            findings.push(finding(
                line,
                format!("`{}` must not depend on `{dependency}`", member.name),
            ));
        }
        if let Some((_, keepers)) = KEPT.iter().find(|(name, _)| name == dependency)
            && !keepers.contains(&member.name.as_str())
        {
            let message = format!("only {} may depend on `{dependency}`", keepers.join(" and "));
            findings.push(finding(line, message));
        }
    }
    findings
}

/// The workspace's own list must not offer a kept dependency before the crate that keeps it exists.
fn check_root(manifest: &str, ours: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, keepers) in KEPT {
        let kept = keepers.iter().any(|keeper| ours.contains(keeper));
        if !kept && let Some(line) = declared_line(manifest, name) {
            let message = format!("`{name}` is declared, but no crate may use it yet");
            findings.push(Finding::new("Cargo.toml", line, message));
        }
    }
    findings
}

fn line_of(manifest: &str, dependency: &str) -> usize {
    declared_line(manifest, dependency).unwrap_or(1)
}

fn declared_line(manifest: &str, dependency: &str) -> Option<usize> {
    let names = |line: &str| {
        let key = line
            .split(['=', '.', ' '])
            .next()
            .unwrap_or_default()
            .trim_matches('"');
        let table = line.trim_end_matches(']').rsplit('.').next().unwrap_or_default();
        key == dependency || (line.starts_with('[') && table == dependency)
    };
    manifest
        .lines()
        .position(|line| names(line.trim()))
        .map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &[&str] = &["tilework-core", "tilework-kernel", "tilework-store", "tilework"];

    fn member(name: &str, dependencies: &[&str]) -> Member {
        Member {
            name: name.to_string(),
            manifest: format!("crates/{name}/Cargo.toml"),
            dependencies: dependencies.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn an_arrow_against_the_table_is_found_at_its_line() {
        let manifest = "[package]\n[dependencies]\nserde.workspace = true\ntilework-store.workspace = true\n";
        let findings = check_member(
            &member("tilework-core", &["serde", "tilework-store"]),
            manifest,
            OURS,
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 4);
        assert!(
            findings[0]
                .message
                .contains("must not depend on `tilework-store`")
        );
    }

    #[test]
    fn an_allowed_arrow_passes() {
        assert!(check_member(&member("tilework-store", &["tilework-core", "half"]), "", OURS).is_empty());
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(check_member(&member("tilework-extra", &[]), "", OURS).len(), 1);
    }

    #[test]
    fn a_kept_dependency_elsewhere_is_found() {
        for name in ["tokio", "axum", "async-nats"] {
            assert_eq!(
                check_member(&member("tilework", &[name]), "", OURS).len(),
                1,
                "{name}"
            );
        }
    }

    #[test]
    fn the_root_declares_a_kept_dependency_only_with_its_keeper() {
        let manifest = "[workspace.dependencies]\ntokio = \"1\"\n";
        assert_eq!(check_root(manifest, OURS)[0].line, 2);
        assert!(check_root(manifest, &["tilework-nats"]).is_empty());
        assert_eq!(check_root("[workspace.dependencies.axum]\n", OURS).len(), 1);
    }
}
