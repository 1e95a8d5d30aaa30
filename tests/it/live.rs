//! `check --live` against a provider set up as `docs/PROVIDERS.md` says, and with each mistake that can be
//! made there.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::PORTAL;
use crate::harness::provider::{ORIGIN_NAME, Settings, StandIn};
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{FakeUpstream, Transport};

/// What the verb said, and how it ended.
struct Told {
    errors: String,
    answer: String,
    code: i32,
}

async fn check(folder: PathBuf, arguments: &'static [&'static str]) -> Told {
    let run = move || {
        Command::new(env!("CARGO_BIN_EXE_bascule"))
            .args(["check", "--live", "-c", "bascule.yaml"])
            .args(arguments)
            .current_dir(folder)
            .output()
    };
    let output = tokio::task::spawn_blocking(run).await.expect("no panic").expect("bascule runs");
    Told {
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        answer: String::from_utf8_lossy(&output.stdout).into_owned(),
        code: output.status.code().expect("an exit code, not a signal"),
    }
}

/// One service through bunny.net, which is in the catalogue, with the origin's own probe.
fn file(edge: SocketAddr, origin: SocketAddr) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\n\
         providers: {{ bunny: {{}} }}\n\
         services:\n\
         \x20 portal:\n\
         \x20   routes: [{{ host: {PORTAL} }}]\n\
         \x20   origin_marker: {{ header: X-Origin-Id, value: portal }}\n\
         \x20   probe: {{ path: /front-page, origin: \"http://{origin}/front-page\" }}\n\
         \x20   upstreams:\n\
         \x20     - {{ provider: bunny, url: \"https://{edge}\", ca_file: ca.pem }}\n"
    )
}

struct Scene {
    folder: TempDir,
    _edge: StandIn,
    _origin: StandIn,
}

impl Scene {
    async fn set(marker: Option<&'static str>, change: impl FnOnce(&mut Settings)) -> Self {
        let origin = StandIn::origin(marker).await;
        let mut settings = Settings::right(origin.address);
        change(&mut settings);
        let edge = StandIn::provider(settings).await;
        let folder = folder();
        write(folder.path(), &file(edge.address, origin.address));
        Self { folder, _edge: edge, _origin: origin }
    }

    async fn check(&self) -> Told {
        check(self.folder.path().to_owned(), &[]).await
    }
}

fn write(folder: &Path, yaml: &str) {
    fs::write(folder.join("bascule.yaml"), yaml).expect("the folder is ours");
}

/// Exactly one mistake is found, and it is told in these words, at the upstream's line.
async fn finds(change: impl FnOnce(&mut Settings), words: &str) {
    let told = Scene::set(Some("portal"), change).await.check().await;
    let Told { errors, answer, code } = &told;
    assert!(errors.contains(words), "not said: {words}\n{errors}{answer}");
    assert!(errors.contains("bascule.yaml:9:21: error: `portal/bunny`: "), "where?\n{errors}");
    assert!(answer.contains("live: 1 upstream asked, 1 mistake, 0 warnings"), "{errors}{answer}");
    assert_eq!(*code, 1);
}

#[tokio::test]
async fn a_provider_set_up_as_the_page_says_has_nothing_found() {
    let told = Scene::set(Some("portal"), |_| {}).await.check().await;
    let Told { errors, answer, code } = &told;
    assert!(answer.contains("live: 1 upstream asked, 0 mistakes, 0 warnings"), "{errors}{answer}");
    assert!(!errors.contains("portal/bunny"), "{errors}");
    assert_eq!(*code, 0);
}

#[tokio::test]
async fn a_certificate_for_other_names_is_found() {
    let words = "its certificate for `www.portal.example` is for other names";
    finds(|settings| settings.certificate_for = "zone.b-cdn.example", words).await;
}

#[tokio::test]
async fn a_stripped_marker_is_found() {
    let words = "its page at `www.portal.example` lacks the origin marker `x-origin-id`";
    finds(|settings| settings.keeps_marker = false, words).await;
}

