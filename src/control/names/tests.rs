//! Look-ups over TLS, at servers of our own on loopback.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::RData;
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::net::tls_client;

const NAME: &str = "dns.portal.example";

fn answer(question: &[u8]) -> Vec<u8> {
    let question = Message::from_vec(question).expect("a question");
    let query = question.queries[0].clone();
    let mut answer = question.into_response();
    if query.query_type() == RecordType::A {
        let data = RData::A(Ipv4Addr::new(192, 0, 2, 1).into());
        answer.insert_answers(vec![Record::from_rdata(query.name().clone(), 60, data)]);
    }
    answer.to_vec().expect("an answer")
}

/// A server that speaks TLS with a certificate for [`NAME`], and who signed that.
async fn listen(alpn: &str) -> (SocketAddr, TcpListener, TlsAcceptor, RootCertStore) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let mut config = config.with_single_cert(vec![made.cert.der().clone()], key).expect("a pair");
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = listener.local_addr().expect("an address");
    (address, listener, TlsAcceptor::from(Arc::new(config)), roots)
}

/// Serves every connection that completes its handshake.
fn serve<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    with: fn(TlsStream<TcpStream>) -> F,
) {
    spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accept");
            if let Ok(stream) = acceptor.accept(stream).await {
                spawn_local(with(stream));
            }
        }
    });
}

async fn over_tls(mut stream: TlsStream<TcpStream>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        stream.read_exact(&mut question).await.expect("a question");
        let answer = answer(&question);
        stream.write_u16(answer.len() as u16).await.expect("written");
        stream.write_all(&answer).await.expect("written");
        stream.flush().await.expect("written");
    }
}

async fn over_https(stream: TlsStream<TcpStream>) {
    let service = service_fn(|request: Request<Incoming>| async {
        assert_eq!(request.uri().path(), "/dns-query");
        let question = request.into_body().collect().await.expect("a question").to_bytes();
        let response = Response::builder().header(CONTENT_TYPE, "application/dns-message");
        let body = Full::new(Bytes::from(answer(&question)));
        Ok::<_, Infallible>(response.body(body).expect("a response"))
    });
    let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // The client ends it as it likes.
    http2.serve_connection(TokioIo::new(stream), service).await.unwrap_or_default();
}

fn names(address: SocketAddr, speech: Speech, roots: RootCertStore) -> Names {
    let host = ServerHost::Address(address.ip());
    let server = NameServer { host, port: address.port(), speech };
    Names::new(&[server], tls_client::bare(roots))
}

fn https(name: &str) -> Speech {
    Speech::Https { name: name.into(), path: "/dns-query".into() }
}

#[tokio::test(flavor = "local")]
async fn a_server_is_asked_over_tls() {
    let (address, listener, acceptor, roots) = listen("dot").await;
    serve(listener, acceptor, over_tls);
    let found = names(address, Speech::Tls(NAME.into()), roots).look_up("portal.cdn.example").await;
    assert_eq!(found.expect("an answer").addresses, [IpAddr::from([192, 0, 2, 1])]);
}

#[tokio::test(flavor = "local")]
async fn a_server_is_asked_over_https() {
    let (address, listener, acceptor, roots) = listen("h2").await;
    serve(listener, acceptor, over_https);
    let found = names(address, https(NAME), roots).look_up("portal.cdn.example").await;
    assert_eq!(found.expect("an answer").addresses, [IpAddr::from([192, 0, 2, 1])]);
}

