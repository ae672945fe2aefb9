//! Figures for people and for `summary.json`. Pure, but for what [`summary`] asks the coordinator.

use crate::process::run::LocalRun;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

/// One line about a data set, from `facts.json` in its folder: what its mix is made of.
pub(super) fn dataset_line(facts: &Value) -> String {
    let mut languages = std::collections::BTreeMap::<String, u64>::new();
    for part in facts["mixes"][0]["parts"].as_array().into_iter().flatten() {
        let language = part["language"].as_str().unwrap_or("?").to_owned();
        *languages.entry(language).or_default() += part["tokens"].as_u64().unwrap_or(0);
    }
    let total: u64 = languages.values().sum();
    let mut parts: Vec<_> = languages.into_iter().collect();
    parts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let shown: Vec<String> = parts
        .iter()
        .take(8)
        .map(|(language, tokens)| format!("{language} {:.0} %", 100.0 * *tokens as f64 / total.max(1) as f64))
        .collect();
    format!("{:.1} million tokens: {}", total as f64 / 1e6, shown.join(", "))
}

/// The heading above [`round_line`].
pub(super) fn round_heading() -> String {
    "round members included refused   tokens   loss  fr bits/byte  upload B/p  seconds".to_owned()
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"))
}

/// One round, in the columns of [`round_heading`].
pub(super) fn round_line(round: &Value) -> String {
    let count = |name: &str| round[name].as_u64().map_or_else(|| "–".to_owned(), |count| count.to_string());
    format!(
        "{:>5} {:>7} {:>8} {:>7} {:>8} {:>6} {:>13} {:>11} {:>8}",
        count("round"),
        count("members"),
        count("included"),
        count("refused"),
        count("tokens"),
        number(&round["train_loss"], 3),
        number(&round["heldout_bits_per_byte"]["fr"], 3),
        number(&round["upload_bytes_per_parameter"], 4),
        number(&round["seconds"], 1),
    )
}

/// One line about a verification.
pub(super) fn verify_line(verify: &Value) -> String {
    format!(
        "{}: {} records, {} checkpoints rebuilt, {} contributions replayed to the same bits, {} s",
        if verify["ok"] == json!(true) { "all holds" } else { "DOES NOT HOLD" },
        verify["records"],
        verify["checkpoints_rebuilt"],
        verify["contributions_replayed"],
        number(&verify["seconds"], 1),
    )
}

/// The names that `summary.json` keeps of a round.
const ROUND_FIELDS: [&str; 9] = [
    "round",
    "members",
    "included",
    "refused",
    "tokens",
    "train_loss",
    "heldout_bits_per_byte",
    "upload_bytes_per_parameter",
    "download_bytes_per_parameter",
];

fn round_summary(round: &Value) -> Value {
    let mut out = Map::new();
    for name in ROUND_FIELDS.into_iter().chain(["seconds"]) {
        out.insert(name.to_owned(), round[name].clone());
    }
    Value::Object(out)
}

/// What `summary.json` holds.
pub(super) fn summary(
    run: &LocalRun,
    verify: &Value,
    measured: &Value,
    checkpoint: &Path,
    sentence: &str,
    elapsed: Duration,
) -> Result<Value> {
    let status = run.status()?;
    let rounds: Vec<Value> =
        run.rounds()?.iter().filter(|round| round["round"] != json!(0)).map(round_summary).collect();
    Ok(json!({
        "run_id": status["run_id"],
        "parameters": status["parameters"],
        "rounds": rounds,
        "heldout_bits_per_byte": measured["model"]["heldout_bits_per_byte"],
        "xz_bits_per_byte": measured["xz"]["xz_bits_per_byte"],
        "verify": {
            "records": verify["records"],
            "checkpoints_rebuilt": verify["checkpoints_rebuilt"],
            "contributions_replayed": verify["contributions_replayed"],
            "ok": verify["ok"],
        },
        "checkpoint": std::path::absolute(checkpoint)?,
        "sentence": sentence,
        "seconds": elapsed.as_secs_f64(),
    }))
}

/// The closing table.
pub(super) fn table(summary: &Value) -> String {
    let mut lines = vec![round_heading()];
    lines.extend(summary["rounds"].as_array().into_iter().flatten().map(round_line));
    lines.push(String::new());
    lines.push("bits per byte on held-out documents".to_owned());
    lines.push("language  essaim   xz -9e".to_owned());
    let model = summary["heldout_bits_per_byte"].as_object().cloned().unwrap_or_default();
    for (language, bits) in model {
        let xz = number(&summary["xz_bits_per_byte"][&language], 3);
        lines.push(format!("{language:>8} {:>7} {xz:>9}", number(&bits, 3)));
    }
    lines.join("\n")
}

/// Whether the demo showed what it promises.
///
/// # Errors
/// Names the promise that it did not keep.
pub(super) fn judge(summary: &Value) -> Result<()> {
    if summary["verify"]["ok"] != json!(true) {
        bail!("the chain does not hold; see verify.json");
    }
    let bits = |name: &str| summary[name]["fr"].as_f64().with_context(|| format!("{name} has no figure for French"));
    let (model, xz) = (bits("heldout_bits_per_byte")?, bits("xz_bits_per_byte")?);
    if model >= xz {
        bail!("on held-out French the model needs {model:.3} bits a byte, and xz -9e only {xz:.3}");
    }
    Ok(())
}
