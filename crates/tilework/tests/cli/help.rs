//! What a newcomer sees.

use crate::vocabulary::Folder;

#[test]
fn the_bare_program_shows_the_three_commands_that_a_newcomer_needs() {
    let answer = Folder::new().done("");
    for command in [
        "tilework demo",
        "tilework multiply A.npy B.npy -o C.npy",
        "tilework help",
    ] {
        assert!(answer.stdout.contains(command), "{answer:?}");
    }
    assert!(answer.stdout.lines().count() <= 8, "{answer:?}");
}

#[test]
fn every_command_that_takes_files_has_examples() {
    let folder = Folder::new();
    for command in [
        "multiply",
        "gram",
        "plan multiply",
        "plan gram",
        "simulate",
        "cluster",
        "cluster init",
        "cluster up",
        "cluster down",
        "cluster status",
        "resume",
        "status",
        "explain",
        "verify",
        "repair",
        "compare",
        "clean",
        "inspect",
        "generate",
    ] {
        let answer = folder.done(&format!("{command} --help"));
        let (_, examples) = answer.stdout.split_once("Examples:\n").unwrap();
        assert!(examples.contains(&format!("  tilework {command} ")), "{answer:?}");
    }
}

#[test]
fn scripts_and_pages_are_made_for_shells_and_man() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            folder
                .done(&format!("completions {shell}"))
                .stdout
                .contains("transpose-a"),
            "{shell}"
        );
    }
    assert!(folder.done("man").stdout.contains(".TH tilework 1"));
    assert!(folder.done("man generate").stdout.contains("integers"));
}
