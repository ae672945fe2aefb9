//! The end: everything that the stages made becomes the folder of a data set, at once or not at all.

use super::clean::{Cleaned, Kept};
use super::encode::EncodedFacts;
use super::export::{self, Exported};
use super::ingest::{self, Ingested};
use super::learn::Learnt;
use super::pack::{self, Contents};
use super::place::PlacedFacts;
use super::runner::{Fingerprint, Runner};
use super::select::{self, Cuts};
use super::{clean, encode};
use crate::build::{BuildError, Report};
use crate::bundle::{self, BundleInfo, Fate, Key};
use crate::config::Config;
use crate::dataset::{self, HeldoutLine};
use crate::facts::{Broken, FACTS, Facts, HostFacts, LicenseFacts, LineFacts, MixFacts, MixPart, TokenizerFacts};
use crate::mix::{Parts, Plan};
use crate::output::{OutputError, Staging};
use crate::publish::index::{self, Entry};
use crate::publish::rejected::{REJECTED, RejectedWriter};
use crate::publish::{self, Credits, FileInfo, sha256};
use crate::store::StoreError;
use crate::tally::{KEPT, Tally};
use essaim_protocol::dataset::{DatasetManifest, Mix, ShardInfo, SourceSummary};
use essaim_protocol::ids::Hash;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Hosts that facts name.
const HOSTS_MAX: usize = 1000;
/// Refused documents, or places of documents, that are sorted at a time.
const SORTED_MAX: u64 = 2_000_000;

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
        let bytes = runner.store.get(&pack::shard_name(shard))?;
        staging.write(&dataset::shard_name(&shard.hash), &bytes)?;
    }
    for file in exported.iter().flat_map(|range| &range.files) {
        let bytes = runner.store.get(&export::file_name(&file.name))?;
        if sha256(&bytes) != file.sha256 {
            return Err(runner.store.damaged(&export::file_name(&file.name), "its hash is another").into());
        }
        staging.write(&file.name, &bytes)?;
        files.push(file.clone());
    }
    done.write_heldout(runner, &staging)?;
    done.write_index(runner, &staging, &manifest)?;
    files.push(done.write_rejected(runner, &staging)?);
    let facts = done.facts(&exported, Hash::of(&bytes));
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
        let documents = select::heldout(runner, &self.bundles, &self.cuts)?;
        for documents in documents.chunk_by(|a, b| a.document.language == b.document.language) {
            let mut bytes = Vec::new();
            for keyed in documents {
                match serde_json::to_vec(&HeldoutLine::new(&keyed.document, &keyed.notes)) {
                    Ok(line) => bytes.extend(line),
                    Err(error) => unreachable!("strings that are no JSON: {error}"),
                }
                bytes.push(b'\n');
            }
            staging.write(&dataset::heldout_name(&documents[0].document.language), &bytes)?;
        }
        Ok(())
    }

    /// Writes where each document lies, range after range of keys.
    fn write_index(
        &self,
        runner: &Runner<'_>,
        staging: &Staging,
        manifest: &DatasetManifest,
    ) -> Result<(), BuildError> {
        let number = |part: &(String, String)| {
            let found =
                manifest.sources.iter().position(|source| (&source.language, &source.name) == (&part.0, &part.1));
            found.unwrap_or(0) as u16
        };
        let numbers: Vec<u16> = self.parts.keys().map(number).collect();
        let count: u64 = manifest.all_shards().map(|shard| shard.documents).sum();
        let ranges = count.div_ceil(SORTED_MAX).max(1).next_power_of_two();
        let (file, path) = staging.create(index::INDEX)?;
        let mut file = BufWriter::new(file);
        let mut failed = None;
        let entries = (0..ranges).flat_map(|range| match self.entries(runner, &numbers, range, ranges) {
            Ok(entries) => entries,
            Err(error) => {
                failed.get_or_insert(error);
                Vec::new()
            }
        });
        let written = index::write(&mut file, &path, count, entries);
        if let Some(error) = failed {
            return Err(error.into());
        }
        written?;
        finish_file(file, &path)
    }

    /// Places of the documents whose keys lie in a range, sorted.
    fn entries(&self, runner: &Runner<'_>, numbers: &[u16], range: u64, count: u64) -> Result<Vec<Entry>, StoreError> {
        let heads = export::heads(range, count);
        let (mut entries, mut shard) = (Vec::new(), 0);
        for (plan, &ranges) in self.plans.iter().zip(&self.ranges) {
            for places in 0..ranges as usize {
                let contents: Contents = bundle::get(&runner.store, &pack::contents_name(&plan.name, places))?;
                for documents in contents.shards {
                    let entry = |(document, piece): (usize, pack::Piece)| Entry {
                        key: piece.key,
                        shard,
                        document: document as u32,
                        source: numbers.get(usize::from(piece.part)).copied().unwrap_or(0),
                        piece: piece.piece,
                        text_bytes: piece.text_bytes,
                    };
                    let here = |entry: &Entry| heads.contains(&entry.key.head());
                    entries.extend(documents.into_iter().enumerate().map(entry).filter(here));
                    shard += 1;
                }
            }
        }
        for keys in &self.learnt.keys {
            let entry = |(document, &(key, text_bytes)): (usize, &(Key, u32))| Entry {
                key,
                shard,
                document: document as u32,
                source: 0,
                piece: 0,
                text_bytes,
            };
            entries.extend(keys.iter().enumerate().map(entry).filter(|entry| heads.contains(&entry.key.head())));
            shard += 1;
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Writes what was refused and why, sorted by a hash of the id and then by everything else.
    fn write_rejected(&self, runner: &Runner<'_>, staging: &Staging) -> Result<FileInfo, BuildError> {
        let ingested =
            self.ingested.iter().flat_map(|unit| &unit.fates).map(|id| bundle::fates_name(ingest::STAGE, *id));
        let cleaned = self.all_bundles.iter().map(|bundle| bundle::fates_name(clean::STAGE, bundle.id));
        let encoded = self.bundles.iter().map(|bundle| bundle::fates_name(encode::STAGE, bundle.id));
        let names: Vec<String> = ingested.chain(cleaned).chain(encoded).collect();
        let count = self.tally.sum(|key| key.rule != crate::tally::READ).documents;
        let ranges = count.div_ceil(SORTED_MAX).max(1).next_power_of_two();
        let (file, path) = staging.create(REJECTED)?;
        let mut writer = RejectedWriter::new(BufWriter::new(file))?;
        for range in 0..ranges {
            let heads = export::heads(range, ranges);
            let mut fates = Vec::new();
            for name in &names {
                let some: Vec<Fate> = bundle::get(&runner.store, name)?;
                let hashed = some.into_iter().map(|fate| (id_head(&fate.id), fate));
                fates.extend(hashed.filter(|(head, _)| heads.contains(head)));
            }
            fates.sort_unstable();
            fates.iter().try_for_each(|(_, fate)| writer.push(fate))?;
        }
        finish_file(writer.finish()?, &path)?;
        let bytes = std::fs::read(&path).map_err(|error| OutputError::Io { path: path.clone(), error })?;
        Ok(FileInfo::of(REJECTED, None, count, &bytes))
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
            hosts: self.hosts(),
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

    fn hosts(&self) -> Vec<HostFacts> {
        let facts =
            |(host, &(documents, bytes)): (&String, &(u64, u64))| HostFacts { host: host.clone(), documents, bytes };
        let mut hosts: Vec<HostFacts> = self.kept.hosts.iter().map(facts).collect();
        hosts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.host.cmp(&b.host)));
        hosts.truncate(HOSTS_MAX);
        hosts
    }
}

/// A number that sorts documents by their ids and depends on nothing else.
fn id_head(id: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(id.as_bytes()).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn finish_file(file: BufWriter<std::fs::File>, path: &Path) -> Result<(), BuildError> {
    let io = |error| OutputError::Io { path: path.to_owned(), error };
    let mut file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.flush().and_then(|()| file.sync_all()).map_err(io)?;
    Ok(())
}
