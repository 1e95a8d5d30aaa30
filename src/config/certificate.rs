//! PEM files to a certificate with its key, checked to belong together, and to CA bundles.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Certificate;
use super::values::Flaw;

/// Longest PEM file, in bytes; a system's whole bundle is a quarter of it.
pub(super) const MAX_PEM: u64 = 1024 * 1024;

/// The certificates of a PEM file, the first one's own names and life.
#[derive(Debug)]
pub(super) struct Chain {
    certificates: Vec<CertificateDer<'static>>,
    names: Vec<Box<str>>,
    /// First and last second.
    life: (SystemTime, SystemTime),
}

impl Chain {
    /// Of a PEM file.
    pub(super) fn parse(pem: &[u8]) -> Result<Self, Flaw> {
        let certificates = certificates(pem)?;
        let first = certificates.first().ok_or_else(|| {
            Flaw::new(
                "it holds no certificate; a PEM file has a line `-----BEGIN CERTIFICATE-----`",
            )
        })?;
        let (_, parsed) = X509Certificate::from_der(first)
            .map_err(|error| Flaw::new(format!("its first certificate is damaged ({error})")))?;
        let names = names(&parsed);
        let life = parsed.validity();
        let life = (second(life.not_before.timestamp()), second(life.not_after.timestamp()));
        Ok(Self { names, life, certificates })
    }

    /// With its key, if it is its key; `file` is what the chain was read from.
    pub(super) fn with_key(
        self,
        key: PrivateKeyDer<'static>,
        file: &str,
    ) -> Result<Certificate, Flaw> {
        let Self { certificates, names, life: (not_before, not_after) } = self;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(certificates, key, &provider).map_err(|error| {
            Flaw::new(match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    "it is another certificate's key; name the one that was made with this certificate"
                        .to_owned()
                }
                other => format!("it cannot be used ({other})"),
            })
        })?;
        let file = file.into();
        Ok(Certificate { names, file, not_before, not_after, key: Arc::new(key) })
    }
}

/// A second of Unix time; what lies before its beginning is taken for that.
fn second(timestamp: i64) -> SystemTime {
    let seconds = u64::try_from(timestamp).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// The private key of a PEM file.
pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Flaw> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        Flaw::new("it holds no private key; a PEM file has a line `-----BEGIN PRIVATE KEY-----`")
    })
}

/// Checks a bundle of authorities.
pub(super) fn bundle(pem: &[u8]) -> Result<(), Flaw> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| {
            Flaw::new(format!("one of its certificates cannot be used ({error})"))
        })?;
    }
    if roots.is_empty() {
        return Err(Flaw::new("it holds no certificate; it would trust nobody"));
    }
    Ok(())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Flaw> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| Flaw::new(format!("it is not PEM ({error})")))
}

/// DNS names and addresses of the subject alternative names, in lower case.
fn names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn name(name: &GeneralName<'_>) -> Option<Box<str>> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(std::net::IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*octets).map(std::net::IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string().into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned(), "192.0.2.1".to_owned()]);
        let made = made.expect("certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_says_its_names_and_needs_its_own_key() {
        let (certificate, key) = made("WWW.portal.example");
        let chain = || Chain::parse(certificate.as_bytes()).expect("chain");
        let whole = chain().with_key(private_key(key.as_bytes()).expect("key"), "a.pem");
        let whole = whole.expect("pair");
        assert_eq!(whole.names, ["www.portal.example".into(), "192.0.2.1".into()]);
        assert!(whole.not_after > whole.not_before);
        assert!(whole.is_valid(whole.not_before) && whole.is_valid(whole.not_after));
        assert!(!whole.is_valid(whole.not_before - Duration::from_secs(1)));
        assert!(!whole.is_valid(whole.not_after + Duration::from_secs(1)));
        let (_, foreign) = made("other.example");
        let mixed = chain().with_key(private_key(foreign.as_bytes()).expect("key"), "a.pem");
        assert!(mixed.expect_err("foreign key").0.contains("another certificate's key"));
    }

    #[test]
    fn what_is_not_a_certificate_or_a_key_is_refused() {
        let (certificate, key) = made("www.portal.example");
        assert!(Chain::parse(b"").is_err());
        assert!(Chain::parse(key.as_bytes()).is_err());
        assert!(Chain::parse(&certificate.as_bytes()[..200]).is_err());
        assert!(private_key(certificate.as_bytes()).is_err());
        assert!(bundle(key.as_bytes()).is_err());
        assert!(bundle(certificate.as_bytes()).is_ok());
    }
}
