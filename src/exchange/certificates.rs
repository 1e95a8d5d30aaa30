//! Certificates by server name, chosen at each TLS handshake.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;

/// Certificates of one listener. Written by reload; the last good ones stay in use.
#[derive(Debug)]
pub struct CertificateShelf(ArcSwap<Certificates>);

/// One set of certificates: exact names, wildcards of one label, and the first of the file for
/// clients that name none.
#[derive(Debug, Default)]
pub struct Certificates {
    /// By lower-case name; wildcards as `*.example`.
    pub by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// For clients without SNI, and for names that no certificate holds.
    pub first: Option<Arc<CertifiedKey>>,
}

impl CertificateShelf {
    /// With a first set.
    pub fn new(certificates: Certificates) -> Self {
        Self(ArcSwap::from_pointee(certificates))
    }

    /// By reload only.
    pub fn replace(&self, certificates: Certificates) {
        self.0.store(Arc::new(certificates));
    }

    /// The certificate for a server name: exact, then wildcard, then the first.
    pub fn pick(&self, server_name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        let named = server_name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            certificates.by_name.get(name.as_str()).or_else(|| {
                let suffix = &name[name.find('.')?..];
                certificates.by_name.get(format!("*{suffix}").as_str())
            })
        });
        named.or(certificates.first.as_ref()).cloned()
    }
}
