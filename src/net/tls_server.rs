//! TLS towards clients: one server configuration per listener around a shelf of certificates.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::exchange::certificates::CertificateShelf;

/// Least version to speak with clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeastVersion {
    /// 1.2 and 1.3.
    V1_2,
    /// 1.3 only.
    V1_3,
}

/// The configuration of one listener: HTTP/2 first, HTTP/1.1 next, certificates by SNI.
///
/// # Errors
/// When the ticketer cannot get random bytes.
pub fn config(
    shelf: Arc<CertificateShelf>,
    least: LeastVersion,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let versions: &[&rustls::SupportedProtocolVersion] = match least {
        LeastVersion::V1_2 => rustls::ALL_VERSIONS,
        LeastVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_protocol_versions(versions)
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByServerName(shelf)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Without one rustls hands out no TLS 1.3 tickets; this one rotates its keys by itself.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct ByServerName(Arc<CertificateShelf>);

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.pick(hello.server_name(), hello.signature_schemes())
    }
}
