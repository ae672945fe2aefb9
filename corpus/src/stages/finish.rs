//! The end: everything that the stages made becomes the folder of a data set, at once or not at all.

use super::clean::{Cleaned, Kept};
use super::encode::EncodedFacts;
use super::export::{self, Exported};
use super::heldout;
use super::ingest::Ingested;
use super::learn::Learnt;
use super::pack;
use super::place::PlacedFacts;
use super::runner::{Fingerprint, Runner};
use super::select::Cuts;
use crate::build::{BuildError, Report};
use crate::bundle::{BundleId, BundleInfo};
use crate::config::Config;
use crate::dataset::{self, HeldoutLine};
use crate::facts::{Broken, FACTS, Facts, LicenseFacts, LineFacts, MixFacts, MixPart, TokenizerFacts};
use crate::mix::{Parts, Plan};
use crate::output::{OutputError, Staging};
use crate::publish::{self, Credits, FileInfo};
use crate::tally::{KEPT, Tally};
use essaim_protocol::dataset::{DatasetManifest, Mix, ShardInfo, SourceSummary};
use essaim_protocol::ids::Hash;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Everything that the stages said.
#[derive(Debug)]
pub struct Finishing<'a> {
    /// The settings.
    pub config: &'a Config,
    /// What was read.
    pub ingested: Vec<Ingested>,
    /// Bundles with kept documents.
    pub bundles: Vec<BundleInfo>,
    /// All bundles, also those of which no document was kept.
    pub all_bundles: Vec<BundleInfo>,
    /// What is held out.
    pub cuts: Cuts,
    /// The tokenizer.
    pub learnt: Learnt,
    /// What was encoded, by bundle.
    pub encoded: Vec<EncodedFacts>,
    /// Languages and sources that there are to train on.
    pub parts: Parts,
    /// The mixes.
    pub plans: Vec<Plan>,
    /// Ranges of places of each.
    pub ranges: Vec<u64>,
    /// What each is made of.
    pub mixes: Vec<MixFacts>,
    /// Shards of each.
    pub shards: Vec<Vec<ShardInfo>>,
    /// Counts of documents by rule, without those that were kept.
    pub tally: Tally,
    /// What could not be read.
    pub broken: Vec<Broken>,
    /// Figures of kept documents, those decontaminated later included.
    pub kept: Kept,
    /// Sizes of clusters of duplicates.
    pub clusters: BTreeMap<u64, u64>,
    /// Bundles with documents that have hosts, and how many hosts.
    pub hosts: Vec<(BundleId, u64)>,
    /// Lines removed.
    pub line_facts: LineFacts,
    /// Tokens of the vocabulary.
    pub vocab_size: u32,
}

/// Lines removed in all bundles.
pub fn line_facts(cleaned: &[Cleaned]) -> LineFacts {
    let mut sum = LineFacts::default();
    for LineFacts { documents, lines, bytes } in cleaned.iter().map(|bundle| bundle.lines) {
        sum.documents += documents;
        sum.lines += lines;
        sum.bytes += bytes;
    }
    sum
}

/// What each mix came to.
pub fn mix_facts(plans: &[Plan], placed: &[PlacedFacts]) -> Vec<MixFacts> {
    let facts = |(i, plan): (usize, &Plan)| {
        let mut parts = BTreeMap::<(String, String), MixPart>::new();
        for (name, part) in placed.iter().filter_map(|bundle| bundle.mixes.get(i)).flatten() {
            let sum = parts.entry(name.clone()).or_insert_with(|| MixPart {
                language: part.language.clone(),
                source: part.source.clone(),
                weight: part.weight,
                ..MixPart::default()
            });
            sum.documents += part.documents;
            sum.copies += part.copies;
            sum.bytes += part.bytes;
            sum.tokens += part.tokens;
        }
        MixFacts { name: plan.name.clone(), shards: 0, parts: parts.into_values().collect() }
    };
    plans.iter().enumerate().map(facts).collect()
}

