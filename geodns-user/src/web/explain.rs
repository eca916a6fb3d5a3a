//! The way of a question to its answer, as a form.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::Shared;
use super::page::{Frame, Page, render_as, status_of};
use crate::control::explain::{ExplainQuery, Explanation};
use crate::control::problem::{Failure, Query};

/// The form as it was sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    name: String,
    #[serde(rename = "type")]
    qtype: String,
    client: String,
    ecs: String,
}

#[derive(Template)]
#[template(path = "explain.html")]
struct Explain {
    frame: Frame,
    asked: Asked,
    error: Option<String>,
    told: Option<Explanation>,
}

impl Asked {
    /// The question; `None`: there is none yet.
    fn question(&self) -> Result<Option<ExplainQuery>, Failure> {
        let [name, qtype, client, ecs] =
            [&self.name, &self.qtype, &self.client, &self.ecs].map(|text| text.trim());
        if name.is_empty() || client.is_empty() {
            return Ok(None);
        }
        let invalid = |what: &str, text: &str| Failure::Invalid(format!("{text:?} is no {what}"));
        Ok(Some(ExplainQuery {
            name: name.to_owned(),
            client: client.parse().map_err(|_| invalid("address", client))?,
            ecs: match ecs {
                "" => None,
                ecs => Some(ecs.parse().map_err(|_| invalid("prefix", ecs))?),
            },
            qtype: (!qtype.is_empty()).then(|| qtype.to_owned()),
        }))
    }
}

/// `GET /explain`
pub async fn page(State(service): State<Shared>, Query(asked): Query<Asked>) -> Page {
    let told = match asked.question() {
        Ok(None) => Ok(None),
        Ok(Some(question)) => service.explain(question).await.map(Some),
        Err(failure) => Err(failure),
    };
    let (status, error, told) = match told {
        Ok(told) => (StatusCode::OK, None, told),
        Err(failure) => (status_of(&failure).0, Some(failure.to_string()), None),
    };
    let page = Explain {
        frame: Frame::of("/explain"),
        asked,
        error,
        told,
    };
    render_as(status, &page)
}
