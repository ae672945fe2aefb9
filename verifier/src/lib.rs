//! `essaim-verify`: checks a run from its anchor to its last checkpoint, from public files alone.
//!
//! Three things in turn, each of which ends with the first statement that fails:
//! 1. [`statements`]: manifest against the anchor, data set and shards, then every record with its list of claims, claims,
//!    joins and ledger: signatures, links, rules.
//! 2. [`arithmetic`]: the first checkpoint from the manifest's seed, every further one from the updates, compared with
//!    the records; contributions drawn at random are done again and compared; held-out losses are measured again.
//! 3. [`forks`] and [`coverage`]: other sources, and files that nothing covers.
//!
//! There is no async runtime and no network stack in here beyond a small blocking HTTP client: the list of dependencies is part
//! of the argument.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod arithmetic;
pub mod coverage;
pub mod draw;
pub mod files;
pub mod finding;
pub mod forks;
pub mod report;
pub mod source;
pub mod statements;

use arithmetic::{Arithmetic, Plan};
use draw::Replays;
use essaim_kernels::Exec;
use essaim_kernels::cuda::Device;
use essaim_protocol::ids::RunId;
use files::Files;
use finding::Finding;
use report::Report;
use source::Source;
use statements::Statements;
use std::time::Instant;

/// What to verify.
#[derive(Debug)]
pub struct Request {
    /// The sources; the first is the one under test.
    pub sources: Vec<Source>,
    /// The run that is expected.
    pub anchor: Option<RunId>,
    /// How many contributions are replayed.
    pub replays: Replays,
    /// The round whose public checkpoint is where rebuilding starts.
    pub from: u64,
    /// Where the draw of replays starts.
    pub seed: [u8; 32],
    /// Bytes that a replay may use.
    pub memory_bytes: u64,
    /// Where replays run; on the CPU if none.
    pub device: Option<Device>,
}

/// Told how far a verification is.
pub trait Progress {
    /// Stage `what` is at `done` of `total`.
    fn at(&mut self, what: &'static str, done: u64, total: u64);
}

/// Verifies. What is wrong is in the report.
pub fn verify(request: Request, exec: &Exec, progress: &mut dyn Progress) -> Report {
    let started = Instant::now();
    let mut report = Report {
        anchored: request.anchor.is_some(),
        sources: request.sources.iter().map(Source::name).collect(),
        replay_seed: request.seed.iter().map(|byte| format!("{byte:02x}")).collect(),
        ..Report::default()
    };
    if let Err(finding) = walk(request, exec, progress, &mut report) {
        report.failures.push(finding);
    }
    report.ok = report.failures.is_empty() && report.anchored;
    report.seconds = started.elapsed().as_secs_f64();
    report.peak_memory_bytes = report::peak_memory_bytes();
    report
}

fn walk(request: Request, exec: &Exec, progress: &mut dyn Progress, report: &mut Report) -> Result<(), Finding> {
    let mut sources = request.sources.into_iter();
    let tested = sources.next().ok_or_else(|| Finding::missing("the run", "no source was named"))?;
    let files = Files::new(tested);
    let genesis = statements::manifest(&files, request.anchor)?;
    report.run_id = Some(genesis.run().to_string());
    let (dataset, order, token_bytes, tokenizer) =
        statements::data(&files, genesis.manifest(), &mut |done, total| progress.at("shards", done, total))?;
    report.shards = dataset.all_shards().count() as u64;
    let started = Instant::now();
    let (last, contributions) =
        statements::chain(&files, &genesis, &mut |done, total| progress.at("records", done, total))?;
    report.records = contributions.len() as u64;
    report.last_round = last.round().unwrap_or(0);
    report.seconds_chain = started.elapsed().as_secs_f64();
    report.warnings.extend(forks::compare(&files, sources.collect(), &genesis, report.last_round)?);
    if request.from > report.last_round {
        let reason = format!("--from {}: the last round is {}", request.from, report.last_round);
        return Err(Finding::missing("the checkpoint to start from", reason));
    }
    let later = contributions.iter().skip(usize::try_from(request.from).unwrap_or(usize::MAX).saturating_add(1));
    let total: u64 = later.map(|&count| u64::from(count)).sum();
    let (count, every_heldout) = match request.replays {
        Replays::All => (total, true),
        Replays::Count(count) => (count, false),
    };
    if count > total {
        report.warnings.push(format!("only {total} contributions to replay, {count} were asked for"));
    }
    let plan = Plan {
        replays: draw::draw(&request.seed, count, total),
        every_heldout,
        from: request.from,
        memory_bytes: request.memory_bytes,
        device: request.device,
    };
    let statements =
        Statements { genesis, dataset, order, token_bytes, tokenizer, last_round: report.last_round, contributions };
    let pass = Arithmetic { files: &files, statements: &statements, exec, plan };
    pass.run(report, &mut |done, total| progress.at("checkpoints", done, total))?;
    if request.from == 0 {
        report.warnings.extend(coverage::uncovered(&files));
    }
    Ok(())
}
