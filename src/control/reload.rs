//! A changed file to a changed configuration: noticed, settled, loaded, taken over whole, or refused
//! with every complaint while the old one goes on serving.
//!
//! In: notifications, a poll every 30 s, SIGHUP, the operator's wish. Out: calls of an [`Applier`],
//! which `app` gives, since it knows all the parts. Reading happens on a thread of its own: it must
//! not keep steering waiting.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::watch::{FileWatch, fingerprint};
use crate::clock;
use crate::config::complaint::Complaint;
use crate::config::{self, Config, Listener, LoadError};
use crate::exchange::reload::{Loaded, NotLoaded, ReloadReceiver, Wish};
use crate::net::notify::{self, Stage};
use crate::telemetry::labels::ReloadResult;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::Chain;

/// Between two looks at the files' contents, whatever notifications say.
const POLL: Duration = Duration::from_secs(30);
/// Loads of one change, should an include appear and change in the meantime.
const MOST_LOADS: usize = 3;

/// Puts configurations into force.
pub trait Applier {
    /// Why a valid one was not.
    type Error: Error + 'static;

    /// Takes a valid configuration over whole, or refuses it whole.
    fn apply(&mut self, config: Config) -> impl Future<Output = Result<(), Self::Error>>;
}

/// Keeps what serves in step with the file.
#[derive(Debug)]
pub struct Reload<A> {
    /// Where the configuration is.
    pub file: PathBuf,
    /// Worker threads where the file leaves them open.
    pub cores: usize,
    /// Where reloads are counted.
    pub metrics: Metrics,
    /// Who puts a new one into force.
    pub applier: A,
    /// Who wishes it loaded.
    pub wishes: ReloadReceiver,
}

/// What a configuration was made from, good or bad.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Files and searched folders.
    paths: BTreeSet<PathBuf>,
    /// Fingerprint of what they held.
    seen: u64,
}

impl Sources {
    /// Of a configuration that was loaded just now.
    pub fn of(config: &Config) -> Self {
        let paths = paths(config);
        Self { seen: fingerprint(&paths), paths }
    }

    fn have_changed(&self) -> bool {
        fingerprint(&self.paths) != self.seen
    }
}

fn paths(config: &Config) -> BTreeSet<PathBuf> {
    config.files.iter().cloned().collect()
}

/// What one load brought.
struct Reading {
    sources: Sources,
    result: Result<Config, LoadError>,
}

/// What came of one load.
struct Load {
    sources: Sources,
    result: Result<Loaded, NotLoaded>,
}

/// Why to look at the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// Something may have changed.
    Look,
    /// Somebody wants it loaded in any case.
    Order,
}

