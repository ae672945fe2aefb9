//! The first stage: from an input file to bundles of documents that every filter let through.

use super::chain::Chain;
use super::runner::{Item, Runner, fingerprint};
use crate::build::BuildError;
use crate::bundle::{self, BUNDLE_DOCUMENTS_MAX, BundleId, BundleInfo, Fate, Keyed};
use crate::config::Config;
use crate::dedup;
use crate::document::Document;
use crate::facts::Broken;
use crate::readers::{self, Item as Read, Unit};
use crate::tally::{READ, Tally};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Name of the stage.
pub const STAGE: &str = "ingest";
/// Documents that go through the filters at a time.
const BATCH_DOCUMENTS: usize = 1024;
/// Text that goes through the filters at a time, bytes.
const BATCH_TEXT: u64 = 4 << 20;
/// Refused documents in one object.
const FATES_MAX: usize = 1 << 16;
/// Broken rows of one file that are named; the others are only counted.
const BROKEN_NAMED_MAX: usize = 100;

/// What became of an input file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ingested {
    /// Its bundles.
    pub bundles: Vec<BundleInfo>,
    /// Objects with its refused documents, by number.
    pub fates: Vec<BundleId>,
    /// Documents read and refused.
    pub tally: Tally,
    /// Files and rows that could not be read; at most [`BROKEN_NAMED_MAX`].
    pub broken: Vec<Broken>,
    /// How many there were.
    pub broken_count: u64,
}

/// Ingests all units.
///
/// # Errors
/// [`BuildError`].
pub fn run(runner: &Runner<'_>, config: &Config, units: &[Unit], chain: &Chain) -> Result<Vec<Ingested>, BuildError> {
    let item = |(i, unit): (usize, &Unit)| {
        let decides = (
            config.sources[unit.source].shown(),
            &config.dedup,
            &unit.name,
            unit.len_bytes,
            super::chain::modified(&unit.path),
        );
        Item {
            name: format!("{i:06}"),
            weight: unit.len_bytes.max(1),
            fingerprint: fingerprint(STAGE, &(decides, chain.fingerprint())),
        }
    };
    let items: Vec<Item> = units.iter().enumerate().map(item).collect();
    runner.run(STAGE, "reading and filtering", &items, |i, advance| {
        let mut ingestion = Ingestion {
            runner,
            config,
            chain,
            unit: &units[i],
            number: i as u32,
            batch: Vec::new(),
            batch_text: 0,
            kept: Vec::new(),
            kept_text: 0,
            refused: Vec::new(),
            done: Ingested::default(),
        };
        ingestion.read(advance)?;
        ingestion.finish()
    })
}

/// A file on its way.
struct Ingestion<'a> {
    runner: &'a Runner<'a>,
    config: &'a Config,
    chain: &'a Chain,
    unit: &'a Unit,
    number: u32,
    batch: Vec<Document>,
    batch_text: u64,
    kept: Vec<Keyed>,
    kept_text: u64,
    refused: Vec<Fate>,
    done: Ingested,
}

