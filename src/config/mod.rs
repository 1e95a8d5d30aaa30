//! YAML text to one immutable [`Config`], or every complaint at once.
//!
//! | step | file |
//! |---|---|
//! | bytes within a bound | `files` |
//! | text to a tree with places | `yaml`, the one file that names the YAML crate |
//! | `${file:…}` and `${env:…}` | `interpolate` |
//! | tree to the mirror of the file | `tree`, `reader`, `raw` |
//! | mirror to what is meant | `lower`, with `values`, `certificate` and the [`catalogue`] of known providers |
//! | what is probably not meant | `lint` |
//! | what the result can tell apart | [`insight`] |
//!
//! Never a panic, never without an end: sizes, depth, references and the number of complaints are
//! bounded.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use rustls::sign::CertifiedKey;

use crate::model::access_log::AccessLog;
use crate::model::control_target::ControlTarget;
use crate::model::limits::Limits;
use crate::model::listening::Manner;
use crate::model::name_server::NameServer;
use crate::model::topology::Topology;

pub mod catalogue;
mod certificate;
pub mod complaint;
mod files;
mod include;
pub mod insight;
mod interpolate;
mod lint;
mod lower;
mod raw;
mod reader;
mod server;
mod tree;
mod values;
pub mod yaml;

pub use files::{ReadError, read_bounded};
pub use lint::expiring;

use complaint::{Complaint, Complaints};
use files::Files;
use lower::Context;

/// Reads a configuration and everything it names. `cores`: worker threads where the file leaves
/// their number open.
///
/// # Errors
/// When the file cannot be read, or with every mistake in it and in what it names.
pub fn load(file: &Path, cores: usize) -> Result<Config, LoadError> {
    let mut files = Files::default();
    let main = files.open(file).map_err(|error| LoadError::Unreadable {
        complaint: Box::new(Complaint::unreadable(file, &error)),
        files: vec![file.to_path_buf()],
    })?;
    let complaints = Complaints::default();
    let document = include::document(main, &mut files, &complaints);
    let context = Context { complaints: &complaints, files: &files };
    let config = lower::lower(document, &context, cores);
    let valid = !complaints.has_errors();
    let list = complaints.finish(&files);
    match config {
        Some(config) if valid => Ok(Config { files: files.all(), lints: list, ..config }),
        Some(_) | None => Err(LoadError::Invalid { complaints: list, files: files.all() }),
    }
}

/// The JSON Schema (draft 2020-12) of the file.
pub fn schema() -> schemars::Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let transform = schemars::transform::RecursiveTransform(without_null);
    settings.with_transform(transform).into_generator().into_root_schema_for::<raw::RawFile>()
}

/// A key that may be left out may not stand there with nothing behind it.
fn without_null(schema: &mut schemars::Schema) {
    if let Some(types) = schema.get_mut("type") {
        let named = types.as_array_mut().map(|types| {
            types.retain(|name| name != "null");
            std::mem::take(types)
        });
        *types = match named {
            Some(mut one) if one.len() == 1 => one.remove(0),
            Some(several) => several.into(),
            None => std::mem::take(types),
        };
    }
    if let Some(choices) = schema.get_mut("anyOf")
        && let Some(choices) = choices.as_array_mut()
    {
        choices.retain(|choice| choice["type"] != "null");
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file itself cannot be read.
    Unreadable {
        /// Why.
        complaint: Box<Complaint>,
        /// The file: it may be there at the next look.
        files: Vec<PathBuf>,
    },
    /// It holds mistakes.
    Invalid {
        /// All of them, by file and line; lints are not looked for.
        complaints: Vec<Complaint>,
        /// Every file that was read: a change of any can mend it.
        files: Vec<PathBuf>,
    },
}

impl LoadError {
    /// 2 when the file cannot be read, 1 when it holds mistakes.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unreadable { .. } => ExitCode::from(2),
            Self::Invalid { .. } => ExitCode::from(1),
        }
    }

    /// Everything that is wrong; never empty.
    pub fn complaints(&self) -> &[Complaint] {
        match self {
            Self::Unreadable { complaint, .. } => std::slice::from_ref(&**complaint),
            Self::Invalid { complaints, .. } => complaints,
        }
    }

    /// What a watcher should look at for the next attempt.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::Unreadable { files, .. } | Self::Invalid { files, .. } => files,
        }
    }
}

