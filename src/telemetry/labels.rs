//! Label values that no word of the model has, as closed lists.

/// How a reload went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReloadResult {
    /// The new configuration serves.
    Success,
    /// It was refused; the old one goes on serving.
    Failure,
}

impl ReloadResult {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Success, Self::Failure];

    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// Whom a certificate is shown to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateSide {
    /// Clients.
    Clients,
    /// To us, by upstreams.
    Upstreams,
}

impl CertificateSide {
    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Upstreams => "upstreams",
        }
    }
}

/// What can be let go when its queue is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dropped {
    /// Notes, pairs and look-ups on their way to the detector.
    Evidence,
    /// Reports of probes and of control targets, likewise.
    ProbeReport,
    /// Lines of the journal on their way to the disk.
    Journal,
    /// Lines of the access log.
    AccessLog,
    /// Lines of the log on their way to standard error.
    Log,
    /// Spans on their way to a collector.
    Traces,
}

impl Dropped {
    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::ProbeReport => "probe_report",
            Self::Journal => "journal",
            Self::AccessLog => "access_log",
            Self::Log => "log",
            Self::Traces => "traces",
        }
    }
}

/// What is kept in `state_dir`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    /// What a restart goes on from.
    Memory,
    /// What happened.
    Journal,
}

impl Kept {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Memory, Self::Journal];

    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Journal => "journal",
        }
    }
}

/// How a write to `state_dir` went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// It is on disk.
    Success,
    /// It is not.
    Failure,
}

impl Written {
    /// As a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// The service of what belongs to no service.
pub const NO_SERVICE: &str = "none";
