//! What is counted as it happens because it happens rarely: failovers, probes, look-ups, reloads.
//! What every request touches is counted in the workers' own rows instead and summed at a scrape.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, histogram_opts,
};

use super::families::{self, Family};
use super::labels::{CertificateSide, Kept, ReloadResult, Written};
use super::log::Lost;
use crate::model::drill::DrillEnd;
use crate::model::id::{Label, UpstreamKey};
use crate::model::signal::ProbeResult;

/// Seconds within which an outage should be noticed.
const DETECTION_BOUNDS: [f64; 12] =
    [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Seconds within which a decision should be in force.
const SWITCH_BOUNDS: [f64; 10] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1];
/// Seconds a probe may take; its timeout is some seconds.
const PROBE_BOUNDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Handles of the rare families. Clone freely: all clones count into the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    failovers: IntCounterVec,
    failbacks: IntCounterVec,
    detection: HistogramVec,
    switch: HistogramVec,
    probes: IntCounterVec,
    probe_duration: HistogramVec,
    origin_probes: IntCounterVec,
    dns_failures: IntCounterVec,
    drills: IntCounterVec,
    reloads: IntCounterVec,
    reload_failed: IntGauge,
    config_generation: IntGauge,
    last_success: Gauge,
    certificate_expiry: GaugeVec,
    parity_mismatch: IntGaugeVec,
    state_writes: IntCounterVec,
    state_write_failed: IntGaugeVec,
    journal_dropped: Arc<AtomicU64>,
    access_log_dropped: Arc<AtomicU64>,
    log_lost: Lost,
    spans_dropped: Arc<AtomicU64>,
}

/// A change of a service's first candidate.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    /// Whose.
    pub service: &'a Label,
    /// The provider of the first candidate before.
    pub from: &'a Label,
    /// The provider of the first candidate now.
    pub to: &'a Label,
    /// Why, as [`Reason::as_str`](crate::model::health::Reason::as_str) says it.
    pub reason: &'static str,
}

