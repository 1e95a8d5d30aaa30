//! A changed file to a changed configuration: noticed, settled, loaded, taken over whole, or refused
//! with every complaint while the old one goes on serving.
//!
//! In: notifications, a poll every 30 s, SIGHUP. Out: calls of `apply`, which `app` gives, since it
//! knows all the parts. Reading happens on a thread of its own: it must not keep steering waiting.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::watch::{FileWatch, fingerprint};
use crate::clock;
use crate::config::Config;
use crate::telemetry::labels::ReloadResult;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::Chain;

/// Between two looks at the files' contents, whatever notifications say.
const POLL: Duration = Duration::from_secs(30);
/// Loads of one change, should an include appear and change in the meantime.
const MOST_LOADS: usize = 3;

/// Why a configuration was not loaded.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// Each mistake as `FILE:LINE:COLUMN: error: …`.
    pub complaints: Vec<String>,
    /// What was read on the way: mending one of these may mend it all.
    pub files: Vec<PathBuf>,
}

/// Loads the configuration; called on a thread that may block.
pub trait Loader: Fn() -> Result<Config, Refused> + Clone + Send + 'static {}
impl<F: Fn() -> Result<Config, Refused> + Clone + Send + 'static> Loader for F {}

/// Keeps the configuration in step with its files.
#[derive(Debug)]
pub struct Reload<L> {
    load: L,
    metrics: Metrics,
    watch: FileWatch,
    files: BTreeSet<PathBuf>,
    /// Of the files' contents at the last load, good or bad.
    seen: u64,
}

/// What one load brought.
struct Reading {
    files: BTreeSet<PathBuf>,
    seen: u64,
    result: Result<Config, Refused>,
}

/// Why to look at the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// Something may have changed.
    Look,
    /// Somebody wants it loaded in any case.
    Order,
}

impl<L: Loader> Reload<L> {
    /// Follows the files of the configuration that serves now, which counts as the first one.
    pub fn new(load: L, first: &Config, metrics: Metrics) -> Self {
        let files: BTreeSet<PathBuf> = first.files.iter().cloned().collect();
        metrics.config_taken(since_1970());
        let mut watch = FileWatch::new();
        watch.follow(&files);
        Self { load, metrics, watch, seen: fingerprint(&files), files }
    }

    /// Reloads until shutdown. `apply` takes a valid configuration over whole, or refuses it whole.
    pub async fn run<A, E>(mut self, mut apply: A, mut shutdown: watch::Receiver<bool>)
    where
        A: AsyncFnMut(Config) -> Result<(), E>,
        E: Error + 'static,
    {
        let mut hangup = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::error!(error = %Chain(error), "SIGHUP does not reload"))
            .ok();
        let mut orders = async || match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        };
        loop {
            // Dropping any arm half-way loses nothing: signals and the shutdown stay, a change that
            // had not come to rest is seen by the look that follows whatever won instead.
            let cause = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return,
                _ = orders() => Cause::Order,
                () = self.watch.changed() => Cause::Look,
                () = tokio::time::sleep(POLL) => Cause::Look,
            };
            self.look(cause, &mut apply).await;
        }
    }

    async fn look<A, E>(&mut self, cause: Cause, apply: &mut A)
    where
        A: AsyncFnMut(Config) -> Result<(), E>,
        E: Error + 'static,
    {
        let (load, files, seen) = (self.load.clone(), self.files.clone(), self.seen);
        let reading = tokio::task::spawn_blocking(move || {
            (cause == Cause::Order || fingerprint(&files) != seen).then(|| read(&load, files))
        });
        let reading = match reading.await {
            Ok(Some(reading)) => reading,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "loading the configuration broke off");
                return;
            }
        };
        self.watch.follow(&reading.files);
        (self.files, self.seen) = (reading.files, reading.seen);
        let result = match reading.result {
            Ok(config) => take_over(config, apply).await,
            Err(refused) => {
                for complaint in &refused.complaints {
                    tracing::error!(complaint, "configuration refused");
                }
                ReloadResult::Failure
            }
        };
        self.metrics.reload(result);
        if result == ReloadResult::Success {
            self.metrics.config_taken(since_1970());
        }
    }
}

async fn take_over<A, E>(config: Config, apply: &mut A) -> ReloadResult
where
    A: AsyncFnMut(Config) -> Result<(), E>,
    E: Error + 'static,
{
    let (services, upstreams) = (config.topology.pools.len(), config.topology.upstreams.len());
    match apply(config).await {
        Ok(()) => {
            tracing::info!(services, upstreams, "configuration reloaded");
            ReloadResult::Success
        }
        Err(error) => {
            tracing::error!(error = %Chain(&error), "configuration not taken over");
            ReloadResult::Failure
        }
    }
}

/// Loads, and again where it turned out to hold other files than thought: the fingerprint must be
/// older than the load, or a change in between would never be noticed.
fn read(load: &impl Loader, mut files: BTreeSet<PathBuf>) -> Reading {
    let mut loads = 1;
    loop {
        let seen = fingerprint(&files);
        let result = load();
        let named = match &result {
            Ok(config) => config.files.iter().cloned().collect(),
            // A file that the last good one named may be what is missing now.
            Err(refused) => files.iter().chain(&refused.files).cloned().collect(),
        };
        if named == files || loads == MOST_LOADS {
            return Reading { files: named, seen, result };
        }
        files = named;
        loads += 1;
    }
}

fn since_1970() -> Duration {
    clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default()
}
