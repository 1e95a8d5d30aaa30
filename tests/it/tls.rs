//! TLS towards clients: the right certificate, the right protocol, and new files without a restart.

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::harness::certificates::authority;
use crate::harness::client::{Ask, Speak, tls};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::RunningProxy;
use crate::harness::stage::Stage;
use crate::harness::upstream::Transport;
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