impl Move<'_> {
    fn labels(&self) -> [&str; 4] {
        [self.service.as_str(), self.from.as_str(), self.to.as_str(), self.reason]
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let metrics = Self {
            failovers: counters(&families::FAILOVERS, &registry),
            failbacks: counters(&families::FAILBACKS, &registry),
            detection: histograms(&families::FAILOVER_DETECTION, &DETECTION_BOUNDS, &registry),
            switch: histograms(&families::FAILOVER_SWITCH, &SWITCH_BOUNDS, &registry),
            probes: counters(&families::PROBES, &registry),
            probe_duration: histograms(&families::PROBE_DURATION, &PROBE_BOUNDS, &registry),
            origin_probes: counters(&families::ORIGIN_PROBES, &registry),
            dns_failures: counters(&families::DNS_FAILURES, &registry),
            drills: counters(&families::DRILLS, &registry),
            reloads: counters(&families::CONFIG_RELOADS, &registry),
            reload_failed: registered(
                IntGauge::with_opts(options(&families::CONFIG_RELOAD_FAILED)),
                &registry,
            ),
            config_generation: registered(
                IntGauge::with_opts(options(&families::CONFIG_GENERATION)),
                &registry,
            ),
            last_success: registered(
                Gauge::with_opts(options(&families::CONFIG_LAST_SUCCESS)),
                &registry,
            ),
            certificate_expiry: registered(
                GaugeVec::new(
                    options(&families::CERTIFICATE_EXPIRY),
                    families::CERTIFICATE_EXPIRY.labels,
                ),
                &registry,
            ),
            parity_mismatch: gauges(&families::PARITY_MISMATCH, &registry),
            state_writes: counters(&families::STATE_WRITES, &registry),
            state_write_failed: gauges(&families::STATE_WRITE_FAILED, &registry),
            journal_dropped: Arc::default(),
            access_log_dropped: Arc::default(),
            log_lost: Lost::default(),
            spans_dropped: Arc::default(),
            registry,
        };
        for what in Kept::ALL {
            metrics.state_write_failed.with_label_values(&[what.as_str()]).set(0);
        }
        for result in ReloadResult::ALL {
            // From the start, so that an alert on an increase sees the first one.
            metrics.reloads.with_label_values(&[result.as_str()]).reset();
        }
        metrics
    }

    /// Tells also what the log of the process lost.
    pub fn beside(self, log_lost: Lost) -> Self {
        Self { log_lost, ..self }
    }

    /// As of now, by family; families without a number yet are absent.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// A verdict moved everyone; `detection` counts from the first failure, where one was found.
    pub fn failover(&self, moved: Move<'_>, detection: Option<Duration>) {
        self.failovers.with_label_values(&moved.labels()).inc();
        if let Some(detection) = detection {
            let service = moved.service.as_str();
            self.detection.with_label_values(&[service]).observe(detection.as_secs_f64());
        }
    }

    /// A failover is in force `took` after it was decided.
    pub fn switched(&self, service: &Label, took: Duration) {
        self.switch.with_label_values(&[service.as_str()]).observe(took.as_secs_f64());
    }

    /// The preferred upstream is first again.
    pub fn failback(&self, moved: Move<'_>) {
        self.failbacks.with_label_values(&moved.labels()).inc();
    }

    /// A probe of an upstream ended.
    pub fn probe(&self, upstream: &UpstreamKey, result: ProbeResult, took: Duration) {
        let labels = [upstream.service.as_str(), upstream.provider.as_str(), result.as_str()];
        self.probes.with_label_values(&labels).inc();
        self.probe_duration.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// A probe of an origin itself ended.
    pub fn origin_probe(&self, service: &Label, result: ProbeResult) {
        self.origin_probes.with_label_values(&[service.as_str(), result.as_str()]).inc();
    }

    /// A rehearsed failover ended.
    pub fn drilled(&self, service: &Label, end: DrillEnd) {
        self.drills.with_label_values(&[service.as_str(), end.as_str()]).inc();
    }

    /// A look-up brought no address. The name is one of the file's.
    pub fn dns_failure(&self, name: &str) {
        self.dns_failures.with_label_values(&[name]).inc();
    }

    /// A configuration serves: the first one, or a new one after a reload. `since_1970` is now.
    pub fn config_taken(&self, since_1970: Duration) {
        self.reload_failed.set(0);
        self.config_generation.inc();
        self.last_success.set(since_1970.as_secs_f64());
    }

    /// The certificates in force, each by its first name with its last second since 1970; where two
    /// have the same name, the earlier end is told.
    pub fn certificates<'a>(&self, ends: impl Iterator<Item = (&'a str, Duration)>) {
        let mut earliest: BTreeMap<&str, Duration> = BTreeMap::new();
        for (subject, end) in ends {
            let known = earliest.entry(subject).or_insert(end);
            *known = end.min(*known);
        }
        self.certificate_expiry.reset();
        let side = CertificateSide::Clients.as_str();
        for (subject, end) in earliest {
            self.certificate_expiry.with_label_values(&[subject, side]).set(end.as_secs_f64());
        }
    }

    /// An upstream showed a certificate for this name that ends then.
    pub fn certificate_shown(&self, name: &str, end: Duration) {
        let side = CertificateSide::Upstreams.as_str();
        self.certificate_expiry.with_label_values(&[name, side]).set(end.as_secs_f64());
    }

    /// Whether an upstream that could be compared with the first choice of its service answers
    /// otherwise; where a provider has several in one service, whether any does.
    pub fn parity(&self, upstream: &UpstreamKey, differs: bool) {
        let labels = [upstream.service.as_str(), upstream.provider.as_str()];
        self.parity_mismatch.with_label_values(&labels).set(i64::from(differs));
    }

    /// Forgets all of these: another configuration may have others.
    pub fn parity_anew(&self) {
        self.parity_mismatch.reset();
    }

    /// Something was written to `state_dir`, or was not.
    pub fn kept(&self, what: Kept, result: Written) {
        self.state_writes.with_label_values(&[what.as_str(), result.as_str()]).inc();
        let failed = i64::from(result == Written::Failure);
        self.state_write_failed.with_label_values(&[what.as_str()]).set(failed);
    }

    /// A line of the journal found no place on its way to the disk.
    pub fn journal_dropped(&self) {
        self.journal_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many did not.
    pub fn journal_lines_dropped(&self) -> u64 {
        self.journal_dropped.load(Ordering::Relaxed)
    }

    /// Lines of the access log were let go.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// How many were.
    pub fn access_log_lines_dropped(&self) -> u64 {
        self.access_log_dropped.load(Ordering::Relaxed)
    }

    /// How many lines the log lost.
    pub fn log_lines_lost(&self) -> u64 {
        self.log_lost.lines()
    }

    /// Spans found no place on their way to a collector, or it did not take them.
    pub fn drop_spans(&self, spans: u64) {
        self.spans_dropped.fetch_add(spans, Ordering::Relaxed);
    }

    /// How many were.
    pub fn spans_dropped(&self) -> u64 {
        self.spans_dropped.load(Ordering::Relaxed)
    }

    /// A reload ended.
    pub fn reload(&self, result: ReloadResult) {
        self.reloads.with_label_values(&[result.as_str()]).inc();
        if result == ReloadResult::Failure {
            self.reload_failed.set(1);
        }
    }
}

fn options(family: &Family) -> Opts {
    Opts::new(family.name, family.help)
}

fn counters(family: &Family, registry: &Registry) -> IntCounterVec {
    registered(IntCounterVec::new(options(family), family.labels), registry)
}

fn gauges(family: &Family, registry: &Registry) -> IntGaugeVec {
    registered(IntGaugeVec::new(options(family), family.labels), registry)
}

fn histograms(family: &Family, bounds: &[f64], registry: &Registry) -> HistogramVec {
    let options: HistogramOpts = histogram_opts!(family.name, family.help, bounds.to_vec());
    registered(HistogramVec::new(options, family.labels), registry)
}

fn registered<C: Collector + Clone + 'static>(
    made: prometheus::Result<C>,
    registry: &Registry,
) -> C {
    let collector = made.expect("names and labels of families.rs are valid: its test reads them");
    registry.register(Box::new(collector.clone())).expect("each family is registered once, above");
    collector
}
