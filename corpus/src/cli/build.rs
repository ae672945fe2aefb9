//! `essaim-corpus build`

use super::explain::text as explanation_text;
use super::progress::Bars;
use super::report::{report_json, report_text};
use super::{print, print_json};
use anyhow::Context;
use clap::Args;
use essaim_corpus::build::{Options, Progress, build};
use essaim_corpus::config::{Config, SourceConfig};
use essaim_corpus::dataset::Dataset;
use essaim_corpus::publish::explain::explain;
use essaim_corpus::stages::runner::Task;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Build a data set: documents read, licensed, filtered, deduplicated, mixed, tokenised, sharded, described.
///
/// CORPUS is a corpus.toml, or directly a folder or file of documents:
///
///   .parquet          columns text, language, source, id and, where there is one, license (or license within extra)
///   .jsonl .ndjson    an object a line, with the same keys; also .gz and .zst
///   .warc .wet        pages of the web, their main text taken out of the HTML; also .gz
///   .txt              a document a file; its language is the name of its folder (fr/…) or --language. Beside others, text
///                     files are taken for licences and notes, and left alone
///
/// By default documents must have an open licence and be in their language, personal data is masked, duplicates and what
/// occurs in held-out documents are dropped, and French is the largest language with 30 % of the tokens at least. A
/// corpus.toml sets all of it: corpus/corpus.example.toml shows every key with its default.
///
///   essaim-corpus build texts/ --out dataset                      a folder
///   essaim-corpus build texts/ --out dataset --weight fr=2        French twice
///   essaim-corpus build corpus.toml --out dataset --explain ID    and what became of one document
///   essaim-corpus build corpus.toml --out dataset --work s3://bucket/work --task $I/8     one of eight tasks
///
/// The same documents and settings give the same bytes, in any order of files, with any number of threads, tasks and
/// machines. DIR appears when all is done. A build that is killed goes on where it was when it is started again. Memory
/// hardly grows with the corpus: by some 10 MB for a million documents (docs/corpus.md).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Build {
    /// A corpus.toml, or a folder or file of documents
    corpus: PathBuf,
    /// The folder to write. A data set that is there is replaced, anything else is not
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the data set
    #[arg(long)]
    name: Option<String>,
    /// Decides the order of the training documents
    #[arg(long)]
    seed: Option<u64>,
    /// Tokens of the vocabulary
    #[arg(long, value_name = "N")]
    vocab_size: Option<u32>,
    /// A tokenizer.json to use instead of training one
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Thousandths of each language's documents to hold out
    #[arg(long, value_name = "N")]
    heldout_permille: Option<u32>,
    /// Tokens in a shard at most
    #[arg(long, value_name = "N")]
    tokens_max: Option<u32>,
    /// The language that must be the largest of the mix, or "any"
    #[arg(long, value_name = "LANGUAGE")]
    largest: Option<String>,
    /// The least share of a language in the tokens of the mix, as fr=0.3; none: no language has one. Default: fr=0.3 where French
    /// must be the largest
    #[arg(long, value_name = "LANGUAGE=SHARE")]
    minimum: Vec<String>,
    /// How often documents of a language or source are trained on, as fr=1.5
    #[arg(long, value_name = "NAME=WEIGHT")]
    weight: Vec<String>,
    /// Do not check that documents are in their language
    #[arg(long)]
    no_language_check: bool,
    /// Files and rows that may be broken; each is told and skipped
    #[arg(long, value_name = "N")]
    broken_max: Option<u64>,
    /// Language of documents that do not say theirs
    #[arg(long)]
    language: Option<String>,
    /// SPDX expression for documents that do not say theirs
    #[arg(long)]
    license: Option<String>,
    /// Where stages keep what they have done, for resuming and for other tasks: a folder, or s3://BUCKET/FOLDER with the usual
    /// AWS_ variables set. Default: DIR.work, removed at the end
    #[arg(long, value_name = "PLACE")]
    work: Option<String>,
    /// Do only a share of each stage, and wait for the others: i/n, from 0/n to (n-1)/n, each with the same --work. Task 0 writes DIR
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    task: Task,
    /// Say at the end what became of the document with this id
    #[arg(long, value_name = "ID")]
    explain: Option<String>,
    /// Seconds to wait for another task's part before giving up
    #[arg(long, value_name = "SECONDS", default_value_t = 6 * 3600)]
    wait: u64,
    /// MiB that looking for duplicates may take, all threads together; documents are held in smaller pieces where it is little. The same
    /// for all tasks, as are --threads
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
}

