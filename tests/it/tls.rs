//! TLS towards clients: the right certificate, the right protocol, and new files without a restart.

use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::certificates::authority;
use crate::harness::client::{Ask, Speak, tls};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{FakeUpstream, Transport};
use crate::harness::{PORTAL, within};

const API: &str = "api.portal.example";

async fn handshake(
    proxy: &RunningProxy,
    name: &str,
    alpn: &[&str],
) -> anyhow::Result<TlsStream<TcpStream>> {
    within("a handshake", tls(proxy.tls, name, alpn)).await
}

fn leaf(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().expect("a chain");
    chain[0].clone().into_owned()
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate() {
    let stage = Stage::plain().await;
    // The client trusts a certificate only for the name it asked for, so a handshake is proof.
    let portal = handshake(&stage.proxy, PORTAL, &[]).await.expect("the portal's certificate");
    let api = handshake(&stage.proxy, API, &[]).await.expect("the API's certificate");
    assert_ne!(leaf(&portal), leaf(&api));
    let unknown = handshake(&stage.proxy, "other.example", &[]).await;
    assert!(unknown.is_err(), "nobody gets a certificate for a name we do not hold");
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let stage = Stage::plain().await;
    let table: [(&[&str], Option<&[u8]>); 4] = [
        (&["h2", "http/1.1"], Some(b"h2")),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ];
    for (offered, chosen) in table {
        let stream = handshake(&stage.proxy, PORTAL, offered).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen, "{offered:?}");
    }
    assert!(handshake(&stage.proxy, PORTAL, &["gopher"]).await.is_err());
}