/// Writes the folder. The first task does; others give `None` when they have done their part of the texts.
///
/// # Errors
/// [`BuildError`].
pub fn run(
    runner: &Runner<'_>,
    done: &Finishing<'_>,
    out: &Path,
    before: Fingerprint,
) -> Result<Option<Report>, BuildError> {
    let texts = done.config.publish.texts;
    let exported = export::run(runner, &done.bundles, &done.cuts, &done.encoded, texts, before)?;
    if runner.task.index != 0 {
        return Ok(None);
    }
    runner.progress.stage("putting the data set together", None);
    let staging = Staging::new(out)?;
    let manifest = done.manifest();
    let bytes = manifest.to_bytes();
    DatasetManifest::from_bytes(&bytes)?;
    let mut files = Vec::new();
    for shard in manifest.all_shards() {
        runner.store.fetch(&pack::shard_name(shard), &staging.begin(&dataset::shard_name(&shard.hash))?)?;
    }
    for file in exported.iter().flat_map(|range| &range.files) {
        let (object, path) = (export::file_name(&file.name), staging.begin(&file.name)?);
        runner.store.fetch(&object, &path)?;
        let read = FileInfo::read(&path, &file.name).map_err(|error| OutputError::Io { path, error })?;
        if read.sha256 != file.sha256 {
            return Err(runner.store.damaged(&object, "its hash is another").into());
        }
        files.push(file.clone());
    }
    done.write_heldout(runner, &staging)?;
    done.write_index(runner, &staging, &manifest)?;
    files.push(done.write_rejected(runner, &staging)?);
    let facts = Facts { hosts: done.largest_hosts(runner, &staging)?, ..done.facts(&exported, Hash::of(&bytes)) };
    let json =
        |value: serde_json::Result<String>| value.unwrap_or_else(|error| unreachable!("no JSON: {error}")) + "\n";
    staging.write(FACTS, json(serde_json::to_string_pretty(&facts)).as_bytes())?;
    staging.write(dataset::TOKENIZER, &done.learnt.tokenizer)?;
    staging.write(dataset::TOKENIZER_CONFIG, &crate::tokenizer::config_json())?;
    staging.write(dataset::MANIFEST_JSON, format!("{:#}\n", dataset::manifest_json(&manifest)).as_bytes())?;
    staging.write(dataset::MANIFEST, &bytes)?;
    files.extend(staging.describe(&publish::own_files(&manifest))?);
    for (name, bytes) in publish::write(&facts, &files) {
        staging.write(&name, &bytes)?;
    }
    staging.commit()?;
    Ok(Some(Report { hash: Hash::of(&bytes), manifest, facts, lossless: done.learnt.lossless }))
}

