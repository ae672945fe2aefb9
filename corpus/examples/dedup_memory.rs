//! What the search for duplicates takes in memory, on disk and in time, measured on sketches of documents that never were: a tenth
//! are near-duplicates of another, a twentieth exact ones.
//!
//! ```sh
//! cargo run --release -p essaim-corpus --example dedup_memory -- [DOCUMENTS] [BUDGET_BYTES] [FOLDER]
//! ```
//! Defaults: 2,000,000 documents, a twentieth of the bytes of their sketches, a temporary folder. Linux.
#![allow(clippy::unwrap_used)]

use essaim_corpus::bundle::{self, BundleId, BundleInfo, Key, Row, Rows, keys_name};
use essaim_corpus::dedup::{self, DedupConfig, FrequentLines, LinesConfig, Sketch};
use essaim_corpus::store::Store;
use std::time::Instant;

/// Documents in a bundle: 32 MB of texts of 4 KB.
const BUNDLE: u64 = 8192;

/// A number as good as random.
fn random(label: u64, number: u64) -> u64 {
    let hash = blake3::hash(&[label.to_le_bytes(), number.to_le_bytes()].concat());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

/// Whose text a document has, and whose near-duplicate it is.
fn original(document: u64) -> (u64, u64) {
    match random(1, document) % 20 {
        0 => (random(2, document) % (document + 1), random(2, document) % (document + 1)),
        1 | 2 => (document, random(2, document) % (document + 1)),
        _ => (document, document),
    }
}

fn sketch(document: u64) -> Sketch {
    let (exact, near) = original(document);
    // Of a near-duplicate's bands, one to eight are shared.
    let shared = if exact == document && near != document { 1 + random(3, document) % 8 } else { 14 };
    let band = |band: u64| random(4 + band, if band < shared { near } else { document });
    // A menu of a hundred lines that recur everywhere, and ten lines of one's own.
    let lines =
        (0..2).map(|line| random(30, random(31 + line, document) % 100)).chain((0..10).map(|l| random(40 + l, exact)));
    let mut lines: Vec<u64> = lines.collect();
    lines.sort_unstable();
    lines.dedup();
    let exact = u128::from(random(20, exact)) << 64 | u128::from(random(21, exact));
    Sketch { exact: Some(exact), bands: (0..14).map(band).collect(), lines }
}

fn bundle_of(store: &Store, unit: u64, documents: std::ops::Range<u64>) -> BundleInfo {
    let id = BundleId { unit: unit as u32, part: 0 };
    let mut keyed: Vec<(Key, u64)> =
        documents.map(|document| (Key(*blake3::hash(&document.to_le_bytes()).as_bytes()), document)).collect();
    keyed.sort_unstable();
    let row = |&(key, _): &(Key, u64)| Row { key, language: 0, source: 0, license: 0, text_bytes: 4096 };
    let rows = Rows { names: vec!["fr".into()], rows: keyed.iter().map(row).collect() };
    let sketches: Vec<Sketch> = keyed.iter().map(|&(_, document)| sketch(document)).collect();
    bundle::put(store, &keys_name("ingest", id), &rows).unwrap();
    dedup::write_sketches(store, &dedup::sketch_name(id), &sketches).unwrap();
    BundleInfo { id, documents: keyed.len() as u32, text_bytes: 4096 * keyed.len() as u64 }
}

/// The largest resident memory since the last call and the present one, MB. What a stage gives back may stay with the allocator, and
/// is the next one's to use.
fn peak() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e3
    };
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    (value("VmHWM"), value("VmRSS"))
}

fn bytes(store: &Store, folder: &str, ending: &str) -> u64 {
    let names = store.list(folder).unwrap();
    names.iter().filter(|name| name.contains(ending)).map(|name| store.len(name).unwrap().unwrap()).sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map(|text| text.parse::<u64>().unwrap());
    let documents = number(0).unwrap_or(2_000_000);
    let temporary = tempfile::tempdir().unwrap();
    let store = Store::open(arguments.get(2).map_or(temporary.path().to_str().unwrap(), |folder| folder)).unwrap();
    let config = DedupConfig { lines: LinesConfig { documents_max: 6, ..Default::default() }, ..Default::default() };
    let begin = Instant::now();
    let starts = (0..documents).step_by(BUNDLE as usize);
    let bundles: Vec<BundleInfo> = starts
        .enumerate()
        .map(|(unit, start)| bundle_of(&store, unit as u64, start..documents.min(start + BUNDLE)))
        .collect();
    let millions = documents as f64 / 1e6;
    let sketches = bytes(&store, "ingest", ".sketch");
    let budget = number(1).unwrap_or(sketches / 20);
    let keys_only = DedupConfig::default();
    let (ranges, line_ranges) = (dedup::ranges(&bundles, &keys_only, budget), dedup::ranges(&bundles, &config, budget));
    println!(
        "{documents} documents in {} bundles, sketches {:.1} MB ({:.1} MB per million documents, 12 lines each)",
        bundles.len(),
        sketches as f64 / 1e6,
        sketches as f64 / 1e6 / millions
    );
    println!(
        "made in {:.1} s; budget {:.1} MB: {ranges} ranges for keys, {line_ranges} for lines",
        begin.elapsed().as_secs_f64(),
        budget as f64 / 1e6
    );
    peak();
    println!("resident before: {:.1} MB", peak().1);
    let report = |stage: &str, begin: Instant| {
        let (peak, left) = peak();
        let seconds = begin.elapsed().as_secs_f64();
        println!("{stage:<8} {seconds:>7.2} s, peak of resident memory {peak:>7.1} MB, after it {left:>7.1} MB");
    };

    let begin = Instant::now();
    let (mut near, mut exact) = (0, 0);
    for r in 0..ranges {
        let edges = dedup::bands(&store, &bundles, r, ranges).unwrap();
        (near, exact) = (near + edges.near, exact + edges.exact);
    }
    report("bands", begin);
    let begin = Instant::now();
    let clusters = dedup::cluster(&store, &bundles, ranges).unwrap();
    report("cluster", begin);
    let begin = Instant::now();
    for r in 0..line_ranges {
        dedup::lines(&store, &bundles, &config, r, line_ranges).unwrap();
    }
    let lines = FrequentLines::load(&store, &config, line_ranges).unwrap().len();
    report("lines", begin);
    let per_million = |ending: &str| bytes(&store, "dedup", ending) as f64 / 1e6 / millions;
    println!(
        "{near} near and {exact} exact pairs; {} near and {} exact dropped; {lines} frequent lines",
        clusters.near, clusters.exact
    );
    let largest = clusters.sizes.last_key_value().unwrap().0;
    let several: u64 = clusters.sizes.iter().filter(|(size, _)| **size > 1).map(|(_, count)| count).sum();
    println!("{several} clusters of two or more, the largest of {largest}");
    println!(
        "on disk per million documents: edges {:.1} MB, fates {:.1} MB",
        per_million("edges"),
        per_million(".fate")
    );
}
