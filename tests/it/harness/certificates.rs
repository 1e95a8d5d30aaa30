//! Certificates made on the spot: one authority a run, leaves as tests need them.

use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate authority that only this run of the tests trusts.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
pub struct Leaf {
    pub certificate: String,
    pub key: String,
}

/// The authority of this run.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(Authority::new)
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names, no error");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("authority");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// The authority's own certificate, for `ca_file`.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for these names or addresses.
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_in(names, 1975, 4096)
    }

    /// A certificate whose life begins and ends with these years.
    pub fn leaf_in(&self, names: &[&str], first: i32, last: i32) -> Leaf {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(first, 1, 1);
        params.not_after = rcgen::date_time_ymd(last, 1, 1);
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("leaf");
        Leaf { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// TLS of a stand-in upstream with these ALPN names.
    pub fn server(&self, names: &[&str], alpn: &[&str]) -> Arc<ServerConfig> {
        self.server_that(WebPkiClientVerifier::no_client_auth(), names, alpn)
    }

    /// The same, which takes nobody but clients with a certificate of this authority.
    pub fn server_for_known(&self, names: &[&str], alpn: &[&str]) -> Arc<ServerConfig> {
        let verifier = WebPkiClientVerifier::builder(Arc::new(self.roots())).build();
        self.server_that(verifier.expect("a root"), names, alpn)
    }

    fn server_that(
        &self,
        verifier: Arc<dyn ClientCertVerifier>,
        names: &[&str],
        alpn: &[&str],
    ) -> Arc<ServerConfig> {
        let Leaf { certificate, key } = self.leaf(names);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("pem")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("pem");
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .expect("certificate and key");
        config.alpn_protocols = wire_names(alpn);
        Arc::new(config)
    }

    /// Whom its clients trust.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("root");
        roots
    }

    /// TLS of a client that trusts this authority only and offers these ALPN names.
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut config =
            ClientConfig::builder().with_root_certificates(self.roots()).with_no_client_auth();
        config.alpn_protocols = wire_names(alpn);
        Arc::new(config)
    }
}

fn wire_names(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}
