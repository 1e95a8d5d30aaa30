//! What `bascule check` says: word for word for the files in `tests/golden/check`, by its sense for
//! files that cannot stand in a repository, and never a panic for any bytes at all.
//!
//! `BASCULE_BLESS=1` writes the golden answers anew; read the difference before you commit it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bascule::config::{self, LoadError, yaml};
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

/// What the golden files hold where a secret would be: never to be seen in an answer.
const SECRET: &str = "s3cret";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs the verb where its files are, so that they are named shortly.
fn check(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bascule"))
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .env_remove("BASCULE_TEST_UNSET")
        .output()
        .expect("bascule runs")
}

fn told(output: &Output) -> String {
    let (errors, answer) = (&output.stderr, &output.stdout);
    let code = output.status.code().expect("an exit code, not a signal");
    format!("{}{}exit {code}\n", String::from_utf8_lossy(errors), String::from_utf8_lossy(answer))
}

#[test]
fn every_golden_file_gets_its_golden_answer() {
    let folder = root().join("tests/golden/check");
    let bless = std::env::var_os("BASCULE_BLESS").is_some();
    let mut checked = 0;
    let mut wrong = Vec::new();
    let mut entries: Vec<PathBuf> =
        fs::read_dir(&folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    entries.sort();
    for file in entries.iter().filter(|file| file.extension() == Some(OsStr::new("yaml"))) {
        let name = file.file_name().and_then(OsStr::to_str).expect("a name");
        let answer = told(&check(&folder, &["-c", name]));
        let masked = answer.contains(SECRET);
        assert!(!masked, "{name}: a secret is shown:\n{answer}");
        let golden = file.with_extension("txt");
        if bless {
            fs::write(&golden, &answer).expect("write");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if answer != expected {
            wrong.push(format!("{name}: expected\n{expected}\nfound\n{answer}"));
        }
        checked += 1;
    }
    assert!(checked > 15, "the golden files were not found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The annotated example beside everything that it names.
fn example() -> TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["bascule.yaml", "maintenance.html", "services.d/forms.yaml"] {
        fs::create_dir_all(at(name).parent().expect("parent")).expect("folder");
        fs::copy(root().join("config").join(name), at(name)).expect("copy");
    }
    fs::create_dir(at("tls")).expect("folder");
    certificate(&at("tls"), "portal", "www.portal.example");
    certificate(&at("tls"), "client", "bascule.portal.example");
    fs::write(at("edge.key"), "edge-5d1c\n").expect("write");
    fs::copy(at("tls/portal.pem"), at("tls/ca.pem")).expect("copy");
    fs::write(at("admin.token"), "0123456789abcdef0123456789abcdef\n").expect("write");
    fs::write(at("marker.txt"), "portal-7f3a\n").expect("write");
    fs::write(at("marker.keys"), "fedcba9876543210fedcba9876543210\n").expect("write");
    folder
}

fn certificate(folder: &Path, stem: &str, name: &str) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("certificate");
    fs::write(folder.join(format!("{stem}.pem")), made.cert.pem()).expect("write");
    fs::write(folder.join(format!("{stem}.key")), made.signing_key.serialize_pem()).expect("write");
}

#[test]
fn the_annotated_example_is_valid_and_free_of_lints() {
    let folder = example();
    let config = config::load(&folder.path().join("bascule.yaml"), 2).expect("valid");
    let lints: Vec<String> = config.lints.iter().map(|lint| lint.one_line()).collect();
    assert_eq!(lints, Vec::<String>::new());
    assert_eq!(config.topology.pools.len(), 2, "the included service counts");
    assert_eq!(config.workers, 2);
    let files: BTreeSet<&OsStr> = config.files.iter().filter_map(|file| file.file_name()).collect();
    for name in [
        "bascule.yaml",
        "forms.yaml",
        "services.d",
        "portal.pem",
        "portal.key",
        "ca.pem",
        "admin.token",
        "marker.txt",
        "marker.keys",
        "edge.key",
        "client.key",
        "maintenance.html",
    ] {
        assert!(files.contains(OsStr::new(name)), "the watcher is not told of {name}");
    }
}

#[test]
fn the_minimal_file_is_valid_and_what_the_readme_promises() {
    let config = config::load(&root().join("config/minimal.yaml"), 3).expect("valid");
    assert_eq!(config.workers, 3, "a worker per core");
    let topology = &config.topology;
    assert_eq!(topology.upstreams.len(), 2);
    assert_eq!(topology.pools[0].rules.probe.host.as_deref(), Some("www.portal.example"));
    let output = check(&root().join("config"), &["-c", "minimal.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    let denied = check(&root().join("config"), &["-c", "minimal.yaml", "--deny-warnings"]);
    assert_eq!(denied.status.code(), Some(1), "its warnings count then");
}

#[test]
fn an_upstream_outside_the_eu_does_not_exist_for_an_eu_only_service() {
    let text = fs::read_to_string(root().join("config/minimal.yaml")).expect("file");
    let text = text.replace("    upstreams:", "    residency: eu-only\n    upstreams:");
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("bascule.yaml");
    fs::write(&file, text).expect("write");
    let config = config::load(&file, 1).expect("valid");
    let topology = &config.topology;
    let names: Vec<String> = topology.upstreams.iter().map(|up| up.key.to_string()).collect();
    assert_eq!(names, ["portal/bunny"]);
    assert_eq!(topology.pools[0].barred[0].provider.as_str(), "cloudflare");
}

/// As the annotated example has it, without its comment signs.
fn traces() -> String {
    let text = fs::read_to_string(root().join("config/bascule.yaml")).expect("example");
    let from = text.find("# traces:").expect("they are in the example");
    let block: Vec<&str> = text[from..].lines().take_while(|line| !line.is_empty()).collect();
    block.iter().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect()
}

#[cfg(not(feature = "otlp"))]
#[test]
fn traces_are_an_error_of_a_build_that_sends_none() {
    let minimal = fs::read_to_string(root().join("config/minimal.yaml")).expect("file");
    let text = format!("{}{minimal}", traces());
    refuses(
        text.as_bytes(),
        1,
        &["bascule.yaml:2:", "`traces` cannot be obeyed", "--features otlp"],
    );
    let schema = serde_json::to_string(&config::schema()).expect("schema");
    assert!(!schema.contains("4318"), "editors do not offer what is refused");
}

#[cfg(feature = "otlp")]
#[test]
fn the_traces_of_the_annotated_example_are_what_they_say() {
    let minimal = fs::read_to_string(root().join("config/minimal.yaml")).expect("file");
    let text =
        traces().replace("http:", "https:").replace("ca_file: tls/ca.pem", "ca_file: ca.pem");
    let folder = crate::harness::proxy::folder();
    fs::write(folder.path().join("collector.token"), "secret").expect("write");
    let config = loads(folder.path(), format!("{text}{minimal}").as_bytes()).expect("valid");
    let traces = config.traces.expect("they are there");
    assert_eq!((&*traces.collector.target, traces.sample.get()), ("/v1/traces", 10));
    assert!(traces.collector.endpoint.ca.is_some());
    assert!(!format!("{traces:?}").contains("secret"));
    for (wrong, says) in [
        ("traces: {}", "`endpoint` is missing"),
        ("traces: { endpoint: \"127.0.0.1:4318\" }", "`http://`"),
        ("traces: { endpoint: \"http://a\", ca_file: ca.pem }", "`ca_file` stands beside"),
        ("traces: { endpoint: \"http://a\", timeout: 1h }", "100ms to 1m"),
        ("traces: { endpoint: \"http://a\", sampled: 1% }", "`sample`"),
    ] {
        let error = loads(folder.path(), format!("{wrong}\n{minimal}").as_bytes());
        let error = error.expect_err(wrong).to_string();
        assert!(error.contains(says), "{wrong}: {error}");
    }
}

#[test]
fn every_key_of_the_schema_stands_in_the_annotated_example() {
    let schema = serde_json::to_value(config::schema()).expect("schema");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let text = fs::read_to_string(root().join("config/bascule.yaml")).expect("example");
    let example: Value = yaml::parse(&text).expect("YAML");
    let mut seen = BTreeMap::new();
    walk(&schema, &schema, &example, &mut seen);
    // What stands under `defaults` is a part of what stands in a service.
    seen.remove("Rules");
    assert!(seen.len() > 15, "the schema was not walked: {seen:?}");
    for (name, missing) in seen {
        assert!(missing.is_empty(), "{name}: not in the example: {missing:?}");
    }
}

/// For every kind of mapping in the schema: which of its keys no mapping of that kind in the example
/// has.
fn walk(
    root: &Value,
    schema: &Value,
    value: &Value,
    seen: &mut BTreeMap<String, BTreeSet<String>>,
) {
    if let Some(name) = schema["$ref"].as_str() {
        let kind = name.rsplit('/').next().expect("a name");
        let definition = &root["$defs"][kind];
        if let (Some(keys), Some(table)) = (definition["properties"].as_object(), value.as_object())
        {
            let missing = keys.keys().filter(|key| !table.contains_key(*key)).cloned().collect();
            let before = seen.get(kind).cloned();
            let still = before.map_or_else(|| BTreeSet::clone(&missing), |b| &b & &missing);
            seen.insert(kind.to_owned(), still);
        }
        return walk(root, definition, value, seen);
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        walk(root, choice, value, seen);
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(key) {
            walk(root, inner, value, seen);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        walk(root, &schema["items"], item, seen);
    }
    if schema["additionalProperties"].is_object() {
        for value in value.as_object().into_iter().flat_map(|table| table.values()) {
            walk(root, &schema["additionalProperties"], value, seen);
        }
    }
}

/// Checks a file of these bytes; the answer has to hold each of the words, and the exit code.
fn refuses(bytes: &[u8], code: i32, says: &[&str]) {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("bascule.yaml"), bytes).expect("write");
    refuses_in(folder.path(), "bascule.yaml", code, says);
}

fn refuses_in(folder: &Path, name: &str, code: i32, says: &[&str]) {
    let output = check(folder, &["-c", name]);
    let answer = told(&output);
    let short: String = answer.chars().take(2_000).collect();
    assert_eq!(output.status.code(), Some(code), "{short}");
    assert!(answer.len() < 100_000, "an answer is read by people: {} bytes", answer.len());
    for word in says {
        assert!(answer.contains(word), "not said: {word}\n{short}");
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_by_what_they_are() {
    refuses(b"a: \0b\n", 1, &["bascule.yaml:1:4: error:"]);
    refuses(b"listeners: \xff\xfe\n", 2, &["not UTF-8", "byte 11"]);
    refuses(b"\xff\xfel\0i\0s\0t\0", 2, &["not UTF-8", "byte 0"]);
    refuses(b"\xef\xbb\xbfworkers: 1\n", 1, &["`listeners` is missing"]);
    refuses(b"\x7fELF\x02\x01\x01", 1, &["error:"]);
}

#[test]
fn text_that_would_take_all_memory_is_refused_within_bounds() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    refuses(bomb.as_bytes(), 1, &["this is too much"]);
    refuses("[".repeat(10_000).as_bytes(), 1, &["error:"]);
    refuses("- ".repeat(10_000).as_bytes(), 1, &["this is too much"]);
    let many: String = (0..40_000).map(|n| format!("k{n}: 1\n")).collect();
    refuses(many.as_bytes(), 1, &["unknown key `k0`", "more are not listed"]);
    refuses("workers: 1\n".repeat(40_000).as_bytes(), 1, &["here a second time"]);
    let routes: String =
        (0..60_000).map(|n| format!("      - {{ host: h{n}.example }}\n")).collect();
    let minimal = fs::read_to_string(root().join("config/minimal.yaml")).expect("file");
    let many = minimal
        .replace("    routes: [{ host: www.portal.example }]\n", &format!("    routes:\n{routes}"));
    refuses(many.as_bytes(), 1, &["there are 60000 routes"]);
}

#[test]
fn a_gigabyte_is_refused_by_its_size_and_never_read() {
    let folder = tempfile::tempdir().expect("folder");
    let file = fs::File::create(folder.path().join("bascule.yaml")).expect("file");
    file.set_len(1 << 30).expect("a sparse file");
    refuses_in(folder.path(), "bascule.yaml", 2, &["too large: at most 4 MiB"]);
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    refuses_in(folder.path(), ".", 2, &["it is a folder"]);
    refuses_in(folder.path(), "/dev/zero", 2, &["it is a device"]);
    refuses_in(folder.path(), "missing.yaml", 2, &["missing.yaml: error:", "No such file"]);
    let made = Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo");
    assert!(made.success());
    refuses_in(folder.path(), "pipe", 2, &["it is a pipe"]);
    symlink(at("b"), at("a")).expect("link");
    symlink(at("a"), at("b")).expect("link");
    refuses_in(folder.path(), "a", 2, &["symbolic links"]);
}

#[test]
fn certificates_and_keys_are_read_and_have_to_belong_together() {
    let folder = example();
    let at = |name: &str| folder.path().join(name);
    certificate(folder.path(), "foreign", "www.portal.example");
    fs::copy(at("foreign.key"), at("tls/portal.key")).expect("copy");
    refuses_in(
        folder.path(),
        "bascule.yaml",
        1,
        &["bascule.yaml:12:47:", "another certificate's key"],
    );
    fs::write(at("tls/portal.key"), "").expect("write");
    refuses_in(folder.path(), "bascule.yaml", 1, &["holds no private key"]);
    fs::remove_file(at("tls/portal.pem")).expect("remove");
    refuses_in(
        folder.path(),
        "bascule.yaml",
        1,
        &["`certificate: tls/portal.pem` cannot be used", "No such file"],
    );
    fs::write(
        at("tls/portal.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .expect("write");
    refuses_in(folder.path(), "bascule.yaml", 1, &["its first certificate is damaged"]);
    fs::write(at("admin.token"), "\n").expect("write");
    refuses_in(folder.path(), "bascule.yaml", 1, &["`token_file: admin.token` holds no token"]);
}

#[test]
fn a_certificate_knows_the_names_it_holds() {
    let folder = example();
    let config = config::load(&folder.path().join("bascule.yaml"), 1).expect("valid");
    let tls = config.listeners[0].tls.as_ref().expect("TLS");
    assert_eq!(tls.certificates[0].names, ["www.portal.example".into()]);
    let after = tls.certificates[0].not_after + std::time::Duration::from_secs(1);
    assert!(config::expiring(&config, after)[0].contains("has expired"));
    let days = |count: u64| std::time::Duration::from_secs(count * 24 * 60 * 60);
    let soon = tls.certificates[0].not_after - days(7);
    assert!(config::expiring(&config, soon)[0].contains("ends in 7 days"));
    let early = tls.certificates[0].not_after - days(15);
    assert_eq!(config::expiring(&config, early), Vec::<String>::new());
    let long_before = tls.certificates[0].not_before - days(1);
    assert!(config::expiring(&config, long_before)[0].contains("is not valid yet"));
}

#[test]
fn a_certificate_that_has_ended_is_warned_of_and_not_refused() {
    let folder = example();
    let mut params =
        rcgen::CertificateParams::new(["www.portal.example".to_owned()]).expect("a name");
    params.not_after = rcgen::date_time_ymd(2024, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let ended = params.self_signed(&key).expect("a certificate").pem();
    for name in ["portal", "client"] {
        fs::write(folder.path().join(format!("tls/{name}.pem")), &ended).expect("write");
        fs::write(folder.path().join(format!("tls/{name}.key")), key.serialize_pem())
            .expect("write");
    }
    let answer = told(&check(folder.path(), &["-c", "bascule.yaml"]));
    let line =
        "warning: the certificate of `www.portal.example` has expired: clients will refuse it";
    assert!(answer.contains(line), "{answer}");
    assert!(answer.contains("exit 0"), "{answer}");
    let denied = told(&check(folder.path(), &["-c", "bascule.yaml", "--deny-warnings"]));
    assert!(denied.contains("exit 1"), "{denied}");
}

#[test]
fn secrets_are_shown_by_nothing_that_prints_a_configuration() {
    let folder = example();
    let config = config::load(&folder.path().join("bascule.yaml"), 1).expect("valid");
    let printed = format!("{config:?}");
    assert!(printed.contains("portal"), "it was printed");
    for secret in ["0123456789abcdef", "portal-7f3a", "edge-5d1c"] {
        assert!(!printed.contains(secret), "{secret} is shown");
    }
}

fn loads(folder: &Path, bytes: &[u8]) -> Result<config::Config, LoadError> {
    let file = folder.join("bascule.yaml");
    fs::write(&file, bytes).expect("write");
    config::load(&file, 1)
}

/// Pieces that YAML and the mirror find interesting.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\n".to_owned()),
        Just("  ".to_owned()),
        Just(": ".to_owned()),
        Just("- ".to_owned()),
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("&a ".to_owned()),
        Just("*a".to_owned()),
        Just("<<: ".to_owned()),
        Just("!!binary ".to_owned()),
        Just("|\n".to_owned()),
        Just("\"".to_owned()),
        Just("~".to_owned()),
        Just("${env:HOME}".to_owned()),
        Just("${file:.}".to_owned()),
        Just("-1".to_owned()),
        Just("1e999".to_owned()),
        Just("---\n".to_owned()),
        Just("value: \"".to_owned()),
        Just("://u@".to_owned()),
        "[ -~\u{e9}\u{2028}\u{1f600}]{1,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let folder = tempfile::tempdir().expect("folder");
        let refused = loads(folder.path(), &bytes).expect_err("random bytes are no configuration");
        prop_assert!(!refused.complaints().is_empty());
        prop_assert!(!refused.to_string().is_empty());
    }

    #[test]
    fn a_mangled_example_ends_in_an_answer(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..12, piece()), 1..8),
    ) {
        let folder = example();
        let example = fs::read_to_string(folder.path().join("bascule.yaml")).expect("example");
        let mut text: Vec<char> = example.chars().collect();
        for (at, length, piece) in cuts {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        match loads(folder.path(), text.as_bytes()) {
            Ok(config) => prop_assert!(!config.topology.pools.is_empty()),
            Err(refused) => prop_assert!(!refused.complaints().is_empty()),
        }
    }
}