#[tokio::test]
async fn errors_that_are_kept_are_found() {
    let words = "it keeps errors: the second 404 for a made-up path came from a cache (Age: 1)";
    finds(|settings| settings.caches_errors = true, words).await;
}

#[tokio::test]
async fn error_pages_in_place_of_the_origins_are_found() {
    let words = "its 404 for a made-up path lacks the origin marker, which its pages carry";
    finds(|settings| settings.replaces_errors = true, words).await;
}

#[tokio::test]
async fn a_provider_that_passes_another_host_on_is_found() {
    let words = "it sends clients of `www.portal.example` to `published.example`";
    finds(|settings| settings.passes_on = Some(ORIGIN_NAME), words).await;
}

#[tokio::test]
async fn a_provider_that_does_not_know_the_public_name_is_found() {
    let words = "it answers 404 to `/front-page` at `www.portal.example`";
    finds(|settings| settings.knows = "zone.b-cdn.example", words).await;
}

#[tokio::test]
async fn an_origin_that_signs_for_another_service_is_found_at_the_provider() {
    let told = Scene::set(Some("forms"), |_| {}).await.check().await;
    let words = "carries `x-origin-id`, and not as the origin of this service signs";
    assert!(told.errors.contains(words), "{}", told.errors);
    assert!(!told.errors.contains("value: portal"), "a marker may be a secret: {}", told.errors);
    assert_eq!(told.code, 1);
}

#[tokio::test]
async fn an_origin_that_signs_nothing_is_found_itself() {
    let told = Scene::set(None, |_| {}).await.check().await;
    let words = "`portal`: the origin itself answers without the marker";
    assert!(told.errors.contains(words), "{}", told.errors);
    assert_eq!(told.code, 1);
}

#[tokio::test]
async fn a_probe_that_a_cache_answers_is_warned_of() {
    let scene = Scene::set(Some("portal"), |settings| settings.caches_pages = true).await;
    let first = scene.check().await;
    assert_eq!(first.code, 0, "{}", first.errors);
    let told = check(scene.folder.path().to_owned(), &["--deny-warnings"]).await;
    assert!(told.errors.contains("comes from a cache (Age: 1)"), "{}", told.errors);
    assert!(told.errors.contains("warning: `portal/bunny`: "), "{}", told.errors);
    assert_eq!(told.code, 1, "its warnings count then");
}

#[tokio::test]
async fn a_provider_whose_origin_is_the_running_proxy_is_found_though_a_fallback_serves() {
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let edge = StandIn::provider(Settings::right(nowhere)).await;
    let through =
        format!("{{ provider: bunny, url: \"https://{}\", ca_file: ca.pem }}", edge.address);
    let yaml = Recipe::portal().upstream(&eu, "SI").yaml();
    let yaml = yaml.replace("providers:\n", "providers:\n  bunny: {}\n");
    let yaml = yaml.replace("    upstreams:\n", &format!("    upstreams:\n      - {through}\n"));
    let proxy = RunningProxy::start_with(folder(), &yaml).await;
    edge.set(|settings| settings.origin = proxy.plain);
    let told = check(proxy.file(""), &[]).await;
    let words = "`portal/bunny`: its way leads back to a bascule: this one, or another";
    assert!(told.errors.contains(words), "{}{}", told.errors, told.answer);
    assert!(!told.errors.contains("`portal/eu`"), "the other is well: {}", told.errors);
    assert!(told.answer.contains("2 upstreams asked, 1 mistake"), "{}{}", told.errors, told.answer);
    assert_eq!(told.code, 1);
}

#[tokio::test]
async fn whoever_takes_no_connection_is_found() {
    let scene = Scene::set(Some("portal"), |_| {}).await;
    let upstream = FakeUpstream::start("eu", Transport::Plain).await;
    upstream.close().await;
    let closed: SocketAddr = upstream.url()["http://".len()..].parse().expect("an address");
    write(scene.folder.path(), &file(closed, scene._origin.address));
    let told = scene.check().await;
    assert!(told.errors.contains("it takes no connection (Connection refused"), "{}", told.errors);
    assert_eq!(told.code, 1);
}
