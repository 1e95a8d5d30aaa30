//! Answers bascule gives by itself, and what of an answer's head decides how it is relayed.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::answer::AnswerBody;
use crate::model::refusal::Refusal;
use crate::model::topology::Page;

/// A plain sentence under a status.
pub(super) fn own(status: StatusCode, text: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::own(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // Ours is about this moment only: no cache may keep it.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Nobody can hold one more request.
pub(super) fn overloaded() -> Response<AnswerBody> {
    let mut response = own(
        StatusCode::SERVICE_UNAVAILABLE,
        "The service is asked for more than it can hold. Please try again in a moment.\n",
    );
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Why a request was turned away.
pub(super) fn refusal(refusal: Refusal) -> Response<AnswerBody> {
    own(refusal.status(), refusal.sentence())
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
