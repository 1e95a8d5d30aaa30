//! Holds the sources to the map: floors, headers, sizes, words.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a top-level module may import of this crate, which outside crates it may name, and what
/// must never stand in its code. One row a module, lowest floor first.
struct Floor {
    module: &'static str,
    imports: &'static [&'static str],
    outside: &'static [&'static str],
    never: &'static [&'static str],
}

const ALL: &[&str] = &["*"];

#[rustfmt::skip]
const FLOORS: &[Floor] = &[
    Floor { module: "model", imports: &[],
            outside: &["aws_lc_rs", "http", "ipnet"],
            never: &["async fn", "Instant::now", "Atomic", "Mutex"] },
    Floor { module: "decide", imports: &["model"],
            outside: &[],
            never: &["async fn", "Instant::now", "Atomic", "Mutex", "RwLock", "HashMap", "HashSet"] },
    Floor { module: "request", imports: &["model"],
            outside: &["aws_lc_rs", "base64", "http", "memchr", "sfv"],
            never: &["async fn", "Instant::now", "Atomic", "Mutex", "RwLock", "static mut"] },
    Floor { module: "config", imports: &["model", "decide"],
            outside: &["serde", "serde_yaml", "schemars", "ipnet", "thiserror", "rustls", "http", "jiff", "strsim", "x509_parser"],
            never: &["TcpStream", "TcpListener", "ArcSwap", "prometheus", "async fn"] },
    Floor { module: "routing", imports: &["model"],
            outside: &["http"],
            never: &["async fn", "ArcSwap", "Atomic"] },
    Floor { module: "exchange", imports: &["model", "routing"],
            outside: &["http", "arc_swap", "tokio", "rustls", "ipnet", "thiserror"],
            never: &["spawn", "TcpStream"] },
    Floor { module: "telemetry", imports: &["model"],
            outside: &["prometheus", "prost", "tracing", "tracing_subscriber", "http", "jiff", "rustix", "schemars", "serde", "serde_json", "thiserror"],
            never: &["async fn"] },
    Floor { module: "clock", imports: &[],
            outside: &["tokio"],
            never: &["async fn"] },
    Floor { module: "net", imports: &["model", "exchange", "clock"],
            outside: &["tokio", "tokio_rustls", "rustls", "socket2", "rustls_native_certs", "webpki_roots", "thiserror", "proxy_header", "x509_parser", "listenfd", "rustix", "tracing"],
            never: &["hyper", "Health"] },
    Floor { module: "proxy", imports: &["model", "request", "routing", "exchange", "telemetry", "net", "clock"],
            outside: &["hyper", "hyper_util", "http", "http_body", "http_body_util", "h2", "bytes", "tokio", "tokio_rustls", "rustls", "thiserror", "tracing", "fastrand", "ipnet", "httparse", "memchr"],
            never: &[] },
    Floor { module: "control", imports: &["model", "decide", "request", "config", "routing", "exchange", "telemetry", "net", "clock"],
            outside: &["hyper", "hyper_util", "http", "http_body", "http_body_util", "bytes", "tokio", "rustls", "hickory_resolver", "notify", "serde", "serde_json", "thiserror", "tracing", "fastrand", "jiff"],
            never: &[] },
    Floor { module: "admin", imports: &["model", "routing", "exchange", "telemetry", "net", "clock"],
            outside: &["hyper", "hyper_util", "http", "http_body", "http_body_util", "bytes", "tokio", "schemars", "serde", "serde_json", "thiserror", "tracing", "jiff", "prometheus"],
            never: &[] },
    Floor { module: "app", imports: ALL, outside: ALL, never: &[] },
    Floor { module: "rehearse", imports: ALL, outside: ALL, never: &[] },
    Floor { module: "cli", imports: ALL, outside: ALL, never: &[] },
    Floor { module: "lib", imports: ALL, outside: &[], never: &[] },
    Floor { module: "main", imports: &["app", "cli"], outside: &["mimalloc"], never: &[] },
];

