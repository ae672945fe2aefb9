//! One act after the other.

use super::{Options, figures, interrupt};
use crate::process::child::{Process, program};
use crate::process::run::{LocalRun, call, path};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// The round in which a node is lost and another comes.
const CHURN_ROUND: u64 = 3;

/// The run's settings; `[network]` is added by the harness.
fn settings(dataset: &Path, rounds: u64, nodes: u32) -> Result<String> {
    let template = include_str!("run.toml");
    let dataset = std::path::absolute(dataset)?;
    let text = template
        .replace("@DATASET@", path(&dataset)?)
        .replace("@ROUNDS@", &rounds.to_string())
        .replace("@NODES@", &nodes.to_string());
    Ok(text)
}

/// A heading.
fn act(started: Instant, text: &str) {
    let seconds = started.elapsed().as_secs();
    eprintln!("\x1b[1m[{:>2}:{:02}] {text}\x1b[0m", seconds / 60, seconds % 60);
}

/// Everything, from text to the summary.
pub(super) fn tell(options: &Options, corpus: &Path) -> Result<()> {
    let started = Instant::now();
    let dir = &options.dir;
    act(started, &format!("Reading {}: tokenizer, held-out documents, shards", corpus.display()));
    let dataset = dir.join("dataset");
    build_dataset(corpus, &dataset, dir)?;

    act(started, "Founding the run");
    let mut run = LocalRun::init(dir, &settings(&dataset, options.rounds, options.nodes)?)?;
    run.start_coordinator(1)?;
    let link = run.link()?;
    eprintln!("        page  {}/\n        link  {link}", run.http());

    act(started, &format!("{} nodes join; {} rounds", options.nodes, options.rounds));
    for number in 1..=options.nodes {
        run.start_node(number, 1)?;
    }
    train(&mut run, options)?;

    act(started, "Checking the chain as a stranger would: every checkpoint rebuilt, two contributions replayed");
    let verify = verify(&run, &link, dir)?;
    eprintln!("        {}", figures::verify_line(&verify));

    let checkpoint = final_checkpoint(&run, options.rounds);
    act(started, "Measuring the model and xz -9e on the held-out documents");
    let measured = measure(&checkpoint, &dataset)?;

    act(started, "The final checkpoint continues a French sentence");
    let sentence = generate(&checkpoint)?;
    eprintln!("        « {sentence} »");

    let summary = figures::summary(&run, &verify, &measured, &checkpoint, &sentence, started.elapsed())?;
    let file = dir.join("summary.json");
    std::fs::write(&file, serde_json::to_string_pretty(&summary)?)
        .with_context(|| format!("writing {}", file.display()))?;
    println!("{}", figures::table(&summary));
    act(started, &format!("Done; the figures are in {}", file.display()));
    let ok = figures::judge(&summary);
    if options.keep_running {
        eprintln!("        The coordinator and the nodes go on: {}/ (Ctrl-C ends them)", run.http());
        while interrupt::sleep(Duration::from_secs(1)).is_ok() {}
    }
    run.stop();
    ok
}

fn build_dataset(corpus: &Path, dataset: &Path, dir: &Path) -> Result<()> {
    let log = dir.join("corpus.log");
    // Licences and languages are checked, duplicates dropped; French, a quarter of the text, is trained on twice, so that it is more
    // than the 30 % that a build asks for.
    let arguments = ["build", path(corpus)?, "--out", path(dataset)?, "--vocab-size", "4096", "--weight", "fr=2"];
    wait(Process::start("essaim-corpus", &program("essaim-corpus")?, &arguments, &log)?)?;
    call("essaim-corpus", &["inspect", path(dataset)?, "--json"])?;
    let facts = dataset.join("facts.json");
    let facts = std::fs::read(&facts).with_context(|| format!("reading {}", facts.display()))?;
    eprintln!("        {}", figures::dataset_line(&serde_json::from_slice(&facts)?));
    Ok(())
}

/// Waits for a program to end well, and notices Ctrl-C.
fn wait(mut process: Process) -> Result<()> {
    loop {
        match process.ended()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", process.name(), process.log_tail(5)),
            None => interrupt::sleep(Duration::from_millis(100))?,
        }
    }
}

/// Until the last round is recorded: prints each round, kills a node and starts another.
fn train(run: &mut LocalRun, options: &Options) -> Result<()> {
    eprintln!("        {}", figures::round_heading());
    let mut seen = 0;
    let mut churned = false;
    loop {
        interrupt::sleep(Duration::from_millis(250))?;
        run.check_alive()?;
        let rounds = run.rounds()?;
        for round in rounds.iter().skip(seen) {
            eprintln!("        {}", figures::round_line(round));
        }
        seen = rounds.len();
        let last = rounds.last().and_then(|round| round["round"].as_u64()).unwrap_or(0);
        if last >= options.rounds {
            return Ok(());
        }
        if !churned && last + 1 >= CHURN_ROUND.min(options.rounds) && is_working(run) {
            churned = true;
            run.kill_node(options.nodes)?;
            run.start_node(options.nodes + 1, 1)?;
            eprintln!(
                "        in round {}: node {} killed, node {} started",
                last + 1,
                options.nodes,
                options.nodes + 1
            );
        }
    }
}

/// Whether the open round is at least two seconds old: its members are in their inner steps.
fn is_working(run: &LocalRun) -> bool {
    run.status().is_ok_and(|status| status["elapsed_ms"].as_u64().unwrap_or(0) > 2_000)
}

fn final_checkpoint(run: &LocalRun, round: u64) -> std::path::PathBuf {
    run.coordinator_dir().join("public").join(essaim_protocol::layout::checkpoint(round))
}

fn verify(run: &LocalRun, link: &str, dir: &Path) -> Result<Value> {
    let text = call("essaim-verify", &[&run.http(), "--run", link, "--replay", "2", "--json"])?;
    let file = dir.join("verify.json");
    std::fs::write(&file, &text).with_context(|| format!("writing {}", file.display()))?;
    serde_json::from_str(&text).context("reading what essaim-verify printed")
}

fn measure(checkpoint: &Path, dataset: &Path) -> Result<Value> {
    let model =
        call("essaim", &["evaluate", "--checkpoint", path(checkpoint)?, "--dataset", path(dataset)?, "--json"])?;
    interrupt::check()?;
    let xz = call("essaim-corpus", &["xz", path(dataset)?, "--json"])?;
    Ok(json!({ "model": serde_json::from_str::<Value>(&model)?, "xz": serde_json::from_str::<Value>(&xz)? }))
}

fn generate(checkpoint: &Path) -> Result<String> {
    let prompt = "Le logiciel libre permet";
    let text = call("essaim", &["generate", "--checkpoint", path(checkpoint)?, "--prompt", prompt, "--tokens", "40"])?;
    Ok(text.trim().replace('\n', " "))
}
