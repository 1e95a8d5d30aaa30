//! One question to the admin API of a running proxy, for the verbs that ask it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::{LocalOptions, LocalRuntime};

/// For the whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// An answer is at most this long, in bytes.
const MOST_BODY: usize = 64 * 1024 * 1024;

/// Where the admin API is, and what it wants to see.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// Where the admin API listens.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9180")]
    pub(super) admin: Uri,
    /// File that holds the bearer token, where one is set.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Where {
    /// The answer to a `GET`.
    pub(super) fn get(&self, target: &str) -> anyhow::Result<Bytes> {
        self.call(Method::GET, target, Bytes::new())
    }

    /// The answer to a request with this body, which is JSON unless it is empty.
    pub(super) fn call(&self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Bytes> {
        runtime()?.block_on(self.ask(method, target, body))
    }

    /// The same, on a runtime that runs already.
    pub(super) async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let token = self.token()?;
        let mut request = Request::builder().method(method).uri(target);
        request = request.header(ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::new(body)).context("asking")?;
        let fetched = tokio::time::timeout(TIMEOUT, fetch(&self.admin, request)).await;
        fetched.with_context(|| format!("no answer from {} within {TIMEOUT:?}", self.admin))?
    }

    /// An answer as what it should be.
    pub(super) fn read<T: DeserializeOwned>(&self, body: &[u8]) -> anyhow::Result<T> {
        serde_json::from_slice(body).with_context(|| {
            format!("{} does not speak like bascule {}", self.admin, env!("CARGO_PKG_VERSION"))
        })
    }

    fn token(&self) -> anyhow::Result<Option<HeaderValue>> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("reading the token file {}", file.display()))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim()))
            .ok()
            .context("the token holds characters that no header can carry")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// What a verb that asks runs on.
pub(super) fn runtime() -> anyhow::Result<LocalRuntime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build_local(LocalOptions::default()).context("starting")
}

async fn fetch(admin: &Uri, mut request: Request<Full<Bytes>>) -> anyhow::Result<Bytes> {
    ensure!(
        admin.scheme_str() == Some("http"),
        "the admin API speaks plain HTTP: expected http://HOST:PORT, not {admin}"
    );
    let authority = admin.authority().context("the URL names no host")?;
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await.with_context(|| {
        format!("connecting to {authority}: is bascule running, with `admin:` in its file?")
    })?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.context("speaking HTTP")?;
    let named = HeaderValue::from_str(authority.as_str()).context("the URL's host")?;
    request.headers_mut().insert(HOST, named);
    // It ends with the sender; what fails there fails the answer too, which says more.
    let driver = tokio::task::spawn_local(connection);
    let response = sender.send_request(request).await.context("asking")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST_BODY).collect().await;
    // Limited's error is a box, which is no `Error` itself.
    let body = body.map_err(|error| anyhow::anyhow!(error)).context("reading the answer")?;
    driver.abort();
    let body = body.to_bytes();
    if status == StatusCode::UNAUTHORIZED {
        bail!("{admin} wants a token: --token-file FILE");
    }
    if !status.is_success() {
        match detail(&body) {
            Some(detail) => bail!("{detail}"),
            None => bail!("{admin} answers {status}"),
        }
    }
    Ok(body)
}

/// What a problem document says to people (RFC 9457).
fn detail(body: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(plain(problem.get("detail")?.as_str()?))
}

/// What an answer holds goes to a terminal: no control character of it may.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