impl Ingestion<'_> {
    fn read(&mut self, advance: &dyn Fn(u64)) -> Result<(), BuildError> {
        let (unit, source) = (self.unit, &self.config.sources[self.unit.source]);
        let mut failed = None;
        let read = readers::read_unit(unit, source, &mut |item| {
            let taken = match item {
                Read::Document(document) => {
                    // Packed text takes a third of its length or so; the rest of the file's length is told at its end.
                    advance(document.text.len() as u64 / 3);
                    self.take(document)
                }
                Read::Bad(bad) => {
                    self.broken(bad.place, bad.reason);
                    Ok(())
                }
            };
            match taken {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        match (failed, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => {
                // What this machine calls its folders is nobody's business.
                let reason = error.to_string();
                let path = format!("{}: ", unit.path.display());
                self.broken(String::new(), reason.strip_prefix(&path).unwrap_or(&reason).to_owned());
                Ok(())
            }
            (None, Ok(_)) => Ok(()),
        }
    }

    fn broken(&mut self, place: String, reason: String) {
        self.done.broken_count += 1;
        if self.done.broken.len() < BROKEN_NAMED_MAX {
            let source = readers::source_name(&self.config.sources[self.unit.source]);
            let file = self.unit.name.clone();
            self.done.broken.push(Broken { source, file, place, reason });
        }
    }

    fn take(&mut self, document: Document) -> Result<(), BuildError> {
        self.batch_text += document.text.len() as u64;
        self.batch.push(document);
        match self.batch.len() >= BATCH_DOCUMENTS || self.batch_text >= BATCH_TEXT {
            true => self.flush_batch(),
            false => Ok(()),
        }
    }

    /// Puts the batch through the filters, in all threads.
    fn flush_batch(&mut self) -> Result<(), BuildError> {
        self.batch_text = 0;
        let batch = std::mem::take(&mut self.batch);
        let chain = self.chain;
        let unit = self.unit;
        let judged: Vec<(u64, String, Result<Keyed, Box<Fate>>)> = batch
            .into_par_iter()
            .map_init(super::chain::Scratch::default, |scratch, document| {
                let (bytes, language) = (document.text.len() as u64, document.language.clone());
                (bytes, language, chain.judge(unit, document, scratch))
            })
            .collect();
        for (bytes, language, judged) in judged {
            let kept_language = match &judged {
                Ok(keyed) => keyed.document.language.clone(),
                Err(fate) => fate.language.clone(),
            };
            // A document counts where its language was found to be, so that a language's columns add up.
            let language = if kept_language.is_empty() { language } else { kept_language };
            match judged {
                Ok(keyed) => {
                    self.done.tally.document(&keyed.document.source, &language, READ, bytes);
                    self.kept_text += keyed.document.text.len() as u64;
                    self.kept.push(keyed);
                    if self.kept.len() >= BUNDLE_DOCUMENTS_MAX || self.kept_text >= self.runner.bundle_text() {
                        self.flush_kept()?;
                    }
                }
                Err(fate) => {
                    self.done.tally.document(&fate.source, &language, READ, bytes);
                    self.done.tally.document(&fate.source, &language, &fate.rule, bytes);
                    self.refused.push(*fate);
                    if self.refused.len() >= FATES_MAX {
                        self.flush_refused()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn flush_kept(&mut self) -> Result<(), BuildError> {
        let id = BundleId { unit: self.number, part: self.done.bundles.len() as u32 };
        let mut kept = std::mem::take(&mut self.kept);
        self.kept_text = 0;
        bundle::sort(&mut kept);
        let sketcher = dedup::Sketcher::new(&self.config.dedup);
        let sketches: Vec<dedup::Sketch> = kept
            .par_iter()
            .map_init(dedup::Scratch::default, |scratch, keyed| {
                sketcher.sketch(&keyed.document.language, &keyed.document.text, scratch)
            })
            .collect();
        dedup::write_sketches(&self.runner.store, &dedup::sketch_name(id), &sketches)?;
        let info = write_bundle(self.runner, STAGE, id, kept)?;
        self.done.bundles.push(info);
        Ok(())
    }

    fn flush_refused(&mut self) -> Result<(), BuildError> {
        let id = BundleId { unit: self.number, part: self.done.fates.len() as u32 };
        bundle::put(&self.runner.store, &bundle::fates_name(STAGE, id), &std::mem::take(&mut self.refused))?;
        self.done.fates.push(id);
        Ok(())
    }

    fn finish(mut self) -> Result<Ingested, BuildError> {
        self.flush_batch()?;
        if !self.kept.is_empty() {
            self.flush_kept()?;
        }
        if !self.refused.is_empty() {
            self.flush_refused()?;
        }
        Ok(self.done)
    }
}

/// Writes the objects of a bundle.
pub(super) fn write_bundle(
    runner: &Runner<'_>,
    stage: &str,
    id: BundleId,
    documents: Vec<Keyed>,
) -> Result<BundleInfo, BuildError> {
    let count = documents.len() as u32;
    let built = bundle::build(documents);
    runner.store.put(&bundle::docs_name(stage, id), built.docs)?;
    bundle::put(&runner.store, &bundle::keys_name(stage, id), &built.rows)?;
    Ok(BundleInfo { id, documents: count, text_bytes: built.text_bytes })
}
