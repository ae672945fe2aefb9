//! `essaim-corpus build`

use super::progress::Bars;
use super::report::{report_json, report_text};
use super::{print, print_json};
use anyhow::Context;
use clap::Args;
use essaim_corpus::build::{Options, Progress, build};
use essaim_corpus::config::{Config, SourceConfig};
use essaim_corpus::stages::runner::Task;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Build a data set: tokenizer, shards, held-out documents and manifest.
///
/// CORPUS is a corpus.toml, or directly a folder or file of documents:
///
///   .parquet  columns text, language, source, id and, where there is one, license (or license within extra), all strings
///   .jsonl    an object a line, with the same keys
///   .txt      a document a file; its language is the name of its folder (fr/…) or --language. Beside parquet or JSON
///             lines, text files are taken for licences and notes, and left alone
///
/// A corpus.toml names several sources and all settings; each but path has the default shown:
///
///   name = "corpus"                 # of the data set
///   seed = 0                        # decides the order of the training documents
///   [[source]]
///   path = "texts"                  # file or folder, relative to the corpus.toml
///   # name, language, license       # for documents that do not say theirs
///   # columns = { text = "text", language = "language", source = "source", id = "id", license = "license" }
///   [tokenizer]
///   vocab_size = 32768
///   sample_bytes_max = 24000000     # text that it learns from
///   # path = "tokenizer.json"       # use this one instead
///   [heldout]
///   permille = 20                   # of each language's documents, those whose BLAKE3(id) is smallest
///   documents_min = 2               # in a language with fewer, none
///   [shards]
///   tokens_max = 1048576
///   [mix]
///   largest = "fr"                  # must be the largest language; "any" if you do not mind
///   # weights = { en = 0.5 }        # how often a language's documents are trained on
///
/// The same documents and settings give the same bytes, on any machine, in any order, with any number of threads. DIR appears when
/// all is done; a build that is killed leaves nothing there, and can be started again. All documents are held in memory:
/// count on five times the text.
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
    /// Seconds to wait for another task's part before giving up
    #[arg(long, value_name = "SECONDS", default_value_t = 6 * 3600)]
    wait: u64,
    /// MiB that looking for duplicates may take, all threads together; the same for all tasks
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
        match json {
            true => print_json(&report_json(&report, seconds)),
            false => print(&report_text(&report, seconds, &self.out)),
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
