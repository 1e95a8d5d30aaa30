//! Certificates by server name, chosen at each TLS handshake.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

/// Certificates of one listener. Written by reload; the last good ones stay in use.
#[derive(Debug)]
pub struct CertificateShelf(ArcSwap<Certificates>);

/// One set of certificates: exact names, wildcards of one label, and the first of the file for
/// clients that name none. Several of one name differ in their keys.
#[derive(Debug, Default)]
pub struct Certificates {
    /// By lower-case name; wildcards as `*.example`. In the order in which they are offered.
    by_name: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// For clients without SNI, and for names that no certificate holds.
    first: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Of pairs in the order of the file, with the names that they hold.
    pub fn new<'a>(
        pairs: impl IntoIterator<Item = (&'a [Box<str>], &'a Arc<CertifiedKey>)>,
    ) -> Self {
        let mut by_name = HashMap::<Box<str>, Vec<Arc<CertifiedKey>>>::new();
        let mut first: Option<(Option<&Box<str>>, Arc<CertifiedKey>)> = None;
        for (names, key) in pairs {
            first.get_or_insert_with(|| (names.first(), Arc::clone(key)));
            for name in names {
                by_name.entry(name.clone()).or_default().push(Arc::clone(key));
            }
        }
        for keys in by_name.values_mut() {
            keys.sort_by_key(|key| rank(key));
        }
        // With its siblings of another key.
        let first = first.map_or_else(Vec::new, |(name, key)| {
            name.and_then(|name| by_name.get(name)).cloned().unwrap_or_else(|| vec![key])
        });
        Self { by_name, first }
    }
}

/// The cheaper a signature the sooner it is offered; RSA is for those who know nothing else.
fn rank(key: &CertifiedKey) -> u8 {
    match key.key.algorithm() {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 | SignatureAlgorithm::ED448 => 1,
        _ => 2,
    }
}

/// The first one that the client can check.
fn fitting<'a>(
    keys: &'a [Arc<CertifiedKey>],
    schemes: &[SignatureScheme],
) -> Option<&'a Arc<CertifiedKey>> {
    keys.iter().find(|key| key.key.choose_scheme(schemes).is_some())
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

    /// The certificate for a server name: exact, then wildcard, then the first; of those that the client
    /// can check by the schemes it names. Where it can check none the handshake says so.
    pub fn pick(
        &self,
        server_name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        let of = |name: &str| certificates.by_name.get(name).map(Vec::as_slice);
        let (exact, wildcard) = match server_name.map(str::to_ascii_lowercase) {
            None => (None, None),
            Some(name) => {
                let suffix = name.find('.').map(|dot| &name[dot..]);
                (of(&name), suffix.and_then(|suffix| of(&format!("*{suffix}"))))
            }
        };
        let named = exact.into_iter().chain(wildcard);
        let named = named.map(|keys| (fitting(keys, schemes), keys.first()));
        let (fit, any): (Vec<_>, Vec<_>) = named.unzip();
        let fit = fit.into_iter().flatten().next();
        let any = fit.or(any.into_iter().flatten().next());
        let first = || fitting(&certificates.first, schemes).or(certificates.first.first());
        any.or_else(first).cloned()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::sign::CertifiedKey;

    use super::*;

    const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
    const ED25519: SignatureScheme = SignatureScheme::ED25519;

    fn key(algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<CertifiedKey> {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        let certificate = params.self_signed(&key).expect("a certificate");
        let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let pair = CertifiedKey::from_der(vec![certificate.der().clone()], der, &provider);
        Arc::new(pair.expect("a pair"))
    }

    #[test]
    fn of_two_certificates_with_one_name_the_client_gets_the_one_that_it_can_check() {
        let ed25519 = key(&rcgen::PKCS_ED25519);
        let ecdsa = key(&rcgen::PKCS_ECDSA_P256_SHA256);
        let other = key(&rcgen::PKCS_ECDSA_P256_SHA256);
        let names: [Box<str>; 2] = ["www.portal.example".into(), "*.portal.example".into()];
        let others: [Box<str>; 1] = ["other.example".into()];
        let pairs = [(&names[..], &ed25519), (&names[..], &ecdsa), (&others[..], &other)];
        let shelf = CertificateShelf::new(Certificates::new(pairs));
        let www = Some("WWW.portal.example");
        for (name, schemes, expected) in [
            (www, &[ED25519, ECDSA][..], &ecdsa),
            (www, &[ED25519], &ed25519),
            (www, &[ECDSA], &ecdsa),
            (Some("api.portal.example"), &[ED25519], &ed25519),
            (Some("other.example"), &[ECDSA], &other),
            (Some("other.example"), &[ED25519], &other),
            (Some("nobodys.example"), &[ED25519], &ed25519),
            (None, &[ECDSA, ED25519], &ecdsa),
        ] {
            let picked = shelf.pick(name, schemes).expect("one");
            assert!(Arc::ptr_eq(&picked, expected), "{name:?} {schemes:?}");
        }
        assert!(CertificateShelf::new(Certificates::default()).pick(None, &[ECDSA]).is_none());
    }
}
