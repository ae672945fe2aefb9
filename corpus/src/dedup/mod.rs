//! Duplicates: found by hashes of documents, without their texts, in memory that does not grow with the corpus.
//!
//! 1. [`Sketcher::sketch`] makes a [`Sketch`] of each document during ingestion: a hash of its text, band keys of its MinHash
//!    signature, hashes of its lines. [`write_sketches`] puts those of a bundle into one object, [`sketch_name`].
//! 2. [`bands`] reads one range of the space of hashes, of all bundles, and writes pairs of documents with an equal key. There are
//!    [`ranges`] of them for a budget of memory; any task does any range.
//! 3. [`cluster`] joins the pairs and writes every document's [`Fate`], [`fate_name`]: one task.
//! 4. [`lines`] counts, range by range, in how many kept documents a line occurs; [`FrequentLines`] removes those in too many.
//!
//! # What is a duplicate
//! Documents with the same text are *exact* duplicates, whatever their language; the one with the smallest key stays. Two documents
//! of one language with an equal band key are *near*-duplicates, and so are those that a chain of such pairs joins; of the documents
//! of such a cluster that are not exact duplicates of a smaller key, the one with the smallest key stays. Every dropped document so
//! names one that has its text ([`Fate::Exact`]) or one that is kept ([`Fate::Near`]), and none of it depends on the order of
//! documents, on bundles, ranges or threads.
//!
//! All band keys live in one space of 64 bits. Among a billion documents, about 5 pairs meet there by chance; the same text is told
//! by 128 bits.
//!
//! # Memory and disk, per million documents
//! With B bands: sketches take 10·B + 18 bytes a document on disk (158 MB at 14 bands), 10 more for each long line.
//! [`bands`] holds (16·B + 32)/R bytes a document (256 MB/R) in R ranges, and 12·1024/R bytes a bundle. [`cluster`] holds 4.1 MB,
//! 64 bytes for each cluster of two or more and 16 to 56 for each document whose text another has. [`lines`] holds 16 bytes for each
//! long line of a range and bundle that it occurs in; [`FrequentLines`] 10 bytes for each line to be removed.
//! `cargo run --release -p essaim-corpus --example dedup_memory` measures it.

mod cluster;
mod config;
mod edges;
mod lines;
pub(crate) mod lists;
mod minhash;
mod sketch;
mod sketches;
#[cfg(test)]
mod tests;
mod union;
pub(crate) mod words;

pub use cluster::{Clusters, cluster};
pub use config::{DedupConfig, LinesConfig};
pub use edges::{Edges, bands};
pub use lines::{FrequentLines, Removed, lines};
pub use sketch::{Scratch, Sketch, Sketcher};
pub use sketches::{PREFIXES, write_sketches};

use crate::bundle::{BundleId, BundleInfo, Key};
use crate::verdict::Rejection;
use serde::{Deserialize, Serialize};

/// What becomes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It stays.
    Kept {
        /// Documents that it stands for, itself included.
        cluster_size: u64,
    },
    /// It has the text of another.
    Exact {
        /// That with the same text and the smallest key. It may itself be dropped for being nearly another's.
        of: Key,
    },
    /// It is nearly the text of another.
    Near {
        /// The one that stays.
        of: Key,
    },
}

impl Fate {
    /// Whether it stays.
    pub fn is_kept(&self) -> bool {
        matches!(self, Fate::Kept { .. })
    }

    /// Why it does not stay: rules `dedup/exact` and `dedup/near`.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Fate::Kept { .. } => None,
            Fate::Exact { of } => Some(Rejection::new("dedup/exact", format!("the text of {of}"))),
            Fate::Near { of } => Some(Rejection::new("dedup/near", format!("nearly the text of {of}, which is kept"))),
        }
    }
}

/// Names the sketches of a bundle.
pub fn sketch_name(id: BundleId) -> String {
    format!("ingest/{id}.sketch")
}

/// Names what [`bands`] wrote of a range.
pub fn edges_name(r: u32) -> String {
    format!("dedup/edges-{r:05}")
}

/// Names the fates of a bundle: `Vec<Fate>`, for [`crate::bundle::get`].
pub fn fate_name(id: BundleId) -> String {
    format!("dedup/{id}.fate")
}

/// Names what [`lines`] wrote of a range.
pub fn lines_name(r: u32) -> String {
    format!("dedup/lines-{r:05}")
}

/// How many ranges keep [`bands`] and [`lines`] within a budget of memory: the larger of documents × (16·bands + 32) and, with lines
/// on, text bytes ÷ chars_min × 16, each divided by the budget, rounded up; 1 to [`PREFIXES`]. The first is what `bands` holds; the
/// second bounds `lines`, as no text has more long lines.
pub fn ranges(bundles: &[BundleInfo], config: &DedupConfig, budget: u64) -> u32 {
    let sum = |part: fn(&BundleInfo) -> u64| bundles.iter().map(part).fold(0, u64::saturating_add);
    let bands = if config.minhash { u64::from(config.bands) * edges::NEAR_BYTES } else { 0 };
    let keys = sum(|bundle| u64::from(bundle.documents)).saturating_mul(bands + edges::EXACT_BYTES);
    let long = sum(|bundle| bundle.text_bytes) / u64::from(config.lines.chars_min.max(1));
    let lines = if config.lines.on() { long.saturating_mul(lines::LINE_BYTES) } else { 0 };
    keys.max(lines).div_ceil(budget.max(1)).clamp(1, u64::from(PREFIXES)) as u32
}

/// Numbers all documents: bundle by bundle, by id, and within a bundle by place.
#[derive(Debug)]
struct Numbering {
    bundles: Vec<(BundleInfo, u64)>,
    documents: u64,
}

impl Numbering {
    fn new(bundles: &[BundleInfo]) -> Numbering {
        let mut sorted = bundles.to_vec();
        sorted.sort_unstable();
        let mut documents = 0;
        let mut based = |bundle: BundleInfo| {
            let base = documents;
            documents += u64::from(bundle.documents);
            (bundle, base)
        };
        Numbering { bundles: sorted.into_iter().map(&mut based).collect(), documents }
    }

    /// Bundles, each with the number of its first document.
    fn bundles(&self) -> impl Iterator<Item = (BundleInfo, u64)> + '_ {
        self.bundles.iter().copied()
    }

    fn documents(&self) -> u64 {
        self.documents
    }
}
