//! Building a data set: the stages in their order, and the folder that comes out.

use crate::bundle::BundleInfo;
use crate::config::{Config, ConfigError};
use crate::decontaminate::DecontaminateError;
use crate::facts::{Broken, Facts};
use crate::mix::{self, Available, MixError, Parts};
use crate::output::OutputError;
use crate::publish::PublishError;
use crate::publish::index::IndexError;
use crate::readers::{self, ReadError, Unit};
use crate::stages::chain::{Chain, ChainError, modified};
use crate::stages::clean::{self, Kept};
use crate::stages::finish::{self, Finishing};
use crate::stages::runner::{Fingerprint, Item, Runner, Task, fingerprint};
use crate::stages::{collide, dedup, encode, ingest, learn, pack, place, select};
use crate::store::{Store, StoreError};
use crate::tally::{READ, Tally};
use crate::tokenizer::TokenizerError;
use crate::tokenizer::encode::Encoder;
use essaim_protocol::dataset::{DatasetError, DatasetManifest};
use essaim_protocol::ids::Hash;
use essaim_train::shard::ShardError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A filter, list or policy that the settings name.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Reading.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Too many broken files and rows.
    #[error(
        "{first}; {count} files or rows could not be read, at most {max} are skipped (--broken-max, limits.broken_max)"
    )]
    Broken {
        /// How many.
        count: u64,
        /// How many are let pass.
        max: u64,
        /// The first of them, by name.
        first: String,
    },
    /// No document came through.
    #[error(
        "the corpus is empty: {read} documents were read, and every one was refused, mostly by {rule} ({documents}){hint}"
    )]
    Empty {
        /// Documents read.
        read: u64,
        /// The rule that refused most.
        rule: String,
        /// How many it refused.
        documents: u64,
        /// How to mend it, where that is known.
        hint: &'static str,
    },
    /// Decontamination.
    #[error(transparent)]
    Decontaminate(#[from] DecontaminateError),
    /// The mix.
    #[error(transparent)]
    Mix(#[from] MixError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A shard.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Where the stages meet.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another task that did not do its part.
    #[error(
        "task {item} of stage {stage} was not done by another of the {tasks} tasks within {seconds} s; start the missing tasks, then this \
         one again: it goes on where it is"
    )]
    Waited {
        /// The stage.
        stage: String,
        /// The item.
        item: String,
        /// How long it was waited for.
        seconds: u64,
        /// How many tasks there are.
        tasks: u32,
    },
    /// Publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The index from ids to shards.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Writing.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The manifest that comes out breaks a bound.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// Is told how far a build is.
pub trait Progress: Sync {
    /// A stage begins; its length where that is known.
    fn stage(&self, name: &str, total: Option<u64>);
    /// So much of the stage is done.
    fn advance(&self, done: u64);
}

/// Says nothing.
impl Progress for () {
    fn stage(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
}

/// Where and with what a build is done. Nothing here changes a byte of the result.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where stages meet: a folder or `s3://…`. Default: `OUT.work`, removed when all is done.
    pub work: Option<String>,
    /// Which share is done here.
    pub task: Task,
    /// Threads.
    pub threads: usize,
    /// How long to wait for another task's next item.
    pub wait: Duration,
    /// What stages whose state grows with the corpus may hold, bytes. The same for all tasks.
    pub memory: u64,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Options { work: None, task: Task::default(), threads, wait: Duration::from_secs(6 * 3600), memory: 1 << 30 }
    }
}

/// What a build made.
#[derive(Debug, Clone)]
pub struct Report {
    /// The manifest.
    pub manifest: DatasetManifest,
    /// Its hash, which names the data set.
    pub hash: Hash,
    /// Everything that was counted.
    pub facts: Facts,
    /// Whether decoding the held-out documents gives them back. True for every tokenizer trained here.
    pub lossless: bool,
}

impl Report {
    /// Documents read.
    pub fn documents(&self) -> u64 {
        self.facts.tally.sum(|key| key.rule == READ).documents
    }

