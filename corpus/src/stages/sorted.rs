//! What is sorted over all documents at the end: the index, the list of what was refused, the largest hosts. Through a file each.

use super::clean::{self, Hosts};
use super::encode;
use super::finish::Finishing;
use super::ingest;
use super::pack::{self, Contents};
use super::runner::Runner;
use super::spill::Spill;
use crate::build::BuildError;
use crate::bundle::{self, Fate};
use crate::facts::HostFacts;
use crate::output::{OutputError, Staging};
use crate::publish::index::{self, Entry};
use crate::publish::rejected::{REJECTED, RejectedWriter};
use crate::publish::{FileInfo, PublishError};
use crate::tally::READ;
use essaim_protocol::dataset::DatasetManifest;
use parquet::errors::ParquetError;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Hosts that facts name.
const HOSTS_MAX: usize = 1000;
/// The file through which all goes, while the folder is in the making.
const SPILL: &str = "spill";

impl Finishing<'_> {
    /// Writes where each document lies.
    pub(super) fn write_index(
        &self,
        runner: &Runner<'_>,
        staging: &Staging,
        manifest: &DatasetManifest,
    ) -> Result<(), BuildError> {
        let count: u64 = manifest.all_shards().map(|shard| shard.documents).sum();
        let mut spill = Spill::new(staging.path(SPILL), count)?;
        self.places(runner, manifest, |entry| Ok(spill.push(entry.key.head(), &entry)?))?;
        let (file, path) = staging.create(index::INDEX)?;
        let mut file = BufWriter::new(file);
        let mut failed = None;
        let entries = (0..spill.ranges()).flat_map(|range| {
            let mut entries: Vec<Entry> = spill.take(range).unwrap_or_else(|error| {
                failed.get_or_insert(error);
                Vec::new()
            });
            entries.sort_unstable();
            entries
        });
        let written = index::write(&mut file, &path, count, entries);
        match failed {
            Some(error) => Err(error.into()),
            None => {
                written?;
                finish_file(file, &path)
            }
        }
    }

    /// All places of all documents, shard after shard.
    fn places(
        &self,
        runner: &Runner<'_>,
        manifest: &DatasetManifest,
        mut each: impl FnMut(Entry) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let number = |part: &(String, String)| {
            let found =
                manifest.sources.iter().position(|source| (&source.language, &source.name) == (&part.0, &part.1));
            found.unwrap_or(0) as u16
        };
        let numbers: Vec<u16> = self.parts.keys().map(number).collect();
        let mut shard = 0;
        for (plan, &ranges) in self.plans.iter().zip(&self.ranges) {
            for places in 0..ranges as usize {
                let contents: Contents = bundle::get(&runner.store, &pack::contents_name(&plan.name, places))?;
                for documents in contents.shards {
                    for (document, piece) in documents.into_iter().enumerate() {
                        let source = numbers.get(usize::from(piece.part)).copied().unwrap_or(0);
                        let pack::Piece { key, piece, text_bytes, .. } = piece;
                        each(Entry { key, shard, document: document as u32, source, piece, text_bytes })?;
                    }
                    shard += 1;
                }
            }
        }
        for keys in &self.learnt.keys {
            for (document, &(key, text_bytes)) in keys.iter().enumerate() {
                each(Entry { key, shard, document: document as u32, source: 0, piece: 0, text_bytes })?;
            }
            shard += 1;
        }
        Ok(())
    }

    /// Writes what was refused and why, sorted by a hash of the id and then by everything else.
    pub(super) fn write_rejected(&self, runner: &Runner<'_>, staging: &Staging) -> Result<FileInfo, BuildError> {
        let ingested =
            self.ingested.iter().flat_map(|unit| &unit.fates).map(|id| bundle::fates_name(ingest::STAGE, *id));
        let cleaned = self.all_bundles.iter().map(|bundle| bundle::fates_name(clean::STAGE, bundle.id));
        let encoded = self.bundles.iter().map(|bundle| bundle::fates_name(encode::STAGE, bundle.id));
        let count = self.tally.sum(|key| key.rule != READ).documents;
        let mut spill = Spill::new(staging.path(SPILL), count)?;
        for name in ingested.chain(cleaned).chain(encoded) {
            let fates: Vec<Fate> = bundle::get(&runner.store, &name)?;
            fates.iter().try_for_each(|fate| spill.push(head(&fate.id), fate))?;
        }
        let (file, path) = staging.create(REJECTED)?;
        let named = |error| named(error, &path);
        let mut writer = RejectedWriter::new(BufWriter::new(file)).map_err(named)?;
        for range in 0..spill.ranges() {
            let fates: Vec<Fate> = spill.take(range)?;
            let mut fates: Vec<(u64, Fate)> = fates.into_iter().map(|fate| (head(&fate.id), fate)).collect();
            fates.sort_unstable();
            fates.iter().try_for_each(|(_, fate)| writer.push(fate)).map_err(named)?;
        }
        finish_file(writer.finish().map_err(named)?, &path)?;
        let described = FileInfo::read(&path, REJECTED).map_err(|error| OutputError::Io { path, error })?;
        Ok(FileInfo { documents: count, ..described })
    }

    /// The hosts with most bytes of kept text, those decontaminated later included.
    pub(super) fn largest_hosts(&self, runner: &Runner<'_>, staging: &Staging) -> Result<Vec<HostFacts>, BuildError> {
        let mut spill = Spill::new(staging.path(SPILL), self.hosts.iter().map(|(_, hosts)| hosts).sum())?;
        for (id, _) in &self.hosts {
            let hosts: Hosts = bundle::get(&runner.store, &clean::hosts_name(*id))?;
            hosts.iter().try_for_each(|(host, counts)| spill.push(head(host), &(host, counts)))?;
        }
        let mut largest = Vec::<HostFacts>::new();
        for range in 0..spill.ranges() {
            let mut sums = BTreeMap::<String, (u64, u64)>::new();
            let found: Vec<(String, (u64, u64))> = spill.take(range)?;
            for (host, (documents, bytes)) in found {
                let sum = sums.entry(host).or_default();
                *sum = (sum.0 + documents, sum.1 + bytes);
            }
            let facts = |(host, (documents, bytes))| HostFacts { host, documents, bytes };
            largest.extend(sums.into_iter().map(facts));
            largest.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.host.cmp(&b.host)));
            largest.truncate(HOSTS_MAX);
        }
        Ok(largest)
    }
}

/// A number that sorts names and depends on nothing else.
fn head(name: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(name.as_bytes()).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// What went wrong with a parquet file, with the file's name where it is the disk's fault.
fn named(error: PublishError, path: &Path) -> BuildError {
    match error {
        PublishError::Parquet(ParquetError::External(cause)) => match cause.downcast::<io::Error>() {
            Ok(error) => OutputError::Io { path: path.to_owned(), error: *error }.into(),
            Err(cause) => PublishError::Parquet(ParquetError::External(cause)).into(),
        },
        error => error.into(),
    }
}

fn finish_file(file: BufWriter<std::fs::File>, path: &Path) -> Result<(), BuildError> {
    let io = |error| OutputError::Io { path: path.to_owned(), error };
    let mut file = file.into_inner().map_err(|error| io(error.into_error()))?;
    file.flush().and_then(|()| file.sync_all()).map_err(io)?;
    Ok(())
}
