//! The OpenAPI document: what handlers and shapes say of themselves, made whole.
//!
//! Handlers and shapes describe themselves where they stand. This adds what they share: a description of every
//! response, which OpenAPI requires, and the forms of text that the code takes.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Json, State};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{self, PathItem, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Problem;
use super::values::{Address, Id, Name, Prefix, RecordType};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "geodns",
        description = "Control of a geodns daemon, over its Unix socket. Every failure is a Problem.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(Problem, Address, Id, Name, Prefix, RecordType))
)]
struct Shared;

/// Serves calls, and the document that describes them and itself.
pub fn with_document(calls: OpenApiRouter) -> Router {
    let own = OpenApiRouter::new().routes(routes!(openapi));
    let mut document = Shared::openapi();
    document.merge(calls.get_openapi().clone());
    document.merge(own.get_openapi().clone());
    describe(&mut document);
    let (calls, _) = calls.split_for_parts();
    let (own, _) = own.with_state(Arc::new(document)).split_for_parts();
    calls.merge(own)
}

/// Gives this document.
#[utoipa::path(get, path = "/v1/openapi.json", responses(
    (status = 200, body = Object), (status = "default", body = Problem)))]
async fn openapi(State(document): State<Arc<openapi::OpenApi>>) -> Json<openapi::OpenApi> {
    Json((*document).clone())
}

/// Gives every response that has no description of its own one.
fn describe(document: &mut openapi::OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let summary = operation.summary.clone().unwrap_or_default();
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else {
                continue;
            };
            if response.description.is_empty() {
                response.description = match &**status {
                    "default" => "Nothing has changed; the Problem says why.".to_owned(),
                    _ => summary.clone(),
                };
            }
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        put,
        post,
        delete,
        ..
    } = path;
    [get, put, post, delete].into_iter().flatten()
}