impl Finishing<'_> {
    fn manifest(&self) -> DatasetManifest {
        let mixes = self.plans.iter().zip(&self.shards);
        DatasetManifest {
            version: 1,
            name: self.config.name.clone(),
            tokenizer: Hash::of(&self.learnt.tokenizer),
            vocab_size: self.vocab_size,
            mixes: mixes.map(|(plan, shards)| Mix { name: plan.name.clone(), shards: shards.clone() }).collect(),
            heldout: self.learnt.shards.clone(),
            sources: self.sources(),
            settings: self.config.settings(),
        }
    }

    /// What is trained on in any mix, by source and language; a document that comes several times counts once.
    fn sources(&self) -> Vec<SourceSummary> {
        let mut licenses = BTreeMap::<(&String, &String), BTreeSet<&String>>::new();
        for (language, source, license) in self.encoded.iter().flat_map(|bundle| bundle.licenses.keys()) {
            licenses.entry((language, source)).or_default().insert(license);
        }
        let used = |part: &(String, String)| {
            let is_it = |mixed: &&MixPart| (&mixed.language, &mixed.source) == (&part.0, &part.1);
            self.mixes.iter().any(|mix| mix.parts.iter().filter(is_it).any(|mixed| mixed.copies > 0))
        };
        let summary = |(part, there): (&(String, String), &crate::mix::Available)| SourceSummary {
            name: part.1.clone(),
            language: part.0.clone(),
            licenses: licenses.get(&(&part.0, &part.1)).into_iter().flatten().map(|name| (*name).clone()).collect(),
            documents: there.documents,
            text_bytes: there.bytes,
            tokens: there.tokens,
        };
        let mut sources: Vec<SourceSummary> = self.parts.iter().filter(|(part, _)| used(part)).map(summary).collect();
        sources.sort_by(|a, b| (&a.name, &a.language).cmp(&(&b.name, &b.language)));
        sources
    }

    fn write_heldout(&self, runner: &Runner<'_>, staging: &Staging) -> Result<(), BuildError> {
        for found in heldout::languages(runner, &self.cuts) {
            let (language, documents) = found?;
            let mut bytes = Vec::new();
            for keyed in &documents {
                match serde_json::to_vec(&HeldoutLine::new(&keyed.document, &keyed.notes)) {
                    Ok(line) => bytes.extend(line),
                    Err(error) => unreachable!("strings that are no JSON: {error}"),
                }
                bytes.push(b'\n');
            }
            staging.write(&dataset::heldout_name(language), &bytes)?;
        }
        Ok(())
    }

    fn facts(&self, exported: &[Exported], hash: Hash) -> Facts {
        let mut tally = self.tally.clone();
        let mut kept = self.kept.parts.clone();
        for (key, count) in self.encoded.iter().flat_map(|bundle| bundle.tally.rows()) {
            if let Some(left) = kept.get_mut(&(key.language.clone(), key.source.clone())) {
                *left = (left.0.saturating_sub(count.documents), left.1.saturating_sub(count.bytes));
            }
        }
        kept.iter()
            .for_each(|((language, source), &(documents, bytes))| tally.add(source, language, KEPT, documents, bytes));
        let mut credits = Credits::default();
        exported.iter().for_each(|range| credits.merge(&range.credits));
        let mut masked = BTreeMap::<String, BTreeMap<String, u64>>::new();
        for ((kind, language), count) in &self.kept.masked {
            *masked.entry(kind.clone()).or_default().entry(language.clone()).or_default() += count;
        }
        let shards = self.shards.iter().map(Vec::len);
        let mixes = self.mixes.iter().cloned().zip(shards);
        Facts {
            version: 1,
            name: self.config.name.clone(),
            dataset: hash.to_string(),
            settings: self.config.settings(),
            tally,
            broken: self.broken.clone(),
            licenses: self.licenses(),
            mixes: mixes.map(|(mix, shards)| MixFacts { shards: shards as u64, ..mix }).collect(),
            heldout: self.learnt.heldout.clone(),
            tokenizer: TokenizerFacts {
                hash: Hash::of(&self.learnt.tokenizer).to_string(),
                vocab_size: self.vocab_size,
                trained: self.config.tokenizer.path.is_none(),
                fertility: self.learnt.fertility.clone(),
            },
            lengths: self.kept.lengths.clone(),
            clusters: self.clusters.clone(),
            masked,
            hosts: Vec::new(),
            lines: self.line_facts,
            years: self.kept.years.clone(),
            credits,
            publish: self.config.publish.clone(),
        }
    }

    fn licenses(&self) -> Vec<LicenseFacts> {
        let mut sums = BTreeMap::<(&String, &String, &String), (u64, u64)>::new();
        for ((language, source, license), (documents, bytes)) in self.encoded.iter().flat_map(|bundle| &bundle.licenses)
        {
            let sum = sums.entry((license, source, language)).or_default();
            sum.0 += documents;
            sum.1 += bytes;
        }
        let facts = |((license, source, language), (documents, bytes)): ((&String, &String, &String), (u64, u64))| {
            let (license, source, language) = (license.clone(), source.clone(), language.clone());
            LicenseFacts { license, source, language, documents, bytes }
        };
        sums.into_iter().map(facts).collect()
    }
}
