//! Probes of a server on loopback that answers as it is told.

use std::net::{Ipv4Addr, SocketAddr};

use http::HeaderValue;
use http::header::HeaderName;
use hyper::server::conn::http2 as server_http2;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::model::example;
use crate::model::topology::MarkerProof;

/// Answers every connection with the same bytes and closes it; gives back the first request head.
async fn canned(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = listener.local_addr().expect("address");
    let server = spawn_local(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        stream.write_all(answer).await.expect("write");
        String::from_utf8(head).expect("text")
    });
    (address, server)
}

fn question() -> Question {
    Question {
        endpoint: example::endpoint("127.0.0.1", 80),
        tls: None,
        public_host: Some("www.portal.example".into()),
        asks: Asks::Page,
        target: "/start?lang=fr".into(),
        expect: Expect {
            body_contains: Some("Bienvenue".into()),
            headers: vec![(HeaderName::from_static("x-site"), HeaderValue::from_static("portal"))],
            ..Expect::default()
        },
        marker: Some(MarkerRule {
            header: HeaderName::from_static("x-origin-id"),
            proof: MarkerProof::Value(HeaderValue::from_static("portal")),
        }),
        timeout: Duration::from_secs(10),
    }
}

#[tokio::test(flavor = "local")]
async fn an_answer_is_judged_by_what_the_file_expects() {
    use FailureKind::{BodyCut, BrokeOff, ServerError};
    let failed = ProbeResult::Failed;
    #[rustfmt::skip]
    let table: [(&str, &'static [u8], ProbeResult); 9] = [
        ("all as wanted",              b"HTTP/1.1 200 OK\r\nX-Site: portal\r\nContent-Length: 12\r\n\r\n<p>Bienvenue", ProbeResult::Passed),
        ("until the connection ends",  b"HTTP/1.1 302 Found\r\nX-Site: portal\r\n\r\n<p>Bienvenue</p>", ProbeResult::Passed),
        ("another page",               b"HTTP/1.1 200 OK\r\nX-Site: portal\r\nContent-Length: 6\r\n\r\nparked", failed(ServerError)),
        ("another site",               b"HTTP/1.1 200 OK\r\nX-Site: other\r\nContent-Length: 9\r\n\r\nBienvenue", failed(ServerError)),
        ("another status",             b"HTTP/1.1 404 Not Found\r\nX-Site: portal\r\nContent-Length: 9\r\n\r\nBienvenue", failed(ServerError)),
        ("a 5xx of the edge",          b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", failed(ServerError)),
        ("a 5xx of the origin",        b"HTTP/1.1 503 Busy\r\nX-Origin-Id: portal\r\nContent-Length: 0\r\n\r\n", ProbeResult::OriginError),
        ("less than was announced",    b"HTTP/1.1 200 OK\r\nX-Site: portal\r\nContent-Length: 99\r\n\r\nBienvenue", failed(BodyCut)),
        ("nothing at all",             b"", failed(BrokeOff)),
    ];
    for (shows, answer, result) in table {
        let (address, server) = canned(answer).await;
        assert_eq!(ask(&question(), &[address]).await.result, Some(result), "{shows}");
        server.await.expect("the server has answered");
    }
}

#[tokio::test(flavor = "local")]
async fn a_probe_asks_for_the_public_page_under_its_own_name() {
    let (address, server) = canned(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    ask(&question(), &[address]).await;
    let head = server.await.expect("a request").to_ascii_lowercase();
    assert!(head.starts_with("get /start?lang=fr http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: www.portal.example\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nuser-agent: {AGENT}\r\n")), "{head}");
}

#[tokio::test(flavor = "local")]
async fn the_host_rule_says_which_name_is_asked_for() {
    let mut question = question();
    question.endpoint = example::endpoint("edge.example", 8080);
    assert_eq!(question.host(), "www.portal.example");
    question.endpoint.host_rule = HostRule::Upstream;
    assert_eq!(question.host(), "edge.example:8080");
    question.endpoint.host_rule = HostRule::Literal("eu.portal.example".into());
    assert_eq!(question.host(), "eu.portal.example");
    question.endpoint.host_rule = HostRule::Public;
    question.public_host = None;
    assert_eq!(question.host(), "edge.example:8080");
    assert_eq!(without_port("edge.example:8080"), "edge.example");
    assert_eq!(without_port("[2001:db8::1]"), "[2001:db8::1]");
}

#[tokio::test(flavor = "local")]
async fn what_cannot_be_reached_says_why() {
    let closed = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        listener.local_addr().expect("address")
    };
    let failed = ProbeResult::Failed;
    assert_eq!(ask(&question(), &[closed]).await.result, Some(failed(FailureKind::Connect)));
    assert_eq!(ask(&question(), &[]).await.result, Some(failed(FailureKind::Dns)));
}

#[tokio::test(flavor = "local")]
async fn silence_is_late_and_a_silent_body_stalls() {
    // Accepts and answers nothing: the kernel does, nobody calls accept.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let silent = (silent.local_addr().expect("address"), silent);
    let patient = Question { timeout: Duration::from_millis(500), ..question() };
    let late = ProbeResult::Failed(FailureKind::Late);
    assert_eq!(ask(&patient, &[silent.0]).await.result, Some(late));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = listener.local_addr().expect("address");
    let server = spawn_local(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nBien").await.expect("write");
        // Open until the probe gives up: then reading ends.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.map(drop)
    });
    let stalled = ProbeResult::Failed(FailureKind::BodyStall);
    assert_eq!(ask(&patient, &[address]).await.result, Some(stalled));
    server.await.expect("the connection was closed").expect("cleanly");
}

#[tokio::test(flavor = "local")]
async fn a_probe_speaks_http2_over_tls_where_the_upstream_does() {
    let made = rcgen::generate_simple_self_signed(["www.portal.example".to_owned()]).expect("key");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = listener.local_addr().expect("address");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("certificate and key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = spawn_local(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let service = service_fn(async |request: Request<Incoming>| {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.uri().host(), Some("www.portal.example"));
            let page = http_body_util::Full::new(Bytes::from_static(b"Bienvenue"));
            Response::builder().header("x-site", "portal").body(page)
        });
        loop {
            let (stream, _) = listener.accept().await.expect("accept");
            if let Ok(stream) = acceptor.accept(stream).await {
                let builder = server_http2::Builder::new(LocalExecutor);
                // How the connection ends is the probe's affair.
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            }
        }
    });
    let mut question = question();
    question.endpoint.scheme = Scheme::Https;
    question.endpoint.ca = Some(made.cert.pem().into_bytes().into());
    let none = Arc::new(rustls::RootCertStore::empty());
    question.tls = tls_client::config(&question.endpoint, &none).expect("trust");
    assert_eq!(ask(&question, &[address]).await.result, Some(ProbeResult::Passed));

    question.public_host = Some("other.example".into());
    let stranger = ProbeResult::Failed(FailureKind::Tls);
    assert_eq!(
        ask(&question, &[address]).await.result,
        Some(stranger),
        "a certificate for another name"
    );
    server.abort();
}
