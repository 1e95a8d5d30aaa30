//! `bascule providers`: the catalogue as people and scripts see it, and what a name alone is worth in a
//! file.

use std::fs;
use std::process::{Command, Output};

use bascule::config::{self, catalogue};
use bascule::model::place::Jurisdiction;
use bascule::model::topology::Topology;
use serde_json::Value;

fn providers(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bascule"));
    command.arg("providers").args(arguments).output().expect("bascule runs")
}

fn said(arguments: &[&str]) -> String {
    let output = providers(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_table_has_a_line_for_everybody_and_marks_what_is_unverified() {
    let table = said(&[]);
    for known in catalogue::all() {
        let line = table.lines().find(|line| line.starts_with(&format!("{} ", known.sheet.id)));
        assert!(line.is_some_and(|line| line.contains(known.seat.as_str())), "{}", known.sheet.id);
    }
    assert!(table.contains("? is unverified") && table.contains("No legal advice"), "{table}");
}

#[test]
fn a_script_gets_every_fact_with_what_it_rests_on() {
    let all: Value = serde_json::from_str(&said(&["--json"])).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(catalogue::all().len()));
    let one: Value = serde_json::from_str(&said(&["cdn77", "--json"])).expect("JSON");
    assert_eq!(one["seat"]["is"], "GB");
    assert_eq!(one["seat"]["sure"], "verified");
    assert_eq!(one["reach"]["is"], "disputed");
}

#[test]
fn one_is_shown_whole_and_a_misspelt_one_gets_the_nearest() {
    let whole = said(&["cloudflare"]);
    for part in ["cf-error-type", "[verified, https://", "[unverified]", "outside the EU"] {
        assert!(whole.contains(part), "{part} is missing:\n{whole}");
    }
    let output = providers(&["bunnny"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the nearest name is `bunny`"));
}

/// The topology of a file with these providers, each with an upstream of one service.
fn topology(providers: &str, names: &[&str]) -> Topology {
    let upstreams = names
        .iter()
        .map(|name| format!("      - {{ provider: {name}, url: https://{name}.cdn.example }}\n"));
    let upstreams: String = upstreams.collect();
    let text = format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nproviders:\n{providers}services:\n  portal:\n    \
         routes: [{{ host: www.portal.example }}]\n    upstreams:\n{upstreams}"
    );
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("bascule.yaml");
    fs::write(&file, text).expect("write");
    config::load(&file, 1).expect("valid").topology.as_ref().clone()
}

#[test]
fn a_name_of_the_catalogue_is_enough_and_the_files_own_words_win() {
    let by_name = topology("  cdn77: {}\n  varnish-cdn: {}\n", &["cdn77", "varnish-cdn"]);
    let [cdn77, varnish] = by_name.providers.as_slice() else { panic!("two were written") };
    assert_eq!((cdn77.seat.as_str(), cdn77.jurisdiction), ("GB", Jurisdiction::NonEu));
    assert_eq!((varnish.seat.as_str(), varnish.jurisdiction), ("SE", Jurisdiction::Eu));
    let ids: Vec<_> = by_name.upstreams().map(|(id, _)| id).collect();
    assert!(by_name.share_fate(ids[0], ids[1]), "they share DataPacket");

    let otherwise = "  cdn77: { seat: CZ, substrate: [] }\n  varnish-cdn: {}\n";
    let otherwise = topology(otherwise, &["cdn77", "varnish-cdn"]);
    assert_eq!(otherwise.providers[0].seat.as_str(), "CZ");
    assert!(!otherwise.share_fate(ids[0], ids[1]), "as the file says");
}

#[test]
fn ones_own_server_is_nobodys_edge_whatever_it_is_called() {
    let own = topology("  fasterize: { seat: FR, kind: origin }\n", &["fasterize"]);
    assert!(own.providers[0].habits.own.is_empty());
    let edge = topology("  fasterize: {}\n", &["fasterize"]);
    assert_eq!(edge.providers[0].habits.own.len(), 1);
}
