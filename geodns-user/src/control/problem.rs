//! How a request fails: a [`Failure`] of the daemon, or what is wrong with the request itself, becomes a status and a
//! [`Problem`], one line of JSON.
//!
//! [`Query`] and [`Body`] are axum's extractors, but for the form of their complaints.

use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{self, FromRequest, FromRequestParts, Json, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a request failed: HTTP status and one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 404: no such pool, mirror, prefix, name.
    #[error("{0}")]
    NotFound(String),
    /// 422: the input is wrong.
    #[error("{0}")]
    Invalid(String),
    /// 500: what should work did not.
    #[error("{0}")]
    Internal(String),
    /// 503: the fleet's store is of no use now, or too many ask at once.
    #[error("{0}")]
    Unavailable(String),
}

/// Body of every failed request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The error and its remedy, in one line.
    pub error: String,
}

/// A failure on its way out.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    problem: Problem,
}

/// Result of a handler.
pub type Answer<T> = Result<Json<T>, Refusal>;

impl Refusal {
    /// A status, and the reason for it.
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        // One line, whatever the library's message looks like.
        let error: String = error.into();
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            status,
            problem: Problem { error },
        }
    }

    /// 422: the input is wrong.
    pub fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match failure {
            Failure::NotFound(_) => StatusCode::NOT_FOUND,
            Failure::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Failure::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Failure::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, failure.to_string())
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),+) => {
        $(impl From<$rejection> for Refusal {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), rejection.body_text())
            }
        })+
    };
}
from_rejection!(JsonRejection, QueryRejection, PathRejection, BytesRejection);

/// The query of a request.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(query.0))
    }
}

/// The body of a request, which is JSON.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let body = Json::from_request(request, state).await?;
        Ok(Self(body.0))
    }
}

/// Refuses a request for a path that is not there.
pub async fn no_route(uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("nothing at {}: see /v1/openapi.json", uri.path()),
    )
}

/// Refuses a request with a method that its path does not have.
pub async fn no_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not for {}: see /v1/openapi.json", uri.path()),
    )
}
