//! Limits and trust as plain values, swapped whole by reload, looked at for each request.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

use crate::model::access_log::AccessLog;
use crate::model::limits::Limits;

/// What one connection goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds on what it can take.
    pub limits: Limits,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which requests are written down.
    pub access_log: Option<AccessLog>,
    /// Share of the requests that are traced of our own accord; `None`: none is, nobody's.
    #[cfg(feature = "otlp")]
    pub traces: Option<crate::model::unit::Permille>,
}

impl Settings {
    /// Whether an address is one of `trusted_proxies`.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|range| range.contains(&address))
    }
}

/// The current settings. Clone freely.
#[derive(Clone, Debug)]
pub struct SettingsCell(Arc<ArcSwap<Settings>>);

impl SettingsCell {
    /// With the first settings.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// Read once per connection.
    pub fn current(&self) -> Arc<Settings> {
        self.0.load_full()
    }

    /// The current ones, where they are others than those. Asked for each request: it counts no
    /// reference that all workers share, unless there is something new.
    pub fn newer_than(&self, known: &Arc<Settings>) -> Option<Arc<Settings>> {
        let current = self.0.load();
        (!Arc::ptr_eq(&current, known)).then(|| Arc::clone(&current))
    }

    /// By reload only.
    pub fn replace(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }
}
