//! A small run for tests: a model of some thousand parameters on synthetic sentences.

use super::run::{LocalRun, call, path};
use super::text::write_corpus;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// Settings of a small run of `rounds` rounds; the run begins with `members_min` members.
pub fn settings(dataset: &Path, rounds: u64, members_min: u32) -> String {
    format!(
        r#"name = "small"
dataset = "{}"
rounds = {rounds}
seed = 7
keyframe_every_rounds = 3
heldout_tokens_max = 300
[model]
d_model = 32
layers = 2
heads = 2
kv_heads = 1
ffn = 64
context = 32
[inner]
steps = 6
batch = 4
[admission]
members_min = {members_min}
probation_steps = 3
absent_rounds_max = 4
[timing]
round_min_ms = 200
round_max_ms = 6000
fetch_max_ms = 3000
"#,
        dataset.display()
    )
}

/// Builds the small data set below `dir` and initialises a run on it.
///
/// # Errors
/// What the programs say.
pub fn found(dir: &Path, rounds: u64, members_min: u32) -> Result<LocalRun> {
    let (texts, dataset) = (dir.join("texts"), dir.join("dataset"));
    if !dataset.exists() {
        write_corpus(&texts)?;
        // With 512 tokens, learnt from French above all, French needs few of them.
        let small = ["--vocab-size", "512", "--tokens-max", "20000", "--minimum", "none"];
        let arguments = [&["build", path(&texts)?, "--out", path(&dataset)?], small.as_slice()].concat();
        call("essaim-corpus", &arguments)?;
    }
    LocalRun::init(dir, &settings(&dataset, rounds, members_min))
}

/// Waits until `rounds` rounds are recorded; every process has to stay alive.
///
/// # Errors
/// When a process ends, or nothing happens for `patience`.
pub fn wait_for_round(run: &mut LocalRun, rounds: u64, patience: Duration) -> Result<()> {
    let mut last = (0, Instant::now());
    loop {
        run.check_alive()?;
        let now = last_round(run);
        if now >= rounds {
            return Ok(());
        }
        if now > last.0 {
            last = (now, Instant::now());
        }
        if last.1.elapsed() > patience {
            let logs: Vec<String> = run.nodes.iter().map(|(_, node)| node.log_tail(4)).collect();
            bail!("round {now} of {rounds} and no further for {} s:\n{}", patience.as_secs(), logs.join("\n--\n"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The last recorded round; 0 before the first or when the coordinator does not answer.
pub fn last_round(run: &LocalRun) -> u64 {
    let rounds = run.rounds().unwrap_or_default();
    rounds.last().and_then(|round| round["round"].as_u64()).unwrap_or(0)
}

/// Verifies a run with every contribution replayed, and gives the report.
///
/// # Errors
/// What the verifier says when anything does not hold.
pub fn verify_all(source: &str, link: &str) -> Result<serde_json::Value> {
    let text = call("essaim-verify", &[source, "--run", link, "--replay", "all", "--json"])?;
    serde_json::from_str(&text).context("reading the verifier's report")
}

/// Copies a folder and everything in it.
///
/// # Errors
/// What the file system says.
pub fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