/// Synonyms that `docs/GLOSSARY.md` refuses, in bold there. A pair may be joined by a blank, a
/// hyphen or an underscore.
const REFUSED: &[&str] = &[
    "downstream",
    "vendor",
    "geo",
    "backend",
    "cluster",
    "vhost",
    "secondary",
    "beacon",
    "root cause",
    "heartbeat",
    "blacklist",
    "hold down",
    "cooldown",
    "probation",
    "warm up",
    "slow start",
    "self doubt",
];

/// Lines of a file before its tests.
const MOST_LINES: usize = 400;

struct Source {
    file: PathBuf,
    module: String,
    text: String,
}

impl Source {
    /// Everything before the unit tests.
    fn code(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }

    /// Whether the module above takes it in for its tests only.
    fn is_for_tests(&self) -> bool {
        let name = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let folder = root().join("src").join(self.file.parent().unwrap_or(Path::new("")));
        let declared = ["", "pub(super) ", "pub(crate) "]
            .map(|visible| format!("#[cfg(test)]\n{visible}mod {name};"));
        let above = [folder.join("mod.rs"), folder.with_extension("rs")];
        let texts = above.iter().filter_map(|file| fs::read_to_string(file).ok());
        texts.into_iter().any(|text| declared.iter().any(|line| text.contains(line)))
    }

    /// The code without comments and doc comments.
    fn statements(&self) -> String {
        let bare = |line: &str| {
            let end = line.find("//").unwrap_or(line.len());
            line[..end].to_owned() + "\n"
        };
        self.code().lines().map(bare).collect()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).expect("a folder of the project") {
            let file = entry.expect("an entry").path();
            if file.is_dir() {
                waiting.push(file);
            } else if file.extension().is_some_and(|e| e == ending) {
                found.push(file);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "nothing to check in {}", folder.display());
    found
}

fn sources() -> Vec<Source> {
    let folder = root().join("src");
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).expect("a source file");
        let relative = file.strip_prefix(&folder).expect("below src").to_owned();
        let first = relative.components().next().expect("a name").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        Source { file: relative, module, text }
    };
    files(&folder, "rs").into_iter().map(read).filter(|source| !source.is_for_tests()).collect()
}

/// First segments of the paths that begin with `root::`, those of a `use root::{…}` included.
fn segments_after(text: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(root) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &text[at + root.len()..];
        match rest.strip_prefix('{') {
            None => found.extend(word(rest)),
            Some(list) => found.extend(names_of_list(list)),
        }
    }
    found
}

/// The first segment of each element of a brace list, up to its closing brace.
fn names_of_list(list: &str) -> Vec<String> {
    let mut depth = 1;
    let mut end = 0;
    let mut outer = String::new();
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 1 => outer.push(c),
            _ => {}
        }
        end += 1;
        if depth == 0 || end > 4_000 {
            break;
        }
    }
    outer.split(',').filter_map(|name| word(name.trim())).collect()
}

fn word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The dependencies of this crate, as they are named in code.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let section = manifest.split("\n[dependencies]").nth(1).expect("dependencies");
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter(|line| !line.starts_with('#'));
    names.filter_map(|line| Some(line.split_once(" = ")?.0.replace('-', "_"))).collect()
}

