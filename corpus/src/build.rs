//! Building a data set: from the files of a corpus to a folder of shards.

use crate::config::{Config, ConfigError};
use crate::dataset::{self, HeldoutLine};
use crate::document::Document;
use crate::output::{OutputError, Staging};
use crate::readers::{self, ReadError};
use crate::select::{self, SelectError};
use crate::shards::{self, Shard};
use crate::tokenizer::encode::Encoder;
use crate::tokenizer::{self, TokenizerError, train};
use essaim_protocol::dataset::{DatasetError, DatasetManifest, HeldoutShard, Mix, ShardInfo, SourceSummary};
use essaim_protocol::ids::Hash;
use essaim_train::shard::{ShardError, ShardWriter};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Name of the mix that holds all training documents.
pub const MAIN_MIX: &str = "main";

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Reading.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Selecting.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A shard.
    #[error(transparent)]
    Shard(#[from] ShardError),
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

/// What a build made.
#[derive(Debug, Clone)]
pub struct Report {
    /// The manifest.
    pub manifest: DatasetManifest,
    /// Its hash, which names the data set.
    pub hash: Hash,
    /// Documents read.
    pub documents: u64,
    /// Documents without text, dropped.
    pub empty: u64,
    /// Exact duplicates, dropped.
    pub duplicates: u64,
    /// Whether decoding the held-out documents gives them back. True for every tokenizer trained here.
    pub lossless: bool,
}

/// Builds a data set at `out`.
///
/// # Errors
/// [`BuildError`]; `out` is then as it was.
pub fn build(config: &Config, out: &Path, progress: &dyn Progress) -> Result<Report, BuildError> {
    config.check()?;
    let staging = Staging::new(out)?;
    progress.stage("reading documents", None);
    let documents = readers::read(&config.sources, |_, count| progress.advance(count as u64))?;
    let read = documents.len() as u64;
    let selection = select::select(documents, &config.heldout)?;
    let heldout_count = selection.heldout.values().map(|documents| documents.len() as u64).sum();
    let order = select::order(&selection.training, heldout_count, &config.mix, config.seed)?;

    let tokenizer = tokenizer_bytes(config, &selection.training, progress)?;
    let encoder = Encoder::new(&tokenizer)?;
    staging.write(dataset::TOKENIZER, &tokenizer)?;
    staging.write(dataset::TOKENIZER_CONFIG, &tokenizer::config_json())?;

    let vocab_size = encoder.vocab_size();
    let (heldout, lossless) = write_heldout(&selection.heldout, &encoder, &staging, progress)?;
    let texts: Vec<&str> = selection.training.iter().map(|document| document.text.as_str()).collect();
    progress.stage("encoding", Some(texts.iter().map(|text| text.len() as u64).sum()));
    let tokens = encoder.encode_all(&texts, |done| progress.advance(done))?;

    progress.stage("writing shards", Some(order.len() as u64));
    let mut mix = Mix { name: MAIN_MIX.into(), shards: Vec::new() };
    let documents = order.iter().map(|&i| tokens[i].as_slice());
    shards::pack(documents, vocab_size, config.shards.tokens_max, |shard| -> Result<(), BuildError> {
        progress.advance(shard.info.documents);
        mix.shards.push(write_shard(&staging, &shard)?);
        Ok(())
    })?;
    let manifest = DatasetManifest {
        version: 1,
        name: config.name.clone(),
        tokenizer: Hash::of(&tokenizer),
        vocab_size,
        mixes: vec![mix],
        heldout,
        sources: summaries(&selection.training, &tokens, &order),
        settings: config.settings(),
    };
    let bytes = manifest.to_bytes();
    DatasetManifest::from_bytes(&bytes)?;
    let json = format!("{:#}\n", dataset::manifest_json(&manifest));
    staging.write(dataset::MANIFEST_JSON, json.as_bytes())?;
    staging.write(dataset::MANIFEST, &bytes)?;
    staging.commit()?;
    let (empty, duplicates) = (selection.empty, selection.duplicates);
    Ok(Report { manifest, hash: Hash::of(&bytes), documents: read, empty, duplicates, lossless })
}

fn tokenizer_bytes(config: &Config, training: &[Document], progress: &dyn Progress) -> Result<Vec<u8>, BuildError> {
    if let Some(path) = &config.tokenizer.path {
        return Ok(tokenizer::read(path)?.0);
    }
    progress.stage("training the tokenizer", None);
    let sample = train::sample(training, &config.mix.largest, config.tokenizer.sample_bytes_max);
    Ok(train::train(&sample, config.tokenizer.vocab_size)?)
}

fn write_shard(staging: &Staging, shard: &Shard) -> Result<ShardInfo, OutputError> {
    staging.write(&dataset::shard_name(&shard.info.hash), &shard.bytes)?;
    Ok(shard.info)
}

/// Writes a shard and a file for people for each language; says whether the tokenizer gives all texts back.
fn write_heldout(
    heldout: &BTreeMap<String, Vec<Document>>,
    encoder: &Encoder,
    staging: &Staging,
    progress: &dyn Progress,
) -> Result<(Vec<HeldoutShard>, bool), BuildError> {
    progress.stage("checking the tokenizer on held-out documents", None);
    let (mut written, mut lossless) = (Vec::new(), true);
    for (language, documents) in heldout {
        let texts: Vec<&str> = documents.iter().map(|document| document.text.as_str()).collect();
        let tokens = encoder.encode_all(&texts, |_| {})?;
        let checks: Vec<Result<bool, TokenizerError>> =
            texts.par_iter().zip(&tokens).map(|(text, tokens)| encoder.check(text, tokens)).collect();
        for check in checks {
            lossless &= check?;
        }
        let mut writer = ShardWriter::new(encoder.vocab_size());
        tokens.iter().try_for_each(|tokens| writer.push(tokens))?;
        let shard = write_shard(staging, &shards::finish(writer))?;
        let text_bytes = texts.iter().map(|text| text.len() as u64).sum();
        written.push(HeldoutShard { language: language.clone(), shard, text_bytes });
        staging.write(&dataset::heldout_name(language), &jsonl(documents))?;
    }
    Ok((written, lossless))
}

fn jsonl(documents: &[Document]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for document in documents {
        match serde_json::to_vec(&HeldoutLine::from(document)) {
            Ok(line) => bytes.extend(line),
            Err(error) => unreachable!("strings that are no JSON: {error}"),
        }
        bytes.push(b'\n');
    }
    bytes
}

/// What was trained on, by source and language; a document that comes several times counts once.
fn summaries(training: &[Document], tokens: &[Vec<u32>], order: &[usize]) -> Vec<SourceSummary> {
    let used: BTreeSet<usize> = order.iter().copied().collect();
    let mut summaries = BTreeMap::<(&str, &str), (BTreeSet<&str>, SourceSummary)>::new();
    for i in used {
        let document = &training[i];
        let key = (document.source.as_str(), document.language.as_str());
        let (licenses, summary) = summaries.entry(key).or_insert_with(|| {
            let (name, language) = (document.source.clone(), document.language.clone());
            let empty = SourceSummary { name, language, licenses: Vec::new(), documents: 0, text_bytes: 0, tokens: 0 };
            (BTreeSet::new(), empty)
        });
        licenses.insert(&document.license);
        summary.documents += 1;
        summary.text_bytes += document.text.len() as u64;
        summary.tokens += tokens[i].len() as u64;
    }
    let finish = |(licenses, summary): (BTreeSet<&str>, SourceSummary)| SourceSummary {
        licenses: licenses.into_iter().map(str::to_owned).collect(),
        ..summary
    };
    summaries.into_values().map(finish).collect()
}
