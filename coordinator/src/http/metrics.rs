//! `/metrics`: the view as Prometheus reads it. Values are set when it is scraped; nothing is counted twice.

use super::Site;
use crate::view::{Phase, RunView};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

type Labels = Vec<(&'static str, String)>;
type FloatGauges = Family<Labels, Gauge<f64, AtomicU64>>;

/// `/metrics`.
pub(super) async fn metrics(State(site): State<Site>) -> Response {
    let mut text = String::new();
    let done = site.view.read(|view| encode(&mut text, &registry(view, Instant::now())));
    match done {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "cannot write the metrics\n").into_response(),
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
}

fn float(registry: &mut Registry, name: &str, help: &str, value: Option<f64>) {
    if let Some(value) = value {
        registry.register(name, help, ConstGauge::new(value));
    }
}

/// A registry that holds the view.
fn registry(view: &RunView, now: Instant) -> Registry {
    let mut registry = Registry::with_prefix("essaim");
    let run = vec![("run".into(), view.info.run_id.clone().into())];
    let registry_of_run = registry.sub_registry_with_labels(run.into_iter());
    fill_round(registry_of_run, view, now);
    fill_last(registry_of_run, view);
    fill_counters(registry_of_run, view);
    registry
}

fn fill_round(registry: &mut Registry, view: &RunView, now: Instant) {
    gauge(registry, "parameters", "Parameters of the model", view.info.parameters);
    gauge(registry, "rounds_planned", "Rounds of the run", view.info.rounds);
    gauge(registry, "round", "The open round", view.round);
    gauge(registry, "members", "Members of the open round", view.members.len() as u64);
    gauge(registry, "members_waiting", "Joins that wait for the next record", view.joins_waiting);
    gauge(registry, "peers_connected", "Peers connected to this coordinator", view.peers);
    let claims = view.members.iter().filter(|member| member.claimed).count();
    gauge(registry, "claims", "Claims received for the open round", claims as u64);
    gauge(registry, "finished", "1 when every round is done", u64::from(view.phase == Phase::Finished));
    let since = view.opened.map(|opened| now.saturating_duration_since(opened).as_secs_f64());
    float(registry, "round_elapsed_seconds", "Since the open round opened", since);
}

fn fill_last(registry: &mut Registry, view: &RunView) {
    let Some(last) = view.rounds.last() else {
        return;
    };
    gauge(registry, "last_round", "The last recorded round", last.round);
    gauge(registry, "last_round_included", "Contributions that counted in it", last.included);
    gauge(registry, "last_round_refused", "Claims that did not count in it", last.refused);
    float(registry, "last_round_seconds", "Its wall time", last.seconds);
    float(registry, "train_loss", "Its mean training loss, nats a token", last.train_loss);
    let upload = Some(last.upload_bytes_per_parameter);
    float(registry, "upload_bytes_per_parameter", "Bytes a member sent in it, for one parameter", upload);
    let heldout = FloatGauges::default();
    for (language, bits) in &last.heldout_bits_per_byte {
        heldout.get_or_create(&vec![("language", language.clone())]).set(*bits);
    }
    registry.register("heldout_bits_per_byte", "Of the last checkpoint, by language", heldout);
    registry.register("tokens", "Tokens that counted so far", ConstCounter::new(last.tokens_total));
}

fn fill_counters(registry: &mut Registry, view: &RunView) {
    let refusals: Family<Labels, prometheus_client::metrics::counter::Counter> = Family::default();
    for (reason, count) in &view.refusals {
        refusals.get_or_create(&vec![("reason", reason.clone())]).inc_by(*count);
    }
    registry.register("refusals", "Statements and updates refused since the run began", refusals);
    for (name, value) in &view.network {
        registry.register(
            format!("network_{name}"),
            "Counted by the network since it started",
            ConstCounter::new(*value),
        );
    }
}
