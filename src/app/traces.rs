//! Where spans go: the thread that sends them, and the workers' end of its queue.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

use super::{StartError, names};
use crate::config::Config;
use crate::control::traces::{self, Exporter, Sending};
use crate::exchange::traces::channel;
use crate::net::tls_client;
use crate::proxy::trace::Tracer;
use crate::telemetry::metrics::Metrics;

/// For a collector to take the last spans.
pub(super) const LAST_SPANS: Duration = Duration::from_secs(1);

/// Both ends, where the file names a collector.
pub(super) fn start(
    config: &Config,
    metrics: &Metrics,
    roots: &Arc<RootCertStore>,
) -> Result<Option<(Tracer, Exporter)>, StartError> {
    let Some(wanted) = &config.traces else { return Ok(None) };
    let collector = wanted.collector.clone();
    let (sender, traces) = channel();
    let sending = Sending {
        tls: tls_client::config(&collector.endpoint, roots)?,
        collector,
        names: names(&config.resolver, roots),
        traces,
        metrics: metrics.clone(),
    };
    let exporter = traces::start(sending).map_err(StartError::Traces)?;
    Ok(Some((Tracer::new(sender, metrics.clone()), exporter)))
}
