//! The JSON API. Answers are made from the view; one round's details from its public record.

use super::Site;
use crate::view::{RoundDetail, RoundSummary};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use essaim_protocol::signing::Signed;
use essaim_protocol::statements::Record;
use essaim_protocol::{layout, limits};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;

/// Rounds in one answer.
const ROUNDS_MAX: usize = 10_000;
/// Members in one answer.
const MEMBERS_MAX: usize = 10_000;

/// `?from=N&limit=M`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    from: Option<u64>,
    limit: Option<usize>,
}

fn error(status: StatusCode, text: impl ToString) -> Response {
    (status, Json(json!({ "error": text.to_string() }))).into_response()
}

/// `/api/status`.
pub(super) async fn status(State(site): State<Site>) -> Json<Value> {
    let now = Instant::now();
    Json(site.view.read(|view| serde_json::to_value(view.status(now)).unwrap_or(Value::Null)))
}

/// `/api/rounds`.
pub(super) async fn rounds(State(site): State<Site>, Query(page): Query<Page>) -> Json<Vec<RoundSummary>> {
    let from = page.from.unwrap_or(0);
    let limit = page.limit.unwrap_or(ROUNDS_MAX).min(ROUNDS_MAX);
    Json(site.view.read(|view| {
        let start = view.rounds.partition_point(|row| row.round < from);
        view.rounds.iter().skip(start).take(limit).cloned().collect()
    }))
}

/// `/api/members`.
pub(super) async fn members(State(site): State<Site>) -> Json<Value> {
    let list = site.view.read(|view| view.members.iter().take(MEMBERS_MAX).cloned().collect::<Vec<_>>());
    Json(serde_json::to_value(list).unwrap_or(Value::Null))
}

/// `/api/rounds/{round}`.
pub(super) async fn round(State(site): State<Site>, Path(round): Path<u64>) -> Response {
    let row = site.view.read(|view| {
        let index = view.rounds.binary_search_by_key(&round, |row| row.round).ok()?;
        view.rounds.get(index).cloned()
    });
    let Some(row) = row else {
        return error(StatusCode::NOT_FOUND, format!("round {round} has no record yet"));
    };
    let path = site.public.join(layout::record(round));
    let read = match tokio::fs::metadata(&path).await {
        Ok(data) if data.len() <= limits::RECORD_MAX as u64 + (64 << 10) => tokio::fs::read(&path).await,
        Ok(data) => Err(std::io::Error::other(format!("{} bytes", data.len()))),
        Err(error) => Err(error),
    };
    match read
        .map_err(|error| error.to_string())
        .and_then(|bytes| Signed::<Record>::from_bytes(&bytes).map_err(|error| error.to_string()))
    {
        Ok(record) => Json(RoundDetail::new(&record.value, row)).into_response(),
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, format!("the record of round {round}: {why}")),
    }
}