impl Build {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        let config = self.config()?;
        let began = Instant::now();
        let bars = Bars::new();
        let progress: &dyn Progress = if json { &() } else { &bars };
        let threads = rayon::current_num_threads();
        anyhow::ensure!(self.task.count == 1 || self.work.is_some(), "--task needs --work: where the tasks meet");
        anyhow::ensure!(
            (1..=1 << 24).contains(&self.memory),
            "--memory is {}, expected 1 to 16777216 MiB",
            self.memory
        );
        let options = Options {
            work: self.work.clone(),
            task: self.task,
            threads,
            wait: Duration::from_secs(self.wait),
            memory: self.memory << 20,
        };
        let built = build(&config, &self.out, &options, progress);
        bars.finish();
        let seconds = began.elapsed().as_secs_f64();
        let Some(report) = built? else {
            let (index, count) = (self.task.index, self.task.count);
            return match json {
                true => print_json(&json!({"task": index, "tasks": count, "seconds": seconds})),
                false => {
                    print(&format!("task {index} of {count} is done in {seconds:.1} s; task 0 writes the data set\n"))
                }
            };
        };
        if !report.lossless {
            eprintln!("essaim-corpus: warning: this tokenizer does not give every text back");
        }
        let explained = self.explain.as_ref().map(|id| explain(&Dataset::open(&self.out)?, id)).transpose()?;
        match json {
            true => {
                let mut value = report_json(&report, seconds);
                if let Some(found) = &explained {
                    value["explained"] = serde_json::to_value(found)?;
                }
                print_json(&value)
            }
            false => {
                let found = explained.map_or_else(String::new, |found| format!("\n{}", explanation_text(&found)));
                print(&(report_text(&report, seconds, &self.out) + &found))
            }
        }
    }

    fn config(&self) -> anyhow::Result<Config> {
        let is_config = self.corpus.extension().is_some_and(|extension| extension == "toml");
        let mut config = match is_config {
            true => Config::read(&self.corpus)?,
            false => {
                let path = self.corpus.clone();
                Config { sources: vec![SourceConfig { path, ..SourceConfig::default() }], ..Config::default() }
            }
        };
        fn set<T: Clone>(place: &mut T, given: &Option<T>) {
            if let Some(value) = given {
                *place = value.clone();
            }
        }
        set(&mut config.name, &self.name);
        set(&mut config.seed, &self.seed);
        set(&mut config.tokenizer.vocab_size, &self.vocab_size);
        set(&mut config.heldout.permille, &self.heldout_permille);
        set(&mut config.shards.tokens_max, &self.tokens_max);
        set(&mut config.mix.largest, &self.largest);
        config.language.identify &= !self.no_language_check;
        set(&mut config.limits.broken_max, &self.broken_max);
        if !self.minimum.is_empty() {
            let given = self.minimum.iter().filter(|given| *given != "none").map(|given| pair("--minimum", given));
            config.mix.minimum = Some(given.collect::<anyhow::Result<_>>()?);
        }
        for given in &self.weight {
            let (name, weight) = pair("--weight", given)?;
            config.mix.weights.insert(name, weight);
        }
        config.tokenizer.path = self.tokenizer.clone().or(config.tokenizer.path);
        for source in &mut config.sources {
            source.language = source.language.take().or_else(|| self.language.clone());
            source.license = source.license.take().or_else(|| self.license.clone());
        }
        config.check()?;
        Ok(config)
    }
}

/// `NAME=NUMBER`.
fn pair(flag: &str, given: &str) -> anyhow::Result<(String, f64)> {
    let parts = given.rsplit_once('=').and_then(|(name, number)| Some((name.to_owned(), number.parse().ok()?)));
    parts.with_context(|| format!("{flag} is '{given}', expected NAME=NUMBER, as fr=0.3"))
}