#[tokio::test]
async fn post_quantum_key_exchange_comes_first() {
    let stage = Stage::plain().await;
    let stream = handshake(&stage.proxy, PORTAL, &[]).await.expect("a handshake");
    let connection = stream.get_ref().1;
    assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = connection.negotiated_key_exchange_group().expect("known").name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

/// One handshake and one answer, with which the tickets for the next handshake come.
async fn visit(
    proxy: &RunningProxy,
    client: &Arc<ClientConfig>,
) -> (Option<rustls::HandshakeKind>, Option<rustls::ProtocolVersion>) {
    let stream = TcpStream::connect(proxy.tls).await.expect("a connection");
    let name = PORTAL.try_into().expect("a name");
    let connecting = TlsConnector::from(Arc::clone(client)).connect(name, stream);
    let mut stream = within("a handshake", connecting).await.expect("TLS");
    let ask = format!("GET /page HTTP/1.1\r\nHost: {PORTAL}\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.expect("sent");
    let mut said = Vec::new();
    within("an answer", stream.read_to_end(&mut said)).await.expect("whole");
    assert!(said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
    let connection = stream.get_ref().1;
    (connection.handshake_kind(), connection.protocol_version())
}

#[tokio::test]
async fn a_session_goes_on_at_whichever_worker_and_after_a_reload() {
    let stage = Stage::plain().await;
    let mut old = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(authority().roots())
        .with_no_client_auth();
    old.resumption =
        old.resumption.tls12_resumption(rustls::client::Tls12Resumption::SessionIdOrTickets);
    for client in [authority().client(&["http/1.1"]), Arc::new(old)] {
        let (first, version) = visit(&stage.proxy, &client).await;
        assert_ne!(first, Some(rustls::HandshakeKind::Resumed), "{version:?}");
        // The system spreads connections over the sockets of both workers.
        for turn in 0..12 {
            if turn == 6 {
                let before = stage.proxy.metrics().await.sum("bascule_config_generation", &[]);
                stage.proxy.signal("HUP");
                let taken = |m: &Metrics| m.sum("bascule_config_generation", &[]) > before;
                stage.proxy.metrics_when("a reload", taken).await;
            }
            let (kind, _) = visit(&stage.proxy, &client).await;
            let resumed = Some(rustls::HandshakeKind::Resumed);
            assert_eq!(kind, resumed, "handshake {turn} of {version:?}");
        }
    }
}

#[tokio::test]
async fn a_new_certificate_is_served_without_a_restart() {
    let stage = Stage::plain().await;
    let mut old_session = stage.proxy.session(Speak::TlsHttp1).await;
    let before = leaf(&handshake(&stage.proxy, PORTAL, &[]).await.expect("a handshake"));
    let generation = stage.proxy.metrics().await.sum("bascule_config_generation", &[]);
    let fresh = authority().leaf(&[PORTAL]);
    for (name, text) in [("portal.key", &fresh.key), ("portal.pem", &fresh.certificate)] {
        let next = stage.proxy.file(&format!("{name}.new"));
        std::fs::write(&next, text).expect("ours");
        std::fs::rename(next, stage.proxy.file(name)).expect("ours");
    }
    let taken = |m: &Metrics| {
        m.sum("bascule_config_generation", &[]) > generation
            && m.sum("bascule_config_reload_failed", &[]) == 0.0
    };
    stage.proxy.metrics_when("the new certificate", taken).await;
    let renewed = async {
        loop {
            let now = leaf(&handshake(&stage.proxy, PORTAL, &[]).await.expect("a handshake"));
            if now != before {
                return;
            }
        }
    };
    within("the new certificate on the wire", renewed).await;
    let answer = old_session.send(&Ask::get("/page")).await.expect("the old connection lives on");
    assert_eq!(answer.served_by(), "us");
}

#[tokio::test]
async fn half_a_certificate_never_replaces_a_whole_one() {
    let stage = Stage::start(Transport::Plain, |recipe| recipe).await;
    let before = leaf(&handshake(&stage.proxy, PORTAL, &[]).await.expect("a handshake"));
    let whole = std::fs::read_to_string(stage.proxy.file("portal.pem")).expect("ours");
    std::fs::write(stage.proxy.file("portal.pem"), &whole[..whole.len() / 2]).expect("ours");
    let refused = |m: &Metrics| m.sum("bascule_config_reload_failed", &[]) == 1.0;
    stage.proxy.metrics_when("the refusal", refused).await;
    let after = leaf(&handshake(&stage.proxy, PORTAL, &[]).await.expect("a handshake"));
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_certificate_that_nobody_would_believe_never_replaces_one_that_is_believed() {
    let stage = Stage::start(Transport::Plain, |recipe| recipe).await;
    let before = leaf(&handshake(&stage.proxy, PORTAL, &[]).await.expect("a handshake"));
    let refusals = "bascule_config_reloads_total";
    for (turn, (first, last)) in [(2001, 2002), (4000, 4001)].into_iter().enumerate() {
        let bad = authority().leaf_in(&[PORTAL], first, last);
        std::fs::write(stage.proxy.file("portal.key"), &bad.key).expect("ours");
        std::fs::write(stage.proxy.file("portal.pem"), &bad.certificate).expect("ours");
        let named = |line: &crate::harness::log::Line| {
            line.text.contains("put into force") && line.text.contains("portal.pem")
        };
        stage.proxy.log.wait("the file's name", turn + 1, named).await;
        let failed = [("result", "failure")];
        let refused = |m: &Metrics| m.sum(refusals, &failed) > turn as f64;
        stage.proxy.metrics_when("the refusal", refused).await;
        let after = leaf(&handshake(&stage.proxy, PORTAL, &[]).await.expect("a handshake"));
        assert_eq!(before, after);
    }
}

#[tokio::test]
async fn an_upstream_that_wants_to_know_us_gets_our_certificate() {
    let us = FakeUpstream::start("us", Transport::Mutual).await;
    let ours = ", host: portal.example, client_certificate: { certificate: api.pem, key: api.key }";
    let recipe = Recipe::portal().upstream_with(&us, "US", ours);
    let proxy = RunningProxy::start(&recipe).await;
    assert_eq!(proxy.get("/page").await.served_by(), "us");
    let passed = |m: &Metrics| m.sum("bascule_probes_total", &[("result", "passed")]) > 0.0;
    proxy.metrics_when("probes that are let in too", passed).await;
    let stranger = Recipe::portal().upstream_with(&us, "US", ", host: portal.example");
    let proxy = RunningProxy::start(&stranger).await;
    assert_eq!(proxy.get("/page").await.status, 502, "nobody else is let in");
}

#[tokio::test]
async fn the_end_of_an_upstreams_certificate_is_known_before_it_comes() {
    let stage = Stage::start(Transport::Tls, |recipe| recipe).await;
    let side = [("side", "upstreams"), ("subject", PORTAL)];
    let end = "bascule_certificate_expiry_timestamp_seconds";
    let known = |m: &Metrics| m.sum(end, &side) > 1.7e9;
    stage.proxy.metrics_when("its last second", known).await;
}

#[tokio::test]
async fn what_the_authority_said_of_a_certificate_is_stapled_when_it_lies_beside_it() {
    let stage = Stage::plain().await;
    let stapled = async || {
        let seen = Arc::new(Seen::new());
        let mut config = ClientConfig::clone(&authority().client(&[]));
        config.dangerous().set_certificate_verifier(Arc::clone(&seen) as _);
        let stream = TcpStream::connect(stage.proxy.tls).await.expect("a connection");
        let name = PORTAL.try_into().expect("a name");
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        within("a handshake", connecting).await.expect("TLS");
        seen.staple.lock().expect("no panic while held").clone()
    };
    assert!(stapled().await.is_empty());
    // Any DER will do: whether it is a good answer is for clients to say.
    let answer = [0x30, 0x03, 0x0a, 0x01, 0x00];
    std::fs::write(stage.proxy.file("portal.pem.ocsp"), answer).expect("ours");
    let shown = async { while stapled().await != answer {} };
    within("the staple", shown).await;
    std::fs::write(stage.proxy.file("portal.pem.ocsp"), "not DER").expect("ours");
    let refused = |m: &Metrics| m.sum("bascule_config_reload_failed", &[]) == 1.0;
    stage.proxy.metrics_when("the refusal", refused).await;
    assert_eq!(stapled().await, answer, "the old one goes on");
}

/// Trusts everybody, and keeps what was stapled.
#[derive(Debug)]
struct Seen {
    staple: Mutex<Vec<u8>>,
    provider: CryptoProvider,
}

impl Seen {
    fn new() -> Self {
        Self { staple: Mutex::default(), provider: rustls::crypto::aws_lc_rs::default_provider() }
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.staple.lock().expect("no panic while held") = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
