//! `bascule run`: serves until a signal.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{LogFormat, configuration_file};
use crate::app::{self, Ending, Source};
use crate::clock;
use crate::config::{self, insight};
use crate::telemetry::setup;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration [default: bascule.yaml, then /etc/bascule/bascule.yaml].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Serves. A first SIGTERM or SIGINT drains, a second one ends at once.
pub(super) fn run(arguments: Arguments, log_format: LogFormat) -> anyhow::Result<ExitCode> {
    setup::install(log_format.into()).context("logging")?;
    let file = configuration_file(arguments.config);
    let config = match config::load(&file, app::cores()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(error.exit_code());
        }
    };
    for lint in &config.lints {
        tracing::warn!(lint = %lint.one_line(), "the configuration has a trap");
    }
    for line in config::expiring(&config, clock::wall()) {
        tracing::warn!(certificate = line, "a certificate ends");
    }
    for line in insight::lines(&config) {
        tracing::info!(insight = line, "what this configuration can tell apart");
    }
    if let Some(line) = short_of_descriptors(config.limits.max_connections) {
        tracing::warn!(descriptors = line, "descriptors may run out");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, file))
}

/// Asks for as many descriptors as the system lets us have; what is wrong with them if that is too few.
fn short_of_descriptors(max_connections: usize) -> Option<String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    // A refusal leaves what there was.
    let has = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    // Each client connection, and one to an upstream for it.
    let needed = max_connections as u64 * 2 + 200;
    (has < needed).then(|| {
        format!(
            "{has} may be open, and {needed} are needed for `max_connections: {max_connections}`; raise the \
             limit (`ulimit -n`, `LimitNOFILE`) or lower the key"
        )
    })
}

async fn serve(config: config::Config, file: PathBuf) -> anyhow::Result<ExitCode> {
    // Before the first address is listened on: a signal in between must not end us the hard way.
    let mut signals = Signals::new()?;
    // Left alone, SIGHUP ends a process. The reload listens on the control thread, a moment later;
    // its first look at the files stands for whatever comes until then.
    let _hangup = signal(SignalKind::hangup())?;
    let mut running = app::start(config, Source::File(file))?;
    let ending = running.wait(signals.next()).await;
    running.shut_down(signals.next()).await;
    Ok(match ending {
        Ending::Asked => ExitCode::SUCCESS,
        Ending::WorkerLost(worker) => {
            tracing::error!(worker, "a worker ended by itself");
            ExitCode::FAILURE
        }
    })
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        // A signal that comes while neither is waited for is kept for the next wait.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
