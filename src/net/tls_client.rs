//! TLS towards upstreams: roots, names, ALPN.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::topology::{Endpoint, HttpRule, Identity, Scheme, Topology};

/// A connection to an upstream, in cleartext or not.
#[derive(Debug)]
pub enum Stream {
    /// As dialled.
    Plain(TcpStream),
    /// After the handshake. Boxed: it is thirty times the size of the other.
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the peer chose HTTP/2 by ALPN.
    pub fn chose_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Pending while a read is known to bring nothing, so that no buffer is made for it.
    ///
    /// # Errors
    /// As the runtime's own state fails.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_read_ready(context),
            Self::Tls(_) => Poll::Ready(Ok(())),
        }
    }
}

/// Why the trust of an upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The bundle is not PEM.
    #[error("the CA bundle cannot be parsed")]
    Bundle(#[source] rustls::pki_types::pem::Error),
    /// One of its certificates cannot be a root.
    #[error("a certificate of the CA bundle is not usable")]
    Root(#[source] rustls::Error),
    /// It holds none.
    #[error("the CA bundle holds no certificate")]
    Empty,
    /// The client certificate and its key.
    #[error("the client certificate cannot be used")]
    Identity(#[source] rustls::Error),
    /// One of their files is not PEM.
    #[error("the client certificate or its key cannot be parsed")]
    IdentityPem(#[source] rustls::pki_types::pem::Error),
}

fn pair(
    identity: &Identity,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TrustError> {
    let chain: Result<_, _> = CertificateDer::pem_slice_iter(&identity.chain).collect();
    let key = PrivateKeyDer::from_pem_slice(&identity.key).map_err(TrustError::IdentityPem)?;
    Ok((chain.map_err(TrustError::IdentityPem)?, key))
}

/// The last second of the certificate that the other side showed; `None` in cleartext, and where it
/// cannot be read.
pub fn end_of_certificate(stream: &Stream) -> Option<SystemTime> {
    let Stream::Tls(tls) = stream else { return None };
    let shown = tls.get_ref().1.peer_certificates()?.first()?;
    let (_, parsed) = X509Certificate::from_der(shown).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The system's roots, and the bundled ones where the system has none (small images).
pub fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // Unreadable single certificates are skipped: one bad file must not take all trust away.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(roots)
}

/// TLS towards somebody who is no upstream: these roots, no client certificate.
pub fn bare(roots: RootCertStore) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_protocol_versions(rustls::ALL_VERSIONS);
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// TLS settings for each upstream of a topology, index for index; `None` for cleartext ones.
///
/// # Errors
/// The first bundle that cannot be used; `config` has checked each of them before.
pub fn configs(
    topology: &Topology,
    system: &Arc<RootCertStore>,
) -> Result<Arc<[Option<Arc<ClientConfig>>]>, TrustError> {
    topology.upstreams.iter().map(|upstream| config(&upstream.endpoint, system)).collect()
}

/// TLS settings for one endpoint; `None` for a cleartext one.
///
/// # Errors
/// When its own CA bundle cannot be used.
pub fn config(
    endpoint: &Endpoint,
    system: &Arc<RootCertStore>,
) -> Result<Option<Arc<ClientConfig>>, TrustError> {
    if endpoint.scheme == Scheme::Http {
        return Ok(None);
    }
    let roots = match &endpoint.ca {
        None => Arc::clone(system),
        Some(pem) => Arc::new(bundle(pem)?),
    };
    let config = ClientConfig::builder_with_protocol_versions(rustls::ALL_VERSIONS)
        .with_root_certificates(roots);
    let mut config = match &endpoint.identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let (chain, key) = pair(identity)?;
            config.with_client_auth_cert(chain, key).map_err(TrustError::Identity)?
        }
    };
    config.alpn_protocols = match endpoint.http {
        HttpRule::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        HttpRule::Http1 => vec![b"http/1.1".to_vec()],
        HttpRule::Http2 => vec![b"h2".to_vec()],
    };
    Ok(Some(Arc::new(config)))
}

/// The same, for a connection that has to speak HTTP/1.1.
pub fn only_http1(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The roots of a PEM bundle.
///
/// # Errors
/// When it is not PEM, holds no certificate or one that cannot be a root.
pub fn bundle(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(TrustError::Bundle)?).map_err(TrustError::Root)?;
    }
    if roots.is_empty() { Err(TrustError::Empty) } else { Ok(roots) }
}

/// The name for SNI and the certificate: a host name, or an address without its brackets.
/// `None` when it is neither.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Some(ServerName::from(ip)),
        Err(_) => ServerName::try_from(bare.to_owned()).ok(),
    }
}

/// Whether a handshake failed because the other side is not who it should be.
pub fn is_about_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// Shakes hands; the caller bounds it by a timeout.
///
/// # Errors
/// As the handshake or the connection fails.
pub async fn handshake(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> io::Result<Stream> {
    let tls = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Stream::Tls(Box::new(tls)))
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            // A head alone is the everyday case, and a plain write the kernel's shorter way.
            Self::Plain(stream) if let [one] = bytes => Pin::new(stream).poll_write(context, one),
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