impl<A: Applier> Reload<A> {
    /// Reloads until shutdown. `sources` are those of the configuration that serves now.
    pub async fn run(mut self, mut sources: Sources, mut shutdown: watch::Receiver<bool>) {
        let mut watch = FileWatch::new();
        watch.follow(&sources.paths);
        let mut hangup = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::error!(error = %Chain(error), "SIGHUP does not reload"))
            .ok();
        let mut orders = async || match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        };
        // What changed before the watch began brings no notification.
        let (mut cause, mut asker) = (Cause::Look, None::<Wish>);
        loop {
            if let Some(load) = self.look(cause, &sources).await {
                watch.follow(&load.sources.paths);
                sources = load.sources;
                // Who has gone away meanwhile finds it in the log.
                if let Some(wish) = asker.take() {
                    wish.done.send(load.result).ok();
                }
            }
            // Of a load that broke off the asker learns by this end of the wish.
            drop(asker.take());
            // Dropping any arm half-way loses nothing: signals, wishes and the shutdown stay, a change
            // that had not come to rest is seen by the look that follows whatever won instead.
            cause = tokio::select! {
                biased;
                _ = shutdown.wait_for(|stop| *stop) => return,
                _ = orders() => Cause::Order,
                wish = self.wishes.next() => {
                    asker = Some(wish);
                    Cause::Order
                }
                () = watch.changed() => Cause::Look,
                () = tokio::time::sleep(POLL) => Cause::Look,
            };
        }
    }

    /// Loads what has changed or was ordered; what came of it. `None`: nothing was loaded.
    async fn look(&mut self, cause: Cause, before: &Sources) -> Option<Load> {
        let (file, cores, before) = (self.file.clone(), self.cores, before.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let wanted = cause == Cause::Order || before.have_changed();
            wanted.then(|| {
                notify::tell(Stage::Reloading);
                read(&file, cores, before.paths)
            })
        });
        let Reading { sources, result } = match reading.await {
            Ok(reading) => reading?,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "loading the configuration broke off");
                notify::tell(Stage::Ready);
                return None;
            }
        };
        let result = match result {
            Ok(config) => self.take_over(config).await,
            Err(refused) => {
                refuse(&refused);
                let complaints = refused.complaints().iter();
                Err(NotLoaded::Refused(complaints.map(Complaint::one_line).collect()))
            }
        };
        let counted = if result.is_ok() { ReloadResult::Success } else { ReloadResult::Failure };
        self.metrics.reload(counted);
        // Whatever came of it, something serves.
        notify::tell(Stage::Ready);
        Some(Load { sources, result })
    }

    async fn take_over(&mut self, config: Config) -> Result<Loaded, NotLoaded> {
        let (services, upstreams) = (config.topology.pools.len(), config.topology.upstreams.len());
        let (lints, listeners) = (config.lints.clone(), config.listeners.clone());
        let expiring = config::expiring(&config, clock::wall());
        if let Err(error) = self.applier.apply(config).await {
            tracing::error!(error = %Chain(&error), "configuration not put into force");
            return Err(NotLoaded::NotInForce(vec![Chain(&error).to_string()]));
        }
        let lints: Vec<String> = lints.iter().map(Complaint::one_line).collect();
        for lint in &lints {
            tracing::warn!(lint, "the configuration has a trap");
        }
        for line in expiring {
            tracing::warn!(certificate = line, "a certificate ends");
        }
        tracing::info!(services, upstreams, "configuration reloaded");
        tell_taken(&listeners, &self.metrics);
        Ok(Loaded { services, upstreams, lints })
    }
}

fn refuse(refused: &LoadError) {
    if let LoadError::Unreadable { .. } = refused {
        tracing::error!(complaint = %refused, "configuration refused");
    }
    for complaint in refused.complaints() {
        tracing::error!(complaint = %complaint.one_line(), "configuration refused");
    }
}

/// Loads, and again where it turned out to be made from other files than thought: the fingerprint
/// must be older than the load, or a change in between would never be noticed.
fn read(file: &Path, cores: usize, mut paths: BTreeSet<PathBuf>) -> Reading {
    let mut loads = 1;
    loop {
        let seen = fingerprint(&paths);
        let result = config::load(file, cores);
        let named = match &result {
            Ok(config) => self::paths(config),
            // A file that the last good one named may be what is missing now.
            Err(refused) => paths.iter().chain(refused.files()).cloned().collect(),
        };
        if named == paths || loads == MOST_LOADS {
            return Reading { sources: Sources { paths: named, seen }, result };
        }
        paths = named;
        loads += 1;
    }
}

/// Counts a configuration that serves, and exports when the certificates shown to clients end; before
/// anything answers, and after each reload.
pub fn tell_taken(listeners: &[Listener], metrics: &Metrics) {
    metrics.config_taken(clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default());
    let shown = listeners.iter().filter_map(|listener| listener.tls.as_ref());
    metrics.certificates(shown.flat_map(|tls| &tls.certificates).filter_map(|certificate| {
        let end = certificate.not_after.duration_since(UNIX_EPOCH).ok()?;
        Some((&**certificate.names.first()?, end))
    }));
}

#[cfg(test)]
mod tests;
