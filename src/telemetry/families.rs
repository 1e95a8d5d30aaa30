//! Every metric family, declared once: name, help, kind, labels. Where its numbers come from is
//! somebody else's affair: [`Metrics`](super::metrics::Metrics) counts the rare ones, and a scrape
//! sums the frequent ones over the workers' own counters.

/// One family as it is announced to Prometheus.
#[derive(Debug, Eq, PartialEq)]
pub struct Family {
    /// With its prefix.
    pub name: &'static str,
    /// One sentence for the person who finds it.
    pub help: &'static str,
    /// What its numbers do.
    pub kind: Kind,
    /// Names of its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
}

/// What the numbers of a family do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grow.
    Counter,
    /// Go up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Family = Family {
                name: $name,
                help: $help,
                kind: Kind::$kind,
                labels: &[$($label),*],
            };
        )*

        /// All of them, in the order of this file.
        pub const ALL: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    REQUESTS: Counter "bascule_requests_total" ["service", "code"]
        "Answers to clients by class of their code; service none: no service was found for it.";
    REQUEST_DURATION: Histogram "bascule_request_duration_seconds" ["service"]
        "From a request's head to its answer's head, all attempts included.";
    REQUESTS_IN_FLIGHT: Gauge "bascule_requests_in_flight" ["service"]
        "Requests whose answer has not ended yet.";
    ATTEMPTS: Counter "bascule_attempts_total" ["service", "provider", "outcome"]
        "Attempts at an upstream by what they came to, those that a retry masked included.";
    ATTEMPT_DURATION: Histogram "bascule_attempt_duration_seconds" ["service", "provider"]
        "From the start of an attempt to its answer's head.";
    BYTES: Counter "bascule_bytes_total" ["service", "provider", "jurisdiction", "direction"]
        "Body bytes to and from upstreams.";
    UPSTREAM_HEALTH: Gauge "bascule_upstream_health" ["service", "provider", "health"]
        "1 for the health that an upstream has, 0 for the others.";
    UPSTREAM_SHARE: Gauge "bascule_upstream_share" ["service", "provider"]
        "Share of the safe requests that an upstream is given, 0 to 1.";
    ACTIVE_UPSTREAM: Gauge "bascule_active_upstream" ["service", "provider", "jurisdiction"]
        "1 for the first candidate of a service, 0 for the others.";
    FALLBACK_OUTSIDE_EU: Gauge "bascule_fallback_outside_eu" ["service"]
        "1 while a prefer-eu service is served from outside the EU by other than its first choice.";
    ORIGIN_INCIDENT: Gauge "bascule_origin_incident" ["service"]
        "1 while the origin itself is found at fault.";
    COMMON_CAUSE: Gauge "bascule_common_cause" ["service"]
        "1 while our own network or resolver is found at fault and the plan is frozen.";
    DRILL_ACTIVE: Gauge "bascule_drill_active" ["service"]
        "1 while a failover of the service is rehearsed.";
    DRILLS: Counter "bascule_drills_total" ["service", "result"]
        "Rehearsed failovers that have ended.";
    PARTS_MOVED: Gauge "bascule_parts_moved" ["service"]
        "Parts of a service's requests that are served by others than the rest.";
    FAIL_OPEN: Gauge "bascule_fail_open" ["service"]
        "1 while every permitted upstream is bad and the least bad serves.";
    FAIL_CLOSED: Gauge "bascule_fail_closed" ["service"]
        "1 while policy permits no upstream and the page is served.";
    ORIGIN_MARKER_ARMED: Gauge "bascule_origin_marker_armed" ["service", "provider"]
        "1 while the absence of the origin marker counts as a failure.";
    GRAY_ALERT: Gauge "bascule_gray_alert" ["service", "provider"]
        "1 while a few per cent fail without enough evidence to leave the upstream.";
    RETRIES: Counter "bascule_retries_total" ["service"]
        "Attempts beyond a request's first.";
    RETRY_BUDGET_EXHAUSTED: Counter "bascule_retry_budget_exhausted_total" ["service"]
        "Retries that the budget refused.";
    SPILLED: Counter "bascule_spilled_total" ["service"]
        "Requests that went to another upstream than planned, because that could hold no more.";
    OVERLOAD_REFUSALS: Counter "bascule_overload_refusals_total" ["service"]
        "Requests answered with 503 because no upstream could hold more.";
    UPSTREAM_ADMITS: Gauge "bascule_upstream_admits" ["service", "provider"]
        "Share of what the plan gives an upstream that it can hold, 0 to 1.";
    PROVIDER_DEMOTED: Gauge "bascule_provider_demoted" ["provider"]
        "1 while a provider is avoided by every service, because several tripped on it.";
    FAILOVERS: Counter "bascule_failovers_total" ["service", "from", "to", "reason"]
        "Changes of a service's first candidate because the one before could not serve.";
    FAILBACKS: Counter "bascule_failbacks_total" ["service", "from", "to", "reason"]
        "Returns to the preferred upstream.";
    FAILOVER_DETECTION: Histogram "bascule_failover_detection_seconds" ["service"]
        "From the first failure that led to a failover to the decision.";
    FAILOVER_SWITCH: Histogram "bascule_failover_switch_seconds" ["service"]
        "From the decision to the snapshot that every new request reads.";
    PROBES: Counter "bascule_probes_total" ["service", "provider", "result"]
        "Probes of upstreams by what they came to.";
    PROBE_DURATION: Histogram "bascule_probe_duration_seconds" ["service", "provider", "result"]
        "From dialling to the verdict on a probe.";
    ORIGIN_PROBES: Counter "bascule_origin_probes_total" ["service", "result"]
        "Probes of origins themselves by what they came to.";
    OVERRIDE_ACTIVE: Gauge "bascule_override_active" ["service", "provider", "order"]
        "1 while the operator's order is in force for an upstream, 0 for the others.";
    ROUTING_GENERATION: Gauge "bascule_routing_generation" []
        "Number of the routing snapshot in force.";
    DROPPED: Counter "bascule_dropped_total" ["what"]
        "What found its queue full and was let go.";
    CONNECTIONS: Gauge "bascule_connections" ["listener"]
        "Client connections that are open.";
    CONNECTIONS_REJECTED: Counter "bascule_connections_rejected_total" ["listener", "reason"]
        "Client connections that were turned away.";
    REQUESTS_REJECTED: Counter "bascule_requests_rejected_total" ["listener", "reason"]
        "Requests that were answered without a service.";
    UNTRUSTED_PROXY: Gauge "bascule_untrusted_proxy" ["listener"]
        "1 while nearly all connections come from one network that names others and is not trusted.";
    DNS_ANSWER_AGE: Gauge "bascule_dns_answer_age_seconds" ["name"]
        "Age of the addresses in use for an upstream's name.";
    DNS_FAILURES: Counter "bascule_dns_failures_total" ["name"]
        "Look-ups that brought no address.";
    CONFIG_RELOADS: Counter "bascule_config_reloads_total" ["result"]
        "Attempts to load a changed configuration.";
    CONFIG_RELOAD_FAILED: Gauge "bascule_config_reload_failed" []
        "1 while the configuration on disk is refused and an older one serves.";
    CONFIG_GENERATION: Gauge "bascule_config_generation" []
        "How many configurations were taken over since the start, the first one included.";
    CONFIG_LAST_SUCCESS: Gauge "bascule_config_last_reload_success_timestamp_seconds" []
        "When a configuration was last taken over, in seconds since 1970.";
    CERTIFICATE_EXPIRY: Gauge "bascule_certificate_expiry_timestamp_seconds" ["subject", "side"]
        "Last second of a certificate, since 1970.";
    STATE_WRITES: Counter "bascule_state_writes_total" ["what", "result"]
        "Writes to state_dir.";
    STATE_WRITE_FAILED: Gauge "bascule_state_write_failed" ["what"]
        "1 while the last write to state_dir failed: a restart would go on from something older.";
    BUILD_INFO: Gauge "bascule_build_info" ["version"]
        "Always 1; the label tells the version.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" []
        "Processor time of the process, user and system.";
    PROCESS_RESIDENT_MEMORY: Gauge "process_resident_memory_bytes" []
        "Resident memory of the process.";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" []
        "Open file descriptors of the process.";
    PROCESS_MAX_FDS: Gauge "process_max_fds" []
        "File descriptors that the process may open.";
    PROCESS_START_TIME: Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are a promise: dashboards and alerts hang on them.
    #[test]
    fn the_families_are_those_of_the_golden_list() {
        let listed: String = ALL
            .iter()
            .map(|f| {
                let line = format!("{} {} {}", f.name, f.kind.as_str(), f.labels.join(","));
                format!("{}\n", line.trim_end())
            })
            .collect();
        assert_eq!(listed, include_str!("../../tests/golden/metrics.txt"));
    }

    #[test]
    fn only_counters_are_called_total() {
        for family in ALL {
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == Kind::Counter,
                "{}",
                family.name
            );
        }
    }
}