#[tokio::test(flavor = "local")]
async fn a_server_with_another_certificate_is_not_believed() {
    let (address, listener, acceptor, roots) = listen("dot").await;
    serve(listener, acceptor, over_tls);
    for (name, roots) in [("other.example", roots), (NAME, RootCertStore::empty())] {
        let found = names(address, Speech::Tls(name.into()), roots);
        let found = found.look_up("portal.cdn.example").await;
        assert!(found.is_err(), "{name}: {found:?}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_server_that_is_known_by_name_is_found_through_the_system() {
    let (address, listener, acceptor, roots) = listen("h2").await;
    serve(listener, acceptor, over_https);
    let host = ServerHost::Name("localhost".into());
    let server = NameServer { host, port: address.port(), speech: https(NAME) };
    let names = Names::new(&[server], tls_client::bare(roots));
    // It listens on IPv4; where the system says IPv6 first, another look finds nobody there.
    let Ok(found) = names.look_up("portal.cdn.example").await else {
        let known = names.found.lock().expect("no panic while held").get("localhost").copied();
        assert!(known.is_some_and(|(ip, _)| ip.is_ipv6()), "{known:?}");
        return;
    };
    assert_eq!(found.addresses, [IpAddr::from([192, 0, 2, 1])]);
}

#[tokio::test(flavor = "local")]
async fn without_a_server_that_can_be_found_nothing_is() {
    let host = ServerHost::Name("no-such-name.invalid".into());
    let server = NameServer { host, port: 443, speech: https(NAME) };
    let names = Names::new(&[server], tls_client::bare(RootCertStore::empty()));
    assert!(names.look_up("portal.cdn.example").await.is_err());
}

#[test]
fn a_name_with_a_dot_is_whole_and_a_word_is_not() {
    assert_eq!(whole("portal.cdn.example").as_deref(), Some("portal.cdn.example."));
    assert_eq!(whole("portal.cdn.example.").as_deref(), Some("portal.cdn.example."));
    for word in ["origin", "origin.", "localhost"] {
        assert_eq!(whole(word), None, "{word}");
    }
}

/// A resolver with a search list, at a server that answers each question as it is told.
async fn searching(says: fn(&str, RecordType) -> Option<Vec<RData>>) -> TokioResolver {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = socket.local_addr().expect("an address");
    spawn_local(async move {
        let mut bytes = [0; 1500];
        loop {
            let (length, peer) = socket.recv_from(&mut bytes).await.expect("receive");
            let question = Message::from_vec(&bytes[..length]).expect("a question");
            let query = question.queries[0].clone();
            let Some(data) = says(&query.name().to_string(), query.query_type()) else { continue };
            let mut answer = question.into_response();
            if data.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let record = |data| Record::from_rdata(query.name().clone(), 60, data);
            answer.insert_answers(data.into_iter().map(record).collect());
            let answer = answer.to_vec().expect("an answer");
            socket.send_to(&answer, peer).await.expect("send");
        }
    });
    let mut server = ConnectionConfig::udp();
    server.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![server]);
    let search = vec!["corp.example.".parse().expect("a name")];
    let config = ResolverConfig::from_parts(None, search, vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().ndots = 0;
    builder.build().expect("a resolver")
}

fn one(last: u8) -> Option<Vec<RData>> {
    Some(vec![RData::A(Ipv4Addr::new(192, 0, 2, last).into())])
}

#[tokio::test(flavor = "local")]
async fn a_name_that_is_gone_is_not_looked_for_in_a_search_domain() {
    let wildcard = |name: &str, family| match name.ends_with(".corp.example.") {
        true if family == RecordType::A => one(66),
        _ => Some(Vec::new()),
    };
    let resolver = searching(wildcard).await;
    let gone = found(&resolver, "portal.cdn.example").await;
    assert!(gone.is_err(), "{gone:?}");
    // A word without a dot is the search list's.
    let word = found(&resolver, "origin").await.expect("an answer");
    assert_eq!(word.addresses, [IpAddr::from([192, 0, 2, 66])]);
}

#[tokio::test]
async fn addresses_of_one_family_do_not_wait_for_ever_for_the_other() {
    let data = RData::A(Ipv4Addr::new(192, 0, 2, 1).into());
    let name = "portal.cdn.example.".parse().expect("a name");
    let brought = Ok(vec![Record::from_rdata(name, 60, data)]);
    assert!(second(&brought, std::future::pending()).await.is_none());
    let late = async {
        tokio::task::yield_now().await;
        Err(NameError::TooLate)
    };
    assert!(second(&Ok(Vec::new()), late).await.is_some(), "nothing else has come");
}
