//! Reloads of real files. What is waited for is waited for with a deadline; that something does *not*
//! happen is shown by one look at the files, or by what comes next.

use std::fs;
use std::os::unix::fs::symlink;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};

use super::*;
use crate::exchange::reload::{self as wishes, ReloadSender, Unloadable};

/// Far beyond what a reload takes.
const DEADLINE: Duration = Duration::from_secs(20);

fn yaml(service: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\n\
         providers: {{ bunny: {{ seat: SI }} }}\n\
         services:\n  {service}:\n    routes: [{{ host: www.portal.example }}]\n    \
         upstreams: [{{ provider: bunny, url: \"http://127.0.0.1:1\" }}]\n"
    )
}

#[derive(Debug, thiserror::Error)]
#[error("the address is in use")]
struct InUse;

/// Tells which services it was given; refuses the service `refused`.
struct Told(mpsc::Sender<String>);

impl Applier for Told {
    type Error = InUse;

    async fn apply(&mut self, config: Config) -> Result<(), InUse> {
        let service = config.topology.pools[0].service.to_string();
        let answer = if service == "refused" { Err(InUse) } else { Ok(()) };
        self.0.send(service).await.expect("the test listens");
        answer
    }
}

struct Running {
    told: mpsc::Receiver<String>,
    metrics: Metrics,
    asker: ReloadSender,
    _shutdown: watch::Sender<bool>,
    _task: JoinHandle<()>,
}

impl Running {
    async fn next(&mut self) -> String {
        let told = tokio::time::timeout(DEADLINE, self.told.recv()).await;
        told.expect("a reload in time").expect("it runs")
    }

    fn gauge(&self, name: &str) -> f64 {
        gauge(&self.metrics, name)
    }

    async fn until(&self, name: &str, value: f64) {
        let reached = async {
            while self.gauge(name) != value {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let told = tokio::time::timeout(DEADLINE, reached).await;
        told.unwrap_or_else(|_| panic!("{name} is {} and not {value}", self.gauge(name)));
    }
}

fn gauge(metrics: &Metrics, name: &str) -> f64 {
    let families = metrics.gather();
    let family = families.iter().find(|family| family.name() == name).expect("a family");
    family.get_metric()[0].get_gauge().get_value()
}

fn reload(file: &Path) -> (Reload<Told>, mpsc::Receiver<String>, Metrics, ReloadSender) {
    let (sender, told) = mpsc::channel(16);
    let (asker, wishes) = wishes::channel();
    let metrics = Metrics::new();
    let reload = Reload {
        file: file.to_path_buf(),
        cores: 1,
        metrics: metrics.clone(),
        applier: Told(sender),
        wishes,
    };
    (reload, told, metrics, asker)
}

fn run(file: &Path) -> Running {
    let (reload, told, metrics, asker) = reload(file);
    let first = config::load(file, 1).expect("a valid first file");
    tell_taken(&first.listeners, &metrics);
    let (shutdown, shut) = watch::channel(false);
    let task = spawn_local(reload.run(Sources::of(&first), shut));
    Running { told, metrics, asker, _shutdown: shutdown, _task: task }
}

fn rename_into(file: &Path, text: &str) {
    let temporary = file.with_extension("new");
    fs::write(&temporary, text).expect("write");
    fs::rename(&temporary, file).expect("rename");
}

#[tokio::test(flavor = "local")]
async fn every_atomic_rename_is_seen() {
    let root = tempfile::tempdir().expect("scratch");
    let file = root.path().join("bascule.yaml");
    fs::write(&file, yaml("zero")).expect("write");
    let mut running = run(&file);
    // The first one would also be seen by a watch on the file itself; the second would not.
    for service in ["one", "two", "three"] {
        rename_into(&file, &yaml(service));
        assert_eq!(running.next().await, service);
    }
    running.until("bascule_config_generation", 4.0).await;
}

#[tokio::test(flavor = "local")]
async fn a_swap_of_the_folder_behind_a_symlink_is_seen() {
    let root = tempfile::tempdir().expect("scratch");
    let at = |name: &str| root.path().join(name);
    for (folder, service) in [("..1", "zero"), ("..2", "one"), ("..3", "two")] {
        fs::create_dir(at(folder)).expect("folder");
        fs::write(at(folder).join("bascule.yaml"), yaml(service)).expect("write");
    }
    symlink("..1", at("..data")).expect("link");
    symlink("..data/bascule.yaml", at("bascule.yaml")).expect("link");
    let mut running = run(&at("bascule.yaml"));
    for (folder, service) in [("..2", "one"), ("..3", "two")] {
        symlink(folder, at("..tmp")).expect("link");
        fs::rename(at("..tmp"), at("..data")).expect("rename");
        assert_eq!(running.next().await, service);
    }
}

#[tokio::test(flavor = "local")]
async fn a_bad_file_is_told_and_the_old_one_serves_until_it_is_mended() {
    let root = tempfile::tempdir().expect("scratch");
    let file = root.path().join("bascule.yaml");
    fs::write(&file, yaml("zero")).expect("write");
    let mut running = run(&file);
    rename_into(&file, "services: [what, is, this\n");
    running.until("bascule_config_reload_failed", 1.0).await;
    assert_eq!(running.gauge("bascule_config_generation"), 1.0);

    rename_into(&file, &yaml("mended"));
    // The bad one in between was never given to anybody.
    assert_eq!(running.next().await, "mended");
    running.until("bascule_config_reload_failed", 0.0).await;
}

#[tokio::test(flavor = "local")]
async fn what_cannot_be_put_into_force_counts_as_failed() {
    let root = tempfile::tempdir().expect("scratch");
    let file = root.path().join("bascule.yaml");
    fs::write(&file, yaml("zero")).expect("write");
    let mut running = run(&file);
    rename_into(&file, &yaml("refused"));
    assert_eq!(running.next().await, "refused");
    running.until("bascule_config_reload_failed", 1.0).await;
    assert_eq!(running.gauge("bascule_config_generation"), 1.0);
}

#[tokio::test(flavor = "local")]
async fn a_new_file_in_an_included_folder_is_a_change() {
    let root = tempfile::tempdir().expect("scratch");
    let file = root.path().join("bascule.yaml");
    fs::create_dir(root.path().join("services.d")).expect("folder");
    fs::write(&file, yaml("zero") + "include: [services.d/*.yaml]\n").expect("write");
    let other = "services:\n  another:\n    routes: [{ host: a.portal.example }]\n    \
                 upstreams: [{ provider: bunny, url: \"http://127.0.0.1:2\" }]\n";
    fs::write(root.path().join("services.d/a.yaml"), other).expect("write");
    let mut running = run(&file);
    let more = "services:\n  a-second:\n    routes: [{ host: b.portal.example }]\n    \
                upstreams: [{ provider: bunny, url: \"http://127.0.0.1:2\" }]\n";
    fs::write(root.path().join("services.d/b.yaml"), more).expect("write");
    assert_eq!(running.next().await, "zero");
    running.until("bascule_config_generation", 2.0).await;
}

#[tokio::test(flavor = "local")]
async fn a_look_reloads_only_what_changed_and_an_order_reloads_anyway() {
    let root = tempfile::tempdir().expect("scratch");
    let file = root.path().join("bascule.yaml");
    fs::write(&file, yaml("zero")).expect("write");
    let (mut reload, mut told, ..) = reload(&file);
    let zero = Sources::of(&config::load(&file, 1).expect("valid"));

    rename_into(&file, &yaml("zero"));
    assert!(reload.look(Cause::Look, &zero).await.is_none(), "the same text is no change");
    assert!(reload.look(Cause::Order, &zero).await.is_some());
    assert_eq!(told.try_recv().expect("an order"), "zero");
    rename_into(&file, &yaml("one"));
    let one = reload.look(Cause::Look, &zero).await.expect("a change").sources;
    assert_eq!(told.try_recv().expect("a change"), "one");
    assert!(reload.look(Cause::Look, &one).await.is_none(), "once is enough");
}

#[tokio::test(flavor = "local")]
async fn who_wishes_a_reload_is_told_what_came_of_it() {
    let root = tempfile::tempdir().expect("scratch");
    let file = root.path().join("bascule.yaml");
    fs::write(&file, yaml("zero")).expect("write");
    let mut running = run(&file);
    let loaded = running.asker.ask().await.expect("a loader").expect("a valid file");
    assert_eq!((loaded.services, loaded.upstreams), (1, 1));
    assert!(loaded.lints.iter().all(|lint| lint.contains("warning: ")), "{:?}", loaded.lints);
    assert_eq!(running.next().await, "zero");

    rename_into(&file, &yaml("refused"));
    let refused = running.asker.ask().await.expect("a loader").expect_err("no address");
    assert_eq!(refused, NotLoaded::NotInForce(vec!["the address is in use".to_owned()]));

    rename_into(&file, "services: [what, is, this\n");
    match running.asker.ask().await.expect("a loader") {
        Err(NotLoaded::Refused(complaints)) => {
            assert!(complaints[0].contains("bascule.yaml:"), "{complaints:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "local")]
async fn without_a_file_or_in_a_crowd_a_wish_is_refused_at_once() {
    let (asker, receiver) = wishes::channel();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            spawn_local({
                let asker = asker.clone();
                async move { asker.ask().await }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(matches!(asker.ask().await, Err(Unloadable::Busy)));
    drop(receiver);
    for one in waiting {
        assert!(matches!(one.await.expect("no panic"), Err(Unloadable::BrokeOff)));
    }
    assert!(matches!(asker.ask().await, Err(Unloadable::NoFile)));
}
