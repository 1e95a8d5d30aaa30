//! Arguments, and the verbs: one file each. What a verb prints is its answer, on standard output;
//! what went wrong goes to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::admin::command::OrderName;
use crate::telemetry::{log, setup};

mod api;
mod check;
mod completions;
mod demo;
mod drill;
mod explain;
mod journal;
mod man;
mod order;
mod providers;
mod ready;
mod replay;
mod run;
mod schema;
mod sign;
mod status;

/// A reverse proxy that leaves a failing edge provider by itself.
#[derive(Debug, Parser)]
#[command(name = "bascule", version, about, propagate_version = true)]
struct Arguments {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    #[command(subcommand)]
    verb: Verb,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// One object a line.
    Json,
}

impl From<LogFormat> for setup::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serves.
    Run(run::Arguments),
    /// Says every mistake of a file at once, then what is probably not meant.
    Check(check::Arguments),
    /// Tells the whole story on loopback: no file, no network.
    Demo(demo::Arguments),
    /// Shows what would have been done in a recorded outage, in virtual time.
    Replay(replay::Arguments),
    /// Shows providers, services and upstreams of a running proxy.
    Status(status::Arguments),
    /// Says whether a running proxy wants traffic: exit code 0 if it does, for health checks.
    Ready(ready::Arguments),
    /// Says who would be asked for an URL, in which order, and why.
    Explain(explain::Arguments),
    /// Says why each transition happened, as lines, as JSON or as an incident report.
    Journal(journal::Arguments),
    /// Orders a provider or an upstream to take nothing new; what waits there may finish.
    Drain(order::Arguments),
    /// Orders a provider or an upstream out at once; safe requests that wait there move on.
    ForceOut(order::Arguments),
    /// Orders a provider or an upstream to serve at its place, whatever is observed of it.
    ForceIn(order::Arguments),
    /// Takes an order back.
    Auto(order::AutoArguments),
    /// Rehearses a failover on live traffic, with automatic abort, and reports it.
    Drill(drill::Arguments),
    /// Lists the known edge providers: seat, reach of laws, substrate, habits, and what each fact rests on.
    Providers(providers::Arguments),
    /// Prints the JSON Schema of the file, for editors.
    Schema(schema::Arguments),
    /// Prints a signed origin marker, for scripts and timers.
    Sign(sign::Arguments),
    /// Prints a script with which a shell completes verbs and flags.
    Completions(completions::Arguments),
    /// Writes the manual's pages, for whoever packages.
    #[command(hide = true)]
    Man(man::Arguments),
}

/// Where the configuration is looked for when none is named.
const DEFAULT_FILES: [&str; 2] = ["bascule.yaml", "/etc/bascule/bascule.yaml"];

/// The file to load: the named one, else the first default that exists, else the first default (so
/// that the error names it).
pub(crate) fn configuration_file(named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| {
        let mut defaults = DEFAULT_FILES.iter().map(PathBuf::from);
        defaults.clone().find(|file| file.exists()).or_else(|| defaults.next()).unwrap_or_default()
    })
}

/// Says why the verb could not do its work, to nobody if nobody reads it.
pub fn say(error: &anyhow::Error) {
    log::say(&format!("bascule: {error:#}"));
}

/// Parses the arguments and runs the verb.
///
/// # Errors
/// What a person should read when the verb could not do its work.
pub fn main() -> anyhow::Result<ExitCode> {
    let Arguments { log_format, verb } = Arguments::parse();
    match verb {
        Verb::Run(arguments) => run::run(arguments, log_format),
        Verb::Check(arguments) => check::run(arguments),
        Verb::Demo(arguments) => demo::run(arguments, log_format),
        Verb::Replay(arguments) => replay::run(arguments),
        Verb::Status(arguments) => status::run(arguments),
        Verb::Ready(arguments) => ready::run(&arguments),
        Verb::Explain(arguments) => explain::run(arguments),
        Verb::Journal(arguments) => journal::run(arguments),
        Verb::Drain(arguments) => order::run(arguments, OrderName::Drain),
        Verb::ForceOut(arguments) => order::run(arguments, OrderName::ForceOut),
        Verb::ForceIn(arguments) => order::run(arguments, OrderName::ForceIn),
        Verb::Auto(arguments) => order::auto(arguments),
        Verb::Drill(arguments) => drill::run(arguments),
        Verb::Providers(arguments) => providers::run(arguments),
        Verb::Schema(arguments) => schema::run(arguments),
        Verb::Sign(arguments) => sign::run(arguments),
        Verb::Completions(arguments) => completions::run(arguments, &mut Arguments::command()),
        Verb::Man(arguments) => man::run(arguments, Arguments::command()),
    }
}
