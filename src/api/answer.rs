//! Refusals as programs see them: `{code, message, hint, retry_after?}` under a fitting HTTP
//! status.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::wire::{Refusal, RefusalCode};

/// A refusal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what happened.
    pub message: String,
    /// For people: what to do next.
    pub hint: String,
    /// When trying again may help, in seconds, with fractions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
}

/// A file that could not be taken, beside others that could.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Skipped {
    /// Which.
    pub path: String,
    /// Why.
    #[serde(flatten)]
    pub problem: Problem,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let retry_after = refusal.retry_after_ms.map(|ms| f64::from(ms) / 1000.0);
        Problem { code: refusal.code, message: refusal.message, hint: refusal.hint, retry_after }
    }
}

/// What every handler fails with.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    refusal: Refusal,
}

impl Answer {
    pub(super) fn new(status: StatusCode, refusal: Refusal) -> Answer {
        Answer { status, refusal }
    }

    /// The request itself is at fault.
    pub(super) fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Answer {
        Refusal::new(RefusalCode::InvalidRequest, message, hint).into()
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        Answer { status: status_of(refusal.code), refusal }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let wait = self.refusal.retry_after_ms.map(|ms| ms.div_ceil(1000));
        let mut response = (self.status, Json(Problem::from(self.refusal))).into_response();
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn status_of(code: RefusalCode) -> StatusCode {
    match code {
        RefusalCode::InvalidRequest => StatusCode::BAD_REQUEST,
        RefusalCode::AuthRequired | RefusalCode::BadPassword => StatusCode::UNAUTHORIZED,
        RefusalCode::NotDj
        | RefusalCode::NotOwner
        | RefusalCode::NoUser
        | RefusalCode::NotAllowed
        | RefusalCode::NotVoting
        | RefusalCode::Banned => StatusCode::FORBIDDEN,
        RefusalCode::NotFound => StatusCode::NOT_FOUND,
        RefusalCode::JoinFailed
        | RefusalCode::UpdateFailed
        | RefusalCode::NotInRoom
        | RefusalCode::RoomFull
        | RefusalCode::AlreadyVoted
        | RefusalCode::VoteOpen
        | RefusalCode::PlayedRecently
        | RefusalCode::QueueLimit
        | RefusalCode::NameTaken
        | RefusalCode::QueueFull => StatusCode::CONFLICT,
        RefusalCode::UnsupportedMedia => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalCode::RateLimited | RefusalCode::Cooldown => StatusCode::TOO_MANY_REQUESTS,
        RefusalCode::NoCoordinator => StatusCode::SERVICE_UNAVAILABLE,
        RefusalCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
