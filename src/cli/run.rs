//! `bascule run`: serves until a signal.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{LogFormat, configuration_file};
use crate::app::inherit::Inheritance;
use crate::app::watchdog::Watchdog;
use crate::app::{self, Ending, Given, Running, Source, upgrade};
use crate::clock;
use crate::config::{self, Config, insight};
use crate::net::activation::{self, Activated};
use crate::net::handover::Successor;
use crate::net::notify::{self, Stage};
use crate::telemetry::log::{self, Lost};
use crate::telemetry::setup::{self, Chain};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration [default: bascule.yaml, then /etc/bascule/bascule.yaml].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Serves. A first SIGTERM or SIGINT drains, a second one ends at once; SIGUSR2 starts the program anew
/// and leaves the place to it.
pub(super) fn run(arguments: Arguments, log_format: LogFormat) -> anyhow::Result<ExitCode> {
    // While there is no other thread: it clears variables.
    let activated = activation::take().map_err(|(place, error)| {
        anyhow::Error::from(error).context(format!("socket {place} of the supervisor's"))
    })?;
    // What is logged before any of the ends below is written by then.
    let log = setup::install(log_format.into()).context("logging")?;
    let successor = upgrade::successor().context("taking over")?;
    let file = configuration_file(arguments.config);
    let config = match config::load(&file, app::cores()) {
        Ok(config) => config,
        Err(error) => {
            if !is_told(successor, &error.to_string()) {
                log::say(&error.to_string());
            }
            return Ok(error.exit_code());
        }
    };
    tell(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(begin(config, file, successor, activated, log.lost()));
    // What is still said to another process does not keep this one.
    runtime.shutdown_background();
    code
}

/// Whether a process whose place this one would have taken has the reason why it does not. That one says
/// it, once and in the form of its log; the two share their standard error.
fn is_told(successor: Option<Successor>, reason: &str) -> bool {
    successor.is_some_and(|successor| successor.failed(reason).is_ok())
}

/// Says what people should know of the configuration.
fn tell(config: &Config) {
    for lint in &config.lints {
        tracing::warn!(lint = %lint.one_line(), "the configuration has a trap");
    }
    for line in config::expiring(config, clock::wall()) {
        tracing::warn!(certificate = line, "a certificate ends");
    }
    for line in insight::lines(config) {
        tracing::info!(insight = line, "what this configuration can tell apart");
    }
    if let Some(line) = short_of_descriptors(config.limits.max_connections) {
        tracing::warn!(descriptors = line, "descriptors may run out");
    }
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

async fn begin(
    config: Config,
    file: PathBuf,
    mut successor: Option<Successor>,
    activated: Vec<Activated>,
    log_lost: Lost,
) -> anyhow::Result<ExitCode> {
    // Before the first address is listened on: a signal in between must not end us the hard way.
    let signals = Signals::new()?;
    // Left alone, SIGHUP ends a process. The reload listens on the control thread, a moment later;
    // its first look at the files stands for whatever comes until then.
    let _hangup = signal(SignalKind::hangup())?;
    let watchdog = Watchdog::new(app::threads(&config));
    let inheritance = match &mut successor {
        Some(successor) => Inheritance::handed(successor.take().context("taking over")?),
        None => Inheritance::activated(activated),
    };
    let pulse = watchdog.as_ref().map(Watchdog::pulse);
    let given = Given { inheritance, pulse, log_lost };
    let started = app::start(config, Source::File(file), given);
    match (started, successor) {
        (Ok(running), successor) => {
            // A predecessor that is gone already drains nothing; this process serves all the same.
            if let Some(Err(error)) = successor.map(Successor::ready) {
                tracing::warn!(%error, "the old process does not wait any more");
            }
            notify::tell(Stage::Ready);
            // The watchdog never ends by itself; dropping it loses nothing.
            tokio::select! {
                code = serve(running, signals) => Ok(code),
                () = watch(watchdog) => Ok(ExitCode::FAILURE),
            }
        }
        (Err(error), successor) => {
            if is_told(successor, &Chain(&error).to_string()) {
                return Ok(ExitCode::FAILURE);
            }
            Err(error.into())
        }
    }
}

async fn watch(watchdog: Option<Watchdog>) {
    match watchdog {
        Some(watchdog) => watchdog.run().await,
        None => std::future::pending().await,
    }
}

async fn serve(mut running: Running, mut signals: Signals) -> ExitCode {
    loop {
        let mut wish = Wish::End;
        let ending = running.wait(async { wish = signals.next().await }).await;
        if let Ending::Lost(thread) = ending {
            tracing::error!(
                thread,
                "a thread ended by itself: the process ends too, to be started anew"
            );
            finish(running, &mut signals).await;
            return ExitCode::FAILURE;
        }
        if wish == Wish::Replace {
            tracing::info!("starting the program anew");
            match running.replace(signals.end()).await {
                Ok(process) => {
                    tracing::info!(process, "a new process serves in place of this one");
                    notify::tell(Stage::Successor(process));
                    running.shut_down(signals.end()).await;
                    return ExitCode::SUCCESS;
                }
                Err(upgrade::UpgradeError::Stopped) => tracing::warn!("the new process was ended"),
                Err(error) => {
                    let error = Chain(&error);
                    tracing::error!(%error, "the new process does not take over: this one serves on");
                    continue;
                }
            }
        }
        finish(running, &mut signals).await;
        return ExitCode::SUCCESS;
    }
}

async fn finish(running: Running, signals: &mut Signals) {
    notify::tell(Stage::Stopping);
    running.shut_down(signals.end()).await;
}

/// What somebody wants of the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    End,
    Replace,
}

/// The signals that end the process, and the one that replaces it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    replace: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            replace: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Wish {
        // A signal that comes while none is waited for is kept for the next wait.
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.replace.recv() => Wish::Replace,
        }
    }

    async fn end(&mut self) {
        // The same; a wish to be replaced comes too late.
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
