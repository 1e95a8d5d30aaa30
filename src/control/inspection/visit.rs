//! One request of `check --live`: like a probe, but everything that was seen is kept, a refused
//! certificate with its reason included.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::VIA;
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use tokio::time::Instant;

use crate::clock;
use crate::control::names::NameError;
use crate::control::probe::{self, Connection, Question};
use crate::net::dial;
use crate::net::tls_client::{self, Stream};

/// An answer.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Its beginning.
    pub(super) body: Vec<u8>,
    /// Of the certificate that was shown.
    pub(super) certificate_end: Option<SystemTime>,
}

impl Seen {
    /// Whether somebody on the way says that the request has been there before.
    pub(super) fn is_loop(&self) -> bool {
        self.status == StatusCode::LOOP_DETECTED
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error("its name has no address")]
    Name(#[source] NameError),
    #[error("it takes no connection")]
    Connect(#[source] io::Error),
    #[error("the TLS handshake fails")]
    Handshake(#[source] io::Error),
    #[error("it speaks no HTTP that can be read")]
    Http(#[source] hyper::Error),
    #[error("no request can be made of its host and path")]
    Request,
    #[error("no answer within {} s", super::VISIT.as_secs())]
    Late,
}

/// Asks for a page, as if through so many proxies. Ends within the question's timeout.
pub(super) async fn page(
    question: &Question,
    addresses: &[SocketAddr],
    proxies: usize,
) -> Result<Seen, Unreached> {
    let deadline = Instant::from_std(clock::now() + question.timeout);
    match tokio::time::timeout_at(deadline, asked(question, addresses, proxies)).await {
        Ok(seen) => seen,
        Err(_) => Err(Unreached::Late),
    }
}

async fn asked(
    question: &Question,
    addresses: &[SocketAddr],
    proxies: usize,
) -> Result<Seen, Unreached> {
    let stream = dial::connect(addresses).await.map_err(Unreached::Connect)?;
    let stream = match &question.tls {
        None => Stream::Plain(stream),
        Some(tls) => {
            let name = tls_client::server_name(&question.name()).ok_or(Unreached::Request)?;
            let handshake = tls_client::handshake(Arc::clone(tls), name, stream);
            handshake.await.map_err(Unreached::Handshake)?
        }
    };
    let certificate_end = tls_client::end_of_certificate(&stream);
    let version = question.version(&stream);
    let mut request = question.request(version).ok_or(Unreached::Request)?;
    if proxies > 0 {
        request.headers_mut().insert(VIA, through(version, proxies));
    }
    let mut connection = Connection::open(stream, version).await.map_err(Unreached::Http)?;
    let response = connection.send(request).await.map_err(Unreached::Http)?;
    let (head, body) = response.into_parts();
    let body = probe::beginning(body).await.map_err(Unreached::Http)?;
    Ok(Seen { status: head.status, headers: head.headers, body: body.text, certificate_end })
}

fn through(version: Version, proxies: usize) -> HeaderValue {
    let number = if version == Version::HTTP_2 { "2" } else { "1.1" };
    let entry = format!("{number} check");
    HeaderValue::try_from(vec![entry; proxies].join(", "))
        .unwrap_or(HeaderValue::from_static("1.1 check"))
}
