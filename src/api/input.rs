//! Bodies of requests: JSON objects, bounded, without unknown fields. No body at all is an
//! empty object, so that `curl -X POST …/pause` does what it says.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::Answer;
use crate::wire::{Refusal, RefusalCode};

/// A body that was understood.
pub(super) struct Input<T>(pub(super) T);

/// The body of a request that takes none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Input<T> {
    type Rejection = Answer;

    async fn from_request(request: Request, state: &S) -> Result<Self, Answer> {
        let declared = is_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            let hint = "send at most 1 MiB; name a folder instead of its files";
            let refusal = Refusal::new(RefusalCode::InvalidRequest, rejection.body_text(), hint);
            Answer::new(rejection.status(), refusal)
        })?;
        if body.is_empty() {
            return parse(b"{}").map(Input);
        }
        if !declared {
            let hint = "set the header content-type: application/json";
            let refusal = Refusal::new(RefusalCode::InvalidRequest, "the body is not JSON", hint);
            return Err(Answer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal));
        }
        parse(&body).map(Input)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| {
        Answer::invalid(
            format!("the body was not understood: {error}"),
            "docs/api.md lists the fields",
        )
    })
}
