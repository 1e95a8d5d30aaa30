//! The command line itself: what is mistyped is told the nearest, and shells and manuals are told all.

use std::fs;
use std::process::{Command, Output};

/// Verbs that a user types.
const VERBS: [&str; 13] = [
    "run",
    "check",
    "demo",
    "replay",
    "status",
    "explain",
    "journal",
    "drain",
    "force-out",
    "force-in",
    "auto",
    "schema",
    "completions",
];

fn bascule(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bascule"));
    command.args(arguments).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_is_mistyped_is_told_the_nearest() {
    for (typed, meant) in [
        (&["stauts"][..], "status"),
        (&["jornal"], "journal"),
        (&["forceout", "bunny"], "force-out"),
        (&["drian", "bunny"], "drain"),
        (&["completion", "bash"], "completions"),
        (&["status", "--wacth"], "--watch"),
        (&["drain", "bunny", "--reson", "x"], "--reason"),
        (&["completions", "bahs"], "bash"),
    ] {
        let output = bascule(typed);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{typed:?}: {said}");
        assert!(said.contains(&format!("'{meant}'")), "{typed:?}: {said}");
    }
}

#[test]
fn each_shell_is_told_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = bascule(&["completions", shell]);
        let script = text(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        for verb in VERBS {
            assert!(script.contains(verb), "{shell} is not told of {verb}");
        }
    }
}

#[test]
fn the_manual_has_a_page_for_every_verb() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let into = folder.path().join("man1");
    let output = bascule(&["man", "--into", into.to_str().expect("text")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let whole = fs::read_to_string(into.join("bascule.1")).expect("the first page");
    assert_eq!(whole, text(&bascule(&["man"]).stdout));
    for verb in VERBS {
        let escaped = verb.replace('-', "\\-");
        assert!(whole.contains(&format!("bascule\\-{escaped}(1)")), "{verb} is not named");
        let page = fs::read_to_string(into.join(format!("bascule-{verb}.1")));
        assert!(page.is_ok_and(|page| page.starts_with(".ie")), "{verb} has no page");
    }
}
