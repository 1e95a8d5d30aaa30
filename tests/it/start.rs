//! Files and surroundings that cannot serve: each is one clear error, an exit code, never a panic.

use std::fs::{self, File};
use std::net::TcpListener;

use tempfile::TempDir;

use crate::harness::proxy::{folder, run_to_end};
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{FakeUpstream, Transport};

/// What a start on this text says, after checking that it said it properly.
async fn complaint(folder: &TempDir, text: &str) -> String {
    fs::write(folder.path().join("bascule.yaml"), text).expect("ours");
    complaint_of_file(folder).await
}

async fn complaint_of_file(folder: &TempDir) -> String {
    let mut said = Vec::new();
    for verb in [&["run"][..], &["check"]] {
        let ended = run_to_end(folder, verb).await;
        let code = ended.code.expect("it exits by itself");
        assert!(code == 1 || code == 2, "{verb:?} exits {code}:\n{}", ended.output);
        assert!(!ended.output.contains("panicked"), "{verb:?}:\n{}", ended.output);
        assert!(ended.output.contains("bascule.yaml"), "{verb:?} names it:\n{}", ended.output);
        said.push(ended.output);
    }
    said.join("\n")
}

async fn recipe() -> (FakeUpstream, Recipe) {
    let upstream = FakeUpstream::start("us", Transport::Plain).await;
    let recipe = Recipe::portal().upstream(&upstream, "US");
    (upstream, recipe)
}

#[tokio::test]
async fn every_mistake_is_named_where_it_stands() {
    let (_upstream, recipe) = recipe().await;
    let table = [
        ("an unknown key", "residencee: any", &["residencee", "residency"][..]),
        ("a duplicate key", "residency: any\n    residency: any", &["residency"]),
        ("a wrong type", "retry: { attempts: many }", &["attempts"]),
        ("a wrong unit", "timeouts: { head: 10 parsecs }", &["head"]),
        ("a wrong word", "residency: mars", &["mars", "eu-only"]),
    ];
    for (what, line, names) in table {
        let text = recipe.clone().service(line).yaml();
        let last = line.lines().last().expect("a line");
        let number = text.lines().enumerate().filter(|(_, l)| l.contains(last)).last();
        let number = number.expect("it is there").0 + 1;
        let said = complaint(&folder(), &text).await;
        for name in names {
            assert!(said.contains(name), "{what}: names {name}:\n{said}");
        }
        let place = format!("bascule.yaml:{number}:");
        assert!(said.contains(&place), "{what}: stands at {place}\n{said}");
    }
}

#[tokio::test]
async fn all_mistakes_are_told_at_once() {
    let (_upstream, recipe) = recipe().await;
    let text = recipe.service("residencee: any").service("timeouts: { head: soon }").yaml();
    let text = text.replace("provider: us", "provider: uss");
    let said = complaint(&folder(), &text).await;
    for mistake in ["residencee", "soon", "uss"] {
        assert!(said.contains(mistake), "{mistake} is missing:\n{said}");
    }
}

#[tokio::test]
async fn a_provider_that_does_not_exist_is_named_with_the_nearest_that_does() {
    let (_upstream, recipe) = recipe().await;
    let text = recipe.yaml().replace("provider: us", "provider: uz");
    let said = complaint(&folder(), &text).await;
    assert!(said.contains("uz") && said.contains("us"), "{said}");
}

#[tokio::test]
async fn an_empty_file_says_what_a_file_needs() {
    for text in ["", "\n\n", "# nothing but a comment\n", "---\n", "null\n"] {
        let said = complaint(&folder(), text).await;
        assert!(said.contains("listeners") || said.contains("empty"), "{text:?}:\n{said}");
    }
}

#[tokio::test]
async fn a_file_that_is_missing_or_no_file_is_named() {
    let said = complaint_of_file(&folder()).await;
    assert!(said.to_lowercase().contains("no such file"), "{said}");
    let folder = folder();
    fs::create_dir(folder.path().join("bascule.yaml")).expect("ours");
    complaint_of_file(&folder).await;
}

#[tokio::test]
async fn an_unreadable_certificate_is_named() {
    let (_upstream, recipe) = recipe().await;
    let folder = folder();
    let text = recipe.yaml();
    for (what, contents) in [("garbage", Some("not a certificate")), ("missing", None)] {
        let file = folder.path().join("portal.pem");
        match contents {
            Some(contents) => fs::write(&file, contents).expect("ours"),
            None => fs::remove_file(&file).expect("ours"),
        }
        let said = complaint(&folder, &text).await;
        assert!(said.contains("portal.pem"), "{what}:\n{said}");
    }
}

#[tokio::test]
async fn a_key_of_another_certificate_is_named() {
    let (_upstream, recipe) = recipe().await;
    let folder = folder();
    fs::copy(folder.path().join("api.key"), folder.path().join("portal.key")).expect("ours");
    let said = complaint(&folder, &recipe.yaml()).await;
    assert!(said.contains("portal.key") || said.contains("portal.pem"), "{said}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (_upstream, recipe) = recipe().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    let folder = folder();
    let text = recipe.yaml().replace("127.0.0.1:0", &address);
    fs::write(folder.path().join("bascule.yaml"), text).expect("ours");
    let ended = run_to_end(&folder, &["run"]).await;
    assert!(matches!(ended.code, Some(1 | 2)), "{:?}", ended.code);
    assert!(!ended.output.contains("panicked"), "{}", ended.output);
    assert!(ended.output.contains(&address), "names the address:\n{}", ended.output);
    assert!(ended.output.to_lowercase().contains("in use"), "{}", ended.output);
}

#[tokio::test]
async fn a_gigabyte_is_refused_unread() {
    let folder = folder();
    // Sparse: it takes no room on the disk, and a reader that reads it all takes a gigabyte.
    let file = File::create(folder.path().join("bascule.yaml")).expect("ours");
    file.set_len(1 << 30).expect("sparse");
    let said = complaint_of_file(&folder).await;
    assert!(said.contains("too large"), "{said}");
}

#[tokio::test]
async fn an_alias_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let below = format!("*a{}", level - 1);
        let aliases = vec![below; 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    complaint(&folder(), &text).await;
}

#[tokio::test]
async fn nesting_without_end_is_refused() {
    complaint(&folder(), &format!("listeners: {}", "[".repeat(100_000))).await;
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused() {
    let folder = folder();
    fs::write(folder.path().join("bascule.yaml"), [0xff, 0xfe, 0x00, 0x80]).expect("ours");
    complaint_of_file(&folder).await;
}