#[test]
fn every_module_imports_only_from_the_floors_below_it() {
    let mut breaches = Vec::new();
    for source in sources() {
        let Some(floor) = FLOORS.iter().find(|floor| floor.module == source.module) else {
            breaches.push(format!("{}: no row in the table of floors", source.file.display()));
            continue;
        };
        let root = if source.module == "main" { "bascule::" } else { "crate::" };
        for import in segments_after(&source.statements(), root) {
            let is_module = FLOORS.iter().any(|floor| floor.module == import);
            let allowed = floor.imports == ALL
                || import == source.module
                || floor.imports.contains(&import.as_str());
            if is_module && !allowed {
                breaches.push(format!("{} imports {root}{import}", source.file.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_module_names_only_the_outside_crates_of_its_floor() {
    let dependencies = dependencies();
    assert!(dependencies.contains("tokio"), "the manifest was not read: {dependencies:?}");
    let mut breaches = Vec::new();
    for source in sources() {
        let Some(floor) = FLOORS.iter().find(|floor| floor.module == source.module) else {
            continue;
        };
        let statements = source.statements();
        for dependency in &dependencies {
            let named = !segments_after(&statements, &format!("{dependency}::")).is_empty();
            let own = source.module == *dependency;
            let allowed = floor.outside == ALL || floor.outside.contains(&dependency.as_str());
            if named && !own && !allowed {
                breaches.push(format!("{} names {dependency}", source.file.display()));
            }
        }
        for never in floor.never.iter().filter(|never| statements.contains(**never)) {
            breaches.push(format!("{} holds `{never}`", source.file.display()));
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.file.display().to_string())
        .collect();
    assert!(silent.is_empty(), "no `//!` header: {silent:?}");
}

#[test]
fn every_file_stands_on_the_map() {
    let map = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the map");
    let row = |module: &str| {
        let start = format!("| `{module}` | ");
        map.lines().rfind(|line| line.starts_with(&start)).unwrap_or_default().to_owned()
    };
    let mut absent = BTreeSet::new();
    for source in sources() {
        // What stands deeper belongs to the file whose name its folder has.
        let Some(second) = source.file.components().nth(1) else { continue };
        let name = second.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        let is_named = row(&source.module).contains(&format!("`{name}`"));
        if !is_named && !["mod", "tests"].contains(&name.as_str()) {
            absent.insert(format!("{}/{name}", source.module));
        }
    }
    assert!(absent.is_empty(), "not in docs/ARCHITECTURE.md: {absent:?}");
}

#[test]
fn no_file_outgrows_one_responsibility() {
    let limit = |source: &Source| match source.module.as_str() {
        "main" => 40,
        "lib" => 60,
        _ => MOST_LINES,
    };
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.code().lines().count() > limit(source))
        .map(|source| format!("{}: {}", source.file.display(), source.code().lines().count()))
        .collect();
    assert!(long.is_empty(), "too long before its tests: {long:?}");
}

#[test]
fn nothing_is_left_to_be_written() {
    let marks = ["todo!", "unimplemented!", "TODO", "FIXME", "dbg!"];
    let unfinished: Vec<String> = sources()
        .iter()
        .flat_map(|source| marks.iter().map(move |mark| (source, mark)))
        .filter(|(source, mark)| source.text.contains(**mark))
        .map(|(source, mark)| format!("{}: {mark}", source.file.display()))
        .collect();
    assert!(unfinished.is_empty(), "left unfinished: {unfinished:?}");
}

#[test]
fn no_refused_word_stands_in_the_sources() {
    let mut found = Vec::new();
    let tests = files(&root().join("tests/it"), "rs");
    for file in files(&root().join("src"), "rs").into_iter().chain(tests) {
        if file.ends_with("architecture.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            for refused in refused(line) {
                found.push(format!("{}:{}: {refused}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "refused by the glossary:\n{}", found.join("\n"));
}

/// The refused words of a line, however they are capitalised or joined.
fn refused(line: &str) -> Vec<&'static str> {
    let mut plain = String::from(" ");
    let mut after_small = false;
    for c in line.chars() {
        if c.is_uppercase() && after_small || c == '-' || c == '_' {
            plain.push(' ');
        }
        if c != '-' && c != '_' {
            plain.extend(c.to_lowercase());
        }
        after_small = c.is_lowercase();
    }
    plain.push(' ');
    let stands = |refused: &&&str| {
        plain.match_indices(**refused).any(|(at, word)| {
            let before = plain[..at].chars().next_back();
            let after = plain[at + word.len()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        })
    };
    REFUSED.iter().filter(stands).copied().collect()
}

#[test]
fn a_refused_word_is_found_however_it_is_written() {
    for line in ["// the backend", "let my_backend = 1;", "struct FakeBackend;", "a hold-down"] {
        assert_eq!(refused(line).len(), 1, "{line}");
    }
    for line in ["geometry, clustering", "Self::Doubt"] {
        assert!(refused(line).is_empty(), "{line}");
    }
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text = "use crate::{model::id::{A, B}, net};\nfn f() { crate::clock::now(); mycrate::x() }";
    let found: Vec<String> = segments_after(text, "crate::").into_iter().collect();
    assert_eq!(found, ["clock", "model", "net"]);
}
