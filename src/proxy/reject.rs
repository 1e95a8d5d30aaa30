//! Answers bascule gives by itself, and what of an answer's head decides how it is relayed.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};

use super::answer::AnswerBody;
use crate::model::refusal::Refusal;
use crate::model::topology::Page;
use crate::request::proxy_status::{PROXY_STATUS, ProxyError};

/// What may be asked beside methods of the services' own (RFC 9110, section 15.5.6, wants it said).
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// A plain sentence under a status.
pub(super) fn own(
    status: StatusCode,
    error: ProxyError,
    text: &'static str,
) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::own(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(PROXY_STATUS, error.field());
    // Ours is about this moment only: no cache may keep it.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Nobody can hold one more request.
pub(super) fn overloaded() -> Response<AnswerBody> {
    let mut response = own(
        StatusCode::SERVICE_UNAVAILABLE,
        ProxyError::ConnectionLimitReached,
        "The service is asked for more than it can hold. Please try again in a moment.\n",
    );
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Why a request was turned away.
pub(super) fn refusal(refusal: Refusal) -> Response<AnswerBody> {
    own(refusal.status(), named(refusal), refusal.sentence())
}

/// Why a request was turned away at its head. What was no clear request ends its HTTP/1.1 connection:
/// whoever stands before us may see its end elsewhere, and the next request with it.
pub(super) fn head(refused: Refusal, version: Version) -> Response<AnswerBody> {
    let mut response = refusal(refused);
    if refused == Refusal::Method {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    let unclear = matches!(refused, Refusal::Malformed | Refusal::BadHost | Refusal::BadTarget);
    if unclear && version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// In the words of RFC 9209.
const fn named(refusal: Refusal) -> ProxyError {
    match refusal {
        Refusal::Loop => ProxyError::LoopDetected,
        Refusal::Denied | Refusal::RateLimited => ProxyError::RequestDenied,
        Refusal::NoRoute => ProxyError::DestinationNotFound,
        Refusal::TooManyConnections | Refusal::TooManyFromClient => {
            ProxyError::ConnectionLimitReached
        }
        Refusal::Malformed
        | Refusal::BadHost
        | Refusal::BadTarget
        | Refusal::Method
        | Refusal::HeadTooLarge
        | Refusal::SlowHead
        | Refusal::BodyTooLarge
        | Refusal::SlowBody
        | Refusal::ProxyHeader
        | Refusal::Handshake
        | Refusal::SlowReader => ProxyError::RequestError,
    }
}

/// The maintenance page.
pub(super) fn page(page: &Page, method: &Method) -> Response<AnswerBody> {
    let body = match *method {
        Method::HEAD => Bytes::new(),
        _ => Bytes::from_owner(std::sync::Arc::clone(&page.body)),
    };
    let mut response = Response::new(AnswerBody::own(body));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(PROXY_STATUS, ProxyError::DestinationUnavailable.field());
    headers.insert(CONTENT_TYPE, page.content_type.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(RETRY_AFTER, HeaderValue::from(page.retry_after.as_secs()));
    response
}

/// Whether silence is part of the answer: server-sent events and gRPC streams.
pub(super) fn is_endless(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/grpc")
    })
}
