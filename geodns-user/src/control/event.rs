//! Events, as they were and as they come: `/v1/events`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::client::{Chunks, Client, Error, Reply, query};
use super::problem::{Failure, Problem, Query, Refusal};
use super::values::Id;
use super::watch::{Stream, streamed};
use crate::base::clock::{now_unix_ms, parse_utc};
use crate::config::time;
use crate::event::{Event, Kind, Wanted};

/// Answers these calls. The daemon implements it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// `GET /v1/events`: the first N after a place, or the last N.
    async fn events(&self, of: Asked) -> Result<Vec<Event>, Failure>;
    /// `GET /v1/events?follow=true`: the same, and those that come.
    async fn follow_events(&self, of: Asked) -> Result<Stream, Failure>;
}

/// The calls.
pub fn routes(service: Arc<dyn Service>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(events))
        .with_state(service)
}

/// Lists events, and follows them: with `follow`, as server-sent events, each with its number as its id. A header
/// `Last-Event-ID` goes before `since`.
#[utoipa::path(get, path = "/v1/events", params(EventsQuery), responses(
    (status = 200, content((Vec<Event> = "application/json"), (Event = "text/event-stream"))),
    (status = "default", body = Problem)))]
async fn events(
    State(service): State<Arc<dyn Service>>,
    headers: HeaderMap,
    Query(of): Query<EventsQuery>,
) -> Result<Response, Refusal> {
    let mut asked = of.understood(now_unix_ms()).map_err(Refusal::invalid)?;
    if !of.follow {
        return Ok(Json(service.events(asked).await?).into_response());
    }
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().ok().and_then(|last| last.parse().ok());
        let last = last.ok_or_else(|| {
            Refusal::invalid("header Last-Event-ID: write the number of an event")
        })?;
        asked.from = From::After(last);
    }
    let stream = service.follow_events(asked).await?;
    let mut response = streamed("text/event-stream", stream);
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    Ok(response)
}

impl Client {
    /// `GET /v1/events`
    pub async fn events(&self, of: &EventsQuery) -> Result<Reply, Error> {
        self.get(&query("/v1/events", of)).await
    }

    /// `GET /v1/events?follow=true`
    pub async fn follow_events(&self, of: &EventsQuery) -> Result<Chunks, Error> {
        self.stream(&query("/v1/events", of)).await
    }
}

/// `GET /v1/events?...`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Number of an event, a time, or how long ago: events after it, the first of them. Without it, the last events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(
        pattern = r"^([0-9]{1,18}|[0-9]{1,9}(ms|s|m|h|d)|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z)$",
        example = "1h"
    )]
    pub since: Option<String>,
    /// Kinds, with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(pattern = "^[a-z_]+(,[a-z_]+)*$", example = "mirror_out,mirror_in")]
    pub kind: Option<String>,
    /// Mirror's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Id>)]
    pub mirror: Option<String>,
    /// Number of events at the most. Default: 100. With `follow`, it counts only those before now, if there is no `since`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 1000)]
    pub limit: Option<u32>,
    /// Go on with events as they come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

/// A request for events that was found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where they begin.
    pub from: From,
    /// Which ones.
    pub wanted: Wanted,
    /// How many, at the most.
    pub limit: usize,
}

/// The place that events begin at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The last ones.
    Latest,
    /// After this number.
    After(u64),
    /// At this time in milliseconds since 1970.
    Time(u64),
}

/// Events that an answer has, at the most.
pub const MAX_LIMIT: u32 = 1000;
const LIMIT: u32 = 100;

impl EventsQuery {
    /// Checks and understands the query at a time.
    pub fn understood(&self, now_unix_ms: u64) -> Result<Asked, String> {
        let from = match &self.since {
            None => From::Latest,
            Some(since) => parse_since(since, now_unix_ms).ok_or_else(|| {
                format!(
                    "since: {since:?} is none: write the number of an event, a time such as 2026-11-30T20:15:00Z, or how \
                     long ago, such as 1h"
                )
            })?,
        };
        let kinds = self.kind.iter().flat_map(|kinds| kinds.split(','));
        let kinds = kinds.map(|name| {
            let kind = Kind::parse(name);
            kind.ok_or_else(|| {
                format!("kind: there is no {name:?}; write one of {}", Kind::names())
            })
        });
        let limit = self.limit.unwrap_or(LIMIT);
        if limit > MAX_LIMIT {
            return Err(format!(
                "limit: {limit} is out of range; write 0 to {MAX_LIMIT}"
            ));
        }
        Ok(Asked {
            from,
            wanted: Wanted {
                kinds: kinds.collect::<Result<_, _>>()?,
                mirror: self.mirror.clone(),
            },
            limit: limit as usize,
        })
    }
}

fn parse_since(text: &str, now_unix_ms: u64) -> Option<From> {
    if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        return text.parse().ok().map(From::After);
    }
    if let Some(ago) = time::duration(text) {
        let ago = u64::try_from(ago.as_millis()).ok()?;
        return Some(From::Time(now_unix_ms.saturating_sub(ago)));
    }
    parse_utc(text).map(From::Time)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt;

    use super::super::tests::Memory;
    use super::*;

    #[async_trait]
    impl Service for Memory {
        async fn events(&self, of: Asked) -> Result<Vec<Event>, Failure> {
            let mirror = of.wanted.mirror.as_deref();
            Ok(vec![Event::of(1, Kind::MirrorOut, mirror)])
        }

        async fn follow_events(&self, of: Asked) -> Result<Stream, Failure> {
            let lines = [format!("{:?}", of.from)].map(Bytes::from);
            Ok(futures_util::stream::iter(lines).boxed())
        }
    }

    #[test]
    fn a_query_says_which_events_and_from_where() {
        let of = |text: &str| {
            let query: EventsQuery = serde_urlencoded::from_str(text).unwrap();
            query.understood(7_200_000)
        };
        let all = of("").unwrap();
        assert_eq!((all.from, all.limit), (From::Latest, 100));
        assert_eq!(of("since=17").unwrap().from, From::After(17));
        assert_eq!(of("since=1h").unwrap().from, From::Time(3_600_000));
        assert_eq!(of("since=9d").unwrap().from, From::Time(0));
        let at = of("since=1970-01-01T01:00:00Z").unwrap().from;
        assert_eq!(at, From::Time(3_600_000));
        let some = of("kind=mirror_out,reload&mirror=ams&limit=0").unwrap();
        assert_eq!(some.wanted.kinds, [Kind::MirrorOut, Kind::Reload]);
        assert_eq!(some.limit, 0);
        for (wrong, says) in [
            ("since=yesterday", "such as 1h"),
            ("since=99999999999999999999", "number of an event"),
            ("since=", "number of an event"),
            ("kind=mirror", "write one of start, stop"),
            ("kind=reload,", "there is no \"\""),
            ("limit=1001", "write 0 to 1000"),
        ] {
            let error = of(wrong).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
