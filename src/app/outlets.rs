//! What workers write into besides metrics, the access log and traces, with the threads at the other ends.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

use super::StartError;
use crate::config::Config;
use crate::telemetry::access_log::{self, Aim, Sink, Writer};
use crate::telemetry::metrics::Metrics;

/// For a disk to take the last lines of the access log.
const LAST_LINES: Duration = Duration::from_secs(2);
/// For a collector to take the last spans.
#[cfg(feature = "otlp")]
const LAST_SPANS: Duration = Duration::from_secs(1);

/// The workers' ends.
pub(super) struct Outlets {
    pub(super) access_log: Sink,
    /// Says where its lines go.
    pub(super) aim: Aim,
    #[cfg(feature = "otlp")]
    pub(super) traces: Option<crate::proxy::trace::Tracer>,
    pub(super) ends: Ends,
}

/// The other ends.
#[derive(Debug)]
pub(super) struct Ends {
    writer: Writer,
    #[cfg(feature = "otlp")]
    exporter: Option<crate::control::traces::Exporter>,
}

impl Outlets {
    /// Starts the threads.
    pub(super) fn open(
        config: &Config,
        metrics: &Metrics,
        roots: &Arc<RootCertStore>,
    ) -> Result<Self, StartError> {
        let target = config.access_log.as_ref().map(|log| log.target.clone());
        let (access_log, aim, writer) =
            access_log::start(target, metrics).map_err(StartError::AccessLog)?;
        #[cfg(feature = "otlp")]
        let (traces, exporter) = traces(config, metrics, roots)?.unzip();
        #[cfg(not(feature = "otlp"))]
        let _: &Arc<RootCertStore> = roots;
        let ends = Ends {
            writer,
            #[cfg(feature = "otlp")]
            exporter,
        };
        Ok(Self {
            access_log,
            aim,
            #[cfg(feature = "otlp")]
            traces,
            ends,
        })
    }
}

impl Ends {
    /// Waits, not for ever, until everything has gone out that the workers wrote before they ended.
    pub(super) fn wait(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter {
            exporter.end(LAST_SPANS);
        }
        self.writer.wait(LAST_LINES);
    }
}

/// Both ends of the way to a collector, where the file names one.
#[cfg(feature = "otlp")]
fn traces(
    config: &Config,
    metrics: &Metrics,
    roots: &Arc<RootCertStore>,
) -> Result<Option<(crate::proxy::trace::Tracer, crate::control::traces::Exporter)>, StartError> {
    use crate::control::traces::{self, Sending};

    let Some(wanted) = &config.traces else { return Ok(None) };
    let collector = wanted.collector.clone();
    let (sender, traces) = crate::exchange::traces::channel();
    let sending = Sending {
        tls: crate::net::tls_client::config(&collector.endpoint, roots)?,
        collector,
        names: super::names(&config.resolver, roots),
        traces,
        metrics: metrics.clone(),
    };
    let exporter = traces::start(sending).map_err(StartError::Traces)?;
    Ok(Some((crate::proxy::trace::Tracer::new(sender, metrics.clone()), exporter)))
}