    /// Documents refused by rules that begin so.
    pub fn refused(&self, prefix: &str) -> u64 {
        self.facts.tally.sum(|key| key.rule.starts_with(prefix)).documents
    }
}

/// Where stages meet when nothing else is said: beside the folder that comes out.
pub fn default_work(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".work");
    out.with_file_name(name)
}

/// Builds a data set at `out`. With several tasks, the first one writes it; the others give `None`.
///
/// # Errors
/// [`BuildError`]; `out` is then as it was, and what was done is kept where stages meet.
pub fn build(
    config: &Config,
    out: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Option<Report>, BuildError> {
    config.check()?;
    let work = options.work.clone().unwrap_or_else(|| default_work(out).to_string_lossy().into_owned());
    if options.task.index == 0 {
        crate::output::Staging::check(out)?;
    }
    let store = Store::open(&work)?;
    let runner = Runner {
        store,
        task: options.task,
        threads: options.threads.max(1),
        wait: options.wait,
        memory: options.memory,
        progress,
    };
    let report = stages(&runner, config, out)?;
    if report.is_some() && options.work.is_none() {
        // Everything that mattered is in its place; what is left of the work is not worth an error.
        drop(std::fs::remove_dir_all(&work));
    }
    Ok(report)
}

fn stages(runner: &Runner<'_>, config: &Config, out: &Path) -> Result<Option<Report>, BuildError> {
    runner.progress.stage("looking for files", None);
    let units = readers::units(&config.sources)?;
    let chain = Chain::new(config)?;
    let ingested = ingest::run(runner, config, &units, &chain)?;
    let mut tally = Tally::default();
    ingested.iter().for_each(|unit| tally.merge(&unit.tally));
    let broken = broken(config, &units, &ingested, &tally)?;
    let bundles: Vec<BundleInfo> = ingested.iter().flat_map(|unit| unit.bundles.iter().copied()).collect();

    let inputs: Vec<_> = units.iter().map(|unit| (&unit.name, unit.len_bytes, modified(&unit.path))).collect();
    let mut before = fingerprint("bundles", &(&bundles, chain.fingerprint(), inputs, &config.dedup));
    let clusters = dedup::run(runner, &bundles, config, before)?;
    let lines = dedup::frequent_lines(runner, &bundles, config, before)?;
    let all_bundles = bundles.clone();
    let cleaned = clean::run(runner, &bundles, lines.as_ref(), before)?;
    let mut kept = Kept::default();
    for bundle in &cleaned {
        tally.merge(&bundle.tally);
        kept.merge(bundle.kept.clone());
    }
    let line_facts = finish::line_facts(&cleaned);
    let hosts =
        cleaned.iter().filter(|bundle| bundle.hosts > 0).map(|bundle| (bundle.bundle.id, bundle.hosts)).collect();
    let bundles: Vec<BundleInfo> =
        cleaned.into_iter().map(|bundle| bundle.bundle).filter(|bundle| bundle.documents > 0).collect();
    if bundles.is_empty() {
        return Err(empty(&tally));
    }

    before = fingerprint("cleaned", &(before, &bundles));
    let cuts = select::run(runner, config, &bundles, &kept, before)?;
    before = fingerprint("selected", &(before, &cuts, &config.tokenizer, &config.mix.largest));
    let learnt = learn::run(runner, config, &bundles, &cuts, &kept, before)?;
    let encoder = Encoder::new(&learnt.tokenizer)?;
    before = fingerprint("learnt", &(before, blake3::hash(&learnt.tokenizer).as_bytes(), &config.decontaminate));
    let ngrams = collide::run(runner, config, &bundles, &cuts, before)?;
    let encoded = encode::run(runner, &bundles, &cuts, &encoder, &ngrams, before)?;
    drop(ngrams);
    encoded.iter().for_each(|bundle| tally.merge(&bundle.tally));

    let parts = available(&encoded);
    let plans = mix::plans(&config.mix, &config.phases, &parts)?;
    let ranges: Vec<u64> = plans.iter().map(|plan| plan_ranges(plan, &parts, config)).collect();
    before = fingerprint("planned", &(before, config.seed, &config.mix, &config.phases, &config.shards));
    let placed = place::run(runner, &bundles, &parts, &plans, &ranges, config.seed, before)?;
    let mixes = finish::mix_facts(&plans, &placed);
    let heldout: u64 = learnt.heldout.values().map(|facts| facts.documents).sum();
    let through = kept.parts.values().map(|(documents, _)| documents).sum();
    for mix in &mixes {
        mix::check(&config.mix, &mix.name, &mix.parts, through, heldout)?;
    }
    let packing = pack::Packing {
        bundles: &bundles,
        plans: &plans,
        ranges: &ranges,
        tokens_max: config.shards.tokens_max,
        vocab_size: encoder.vocab_size(),
    };
    let shards = pack::run(runner, &packing, before)?;
    let finishing = Finishing {
        config,
        ingested,
        bundles: bundles.clone(),
        all_bundles,
        cuts,
        learnt,
        encoded,
        parts,
        plans: plans.clone(),
        ranges: ranges.clone(),
        mixes,
        shards,
        tally,
        broken,
        kept,
        clusters,
        hosts,
        line_facts,
        vocab_size: encoder.vocab_size(),
    };
    finish::run(runner, &finishing, out, before)
}

/// Files and rows that could not be read; too many are an error, and so are all.
fn broken(
    config: &Config,
    units: &[Unit],
    ingested: &[ingest::Ingested],
    tally: &Tally,
) -> Result<Vec<Broken>, BuildError> {
    let count: u64 = ingested.iter().map(|unit| unit.broken_count).sum();
    let all = units.iter().zip(ingested).flat_map(|(unit, done)| done.broken.iter().map(move |broken| (unit, broken)));
    let first = all.clone().min_by_key(|(_, broken)| *broken);
    let max = if tally.rows().next().is_none() { 0 } else { config.limits.broken_max };
    match first {
        Some((unit, broken)) if count > max => {
            let place = if broken.place.is_empty() { String::new() } else { format!("{}: ", broken.place) };
            let first = format!("{}: {place}{}", unit.path.display(), broken.reason);
            Err(BuildError::Broken { count, max, first })
        }
        _ => {
            let mut broken: Vec<Broken> = all.map(|(_, broken)| broken.clone()).collect();
            broken.sort();
            Ok(broken)
        }
    }
}

fn empty(tally: &Tally) -> BuildError {
    let read = tally.sum(|key| key.rule == READ).documents;
    let mut rules = std::collections::BTreeMap::<&str, u64>::new();
    for (key, count) in tally.rows().filter(|(key, _)| key.rule != READ) {
        *rules.entry(&key.rule).or_default() += count.documents;
    }
    let most = rules.into_iter().max_by_key(|(_, documents)| *documents).unwrap_or(("no rule", 0));
    let hint = match most.0 {
        "license/unknown" => {
            "; name their licence with --license SPDX or license = \"SPDX\", or take it unknown: license.allow = [\"NOASSERTION\"]"
        }
        "license/not-allowed" => "; license.allow has the licences that are taken",
        "language/other" | "language/unsure" => "; [language] says how languages are checked",
        _ => "",
    };
    BuildError::Empty { read, rule: most.0.to_owned(), documents: most.1, hint }
}

fn available(encoded: &[encode::EncodedFacts]) -> Parts {
    let mut parts = Parts::new();
    for (part, [documents, bytes, tokens]) in encoded.iter().flat_map(|bundle| &bundle.parts) {
        let there: &mut Available = parts.entry(part.clone()).or_default();
        there.documents += documents;
        there.bytes += bytes;
        there.tokens += tokens;
    }
    parts
}

fn plan_ranges(plan: &mix::Plan, parts: &Parts, config: &Config) -> u64 {
    let tokens: f64 = parts.iter().map(|(part, there)| plan.weights[part] * there.tokens as f64).sum();
    place::ranges(tokens as u64, config.shards.tokens_max.into())
}

/// One item that is a whole stage.
pub(crate) fn single(name: &str, decides: Fingerprint) -> [Item; 1] {
    [Item { name: name.to_owned(), weight: 1, fingerprint: decides }]
}