/// As a person reads it: every mistake with its source line.
impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, complaint) in self.complaints().iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n" };
            write!(f, "{gap}{complaint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

/// The nearest of some known words, if any is near enough to be a misspelling.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |known: &str| strsim::osa_distance(&word.to_lowercase(), &known.to_lowercase());
    let near = known.into_iter().map(|known| (distance(known), known)).min()?;
    let most = (word.chars().count().max(near.1.len()) / 3).max(1);
    // A word of one letter is near to every other one, which says nothing.
    (near.0 <= most && near.0 < word.chars().count()).then_some(near.1)
}

/// A valid configuration, everything it names already read.
#[derive(Clone, Debug)]
pub struct Config {
    /// What exists.
    pub topology: Arc<Topology>,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where the operator connects.
    pub admin: Option<Admin>,
    /// Where what outlives a restart is kept; `None`: nothing is.
    pub state_dir: Option<PathBuf>,
    /// How upstream names become addresses.
    pub resolver: Resolver,
    /// Who tells our own network's fault from others'; none: nobody.
    pub control_targets: Vec<ControlTarget>,
    /// Bounds on what clients can take.
    pub limits: Limits,
    /// Whose `X-Forwarded-For` and PROXY header are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which requests are written down; `None`: none is.
    pub access_log: Option<AccessLog>,
    /// Where spans go, and of how many requests; `None`: nothing is traced.
    #[cfg(feature = "otlp")]
    pub traces: Option<crate::model::trace::Traces>,
    /// Worker threads; at least 1 (`0` in the file is one per core, resolved by the caller's count).
    pub workers: usize,
    /// Every file that was read, for the watcher: the file itself, includes, certificates, pages;
    /// and the folders that were searched for included files, where a new one is a change too.
    pub files: Vec<PathBuf>,
    /// What is valid and still probably not meant.
    pub lints: Vec<complaint::Complaint>,
    /// Where things stand, for what is found out about them later.
    pub spots: Spots,
}

/// Where services and upstreams stand in the file, index for index with the topology.
#[derive(Clone, Debug, Default)]
pub struct Spots {
    /// By pool.
    pub services: Vec<complaint::Spot>,
    /// By upstream.
    pub upstreams: Vec<complaint::Spot>,
}

/// Where clients connect.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `[::]` takes IPv4 too.
    pub address: SocketAddr,
    /// `None`: cleartext.
    pub tls: Option<ListenerTls>,
    /// How it treats those who connect.
    pub manner: Manner,
}

/// TLS of one listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// In the order of the file: the first one serves clients without SNI. Each with the names it
    /// holds (lower case; wildcards as `*.example`).
    pub certificates: Vec<Certificate>,
    /// Least version.
    pub min_version: TlsVersion,
}

/// One certificate with its key, checked to belong together.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// DNS names and addresses of its subject alternative names.
    pub names: Vec<Box<str>>,
    /// As the file names it.
    pub file: Box<str>,
    /// Its first second.
    pub not_before: SystemTime,
    /// Its last second.
    pub not_after: SystemTime,
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Whether clients believe it now.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Shows clients what the authority last said of it; nothing where `answer` is empty.
    fn staple(&mut self, answer: Vec<u8>) {
        let key = Arc::make_mut(&mut self.key);
        key.ocsp = (!answer.is_empty()).then_some(answer);
    }
}

/// Least TLS version towards clients.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsVersion {
    /// 1.2 and 1.3.
    #[default]
    V1_2,
    /// 1.3 only.
    V1_3,
}

/// Where the operator connects.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Loopback unless there is a token.
    pub address: SocketAddr,
    /// Bearer token, read from its file; never logged.
    pub token: Option<Secret>,
}

/// A value that no log line, answer or error ever shows.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps it.
    pub fn new(value: &str) -> Self {
        Self(value.into())
    }

    /// The value, for comparing or sending; never for showing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How upstream names become addresses.
#[derive(Clone, Debug)]
pub struct Resolver {
    /// Asked in parallel pairs; empty: the system's.
    pub servers: Vec<NameServer>,
    /// Who may sign the certificates of those that are spoken to over TLS, as PEM; `None`: the system's
    /// roots.
    pub ca: Option<Arc<[u8]>>,
    /// How long the last good answer is kept when no new one comes.
    pub stale: Duration,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { servers: Vec::new(), ca: None, stale: Duration::from_secs(24 * 60 * 60) }
    }
}
