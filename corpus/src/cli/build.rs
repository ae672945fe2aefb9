//! `essaim-corpus build`

use super::progress::Bars;
use super::{print, print_json, thousands};
use clap::Args;
use essaim_corpus::build::{Progress, Report, build};
use essaim_corpus::config::{Config, SourceConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

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
    /// Language of documents that do not say theirs
    #[arg(long)]
    language: Option<String>,
    /// SPDX expression for documents that do not say theirs
    #[arg(long)]
    license: Option<String>,
}

impl Build {
    pub(super) fn run(&self, json: bool) -> anyhow::Result<()> {
        let config = self.config()?;
        let began = Instant::now();
        let bars = Bars::new();
        let progress: &dyn Progress = if json { &() } else { &bars };
        let built = build(&config, &self.out, progress);
        bars.finish();
        let report = built?;
        if !report.lossless {
            eprintln!("essaim-corpus: warning: this tokenizer does not give every text back");
        }
        let seconds = began.elapsed().as_secs_f64();
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
        config.tokenizer.path = self.tokenizer.clone().or(config.tokenizer.path);
        for source in &mut config.sources {
            source.language = source.language.take().or_else(|| self.language.clone());
            source.license = source.license.take().or_else(|| self.license.clone());
        }
        config.check()?;
        Ok(config)
    }
}

/// Documents, bytes and tokens of each language that is trained on; the largest first.
fn by_language(report: &Report) -> Vec<(String, [u64; 3])> {
    let mut languages = BTreeMap::<String, [u64; 3]>::new();
    for source in &report.manifest.sources {
        let sums = languages.entry(source.language.clone()).or_default();
        for (sum, value) in sums.iter_mut().zip([source.documents, source.text_bytes, source.tokens]) {
            *sum += value;
        }
    }
    let mut languages: Vec<_> = languages.into_iter().collect();
    languages.sort_by_key(|(language, sums)| (std::cmp::Reverse(sums[2]), language.clone()));
    languages
}

fn report_json(report: &Report, seconds: f64) -> Value {
    let manifest = &report.manifest;
    let languages = by_language(report).into_iter().map(|(language, [documents, text_bytes, tokens])| {
        (language, json!({"documents": documents, "text_bytes": text_bytes, "tokens": tokens}))
    });
    json!({
        "dataset": report.hash.to_string(),
        "tokenizer": manifest.tokenizer.to_string(),
        "vocab_size": manifest.vocab_size,
        "documents": report.documents,
        "empty": report.empty,
        "duplicates": report.duplicates,
        "heldout_documents": manifest.heldout.iter().map(|heldout| heldout.shard.documents).sum::<u64>(),
        "shards": manifest.all_shards().count(),
        "tokens": manifest.mixes.iter().flat_map(|mix| &mix.shards).map(|shard| shard.tokens).sum::<u64>(),
        "languages": languages.collect::<serde_json::Map<_, _>>(),
        "lossless": report.lossless,
        "seconds": seconds,
    })
}

fn report_text(report: &Report, seconds: f64, out: &Path) -> String {
    let manifest = &report.manifest;
    let heldout: u64 = manifest.heldout.iter().map(|heldout| heldout.shard.documents).sum();
    let mut text =
        format!("{:10} {:>10} {:>14} {:>14} {:>12}\n", "language", "documents", "bytes", "tokens", "bytes/token");
    for (language, [documents, text_bytes, tokens]) in by_language(report) {
        let ratio = text_bytes as f64 / tokens.max(1) as f64;
        let [documents, text_bytes, tokens] = [documents, text_bytes, tokens].map(thousands);
        text += &format!("{language:10} {documents:>10} {text_bytes:>14} {tokens:>14} {ratio:>12.2}\n");
    }
    text += &format!(
        "{} documents read: {} without text and {} duplicates dropped, {} held out in {} languages\n",
        thousands(report.documents),
        thousands(report.empty),
        thousands(report.duplicates),
        thousands(heldout),
        manifest.heldout.len(),
    );
    let shards: usize = manifest.mixes.iter().map(|mix| mix.shards.len()).sum();
    text += &format!(
        "{}: {shards} training shards, vocabulary {}, in {seconds:.1} s\ndata set {}\n",
        out.display(),
        manifest.vocab_size,
        report.hash
    );
    text
}
