//! The stages of deduplication, timed one by one on one thread, and what they decide: for `benches/corpus_dedup.py`.
//!
//! ```sh
//! cargo run --release -p essaim-corpus --example dedup_stages -- DOCUMENTS.jsonl STORE DECISIONS.jsonl
//! ```
//! Then decontamination: every hundredth document, by id, is a benchmark item, and the others are checked. DOCUMENTS has `id`, `language` and `text`; STORE is a folder for what the stages write; DECISIONS gets, for each document,
//! `id`, `fate`, `of` and `contaminated`. The times, in seconds, go to standard output as JSON.
#![allow(clippy::unwrap_used)]

use essaim_corpus::bundle::{self, BundleId, BundleInfo, Key, Keyed, keys_name};
use essaim_corpus::decontaminate::{DecontaminateConfig, NgramSet};
use essaim_corpus::dedup::{self, DedupConfig, Fate, Scratch, Sketch, Sketcher};
use essaim_corpus::document::{Document, Meta, normalise};
use essaim_corpus::store::Store;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

fn read(path: &str) -> Vec<Keyed> {
    let content = std::fs::read_to_string(path).unwrap();
    let document = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| value[name].as_str().unwrap().to_owned();
        let document = Document {
            id: field("id"),
            source: "bench".into(),
            language: field("language"),
            license: "NOASSERTION".into(),
            text: normalise(&field("text")),
            meta: Meta::default(),
        };
        Keyed { key: Key::of(&document), document, notes: Default::default() }
    };
    let mut documents: Vec<Keyed> = content.lines().map(document).collect();
    documents.sort_by_key(|keyed| keyed.key);
    documents
}

fn main() {
    let [documents, folder, decisions] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        eprintln!("usage: dedup_stages DOCUMENTS.jsonl STORE DECISIONS.jsonl");
        std::process::exit(2);
    };
    let documents = read(documents);
    let bytes: usize = documents.iter().map(|keyed| keyed.document.text.len()).sum();
    let store = Store::open(folder).unwrap();
    let config = DedupConfig::default();
    let ids: HashMap<Key, String> = documents.iter().map(|keyed| (keyed.key, keyed.document.id.clone())).collect();
    let id = BundleId { unit: 0, part: 0 };
    let bundles = [BundleInfo { id, documents: documents.len() as u32, text_bytes: bytes as u64 }];
    bundle::put(&store, &keys_name("ingest", id), &bundle::build(documents.clone()).rows).unwrap();
    let mut seconds = Vec::new();
    let mut lap = {
        let mut last = Instant::now();
        move |seconds: &mut Vec<f64>| {
            seconds.push(last.elapsed().as_secs_f64());
            last = Instant::now();
        }
    };
    lap(&mut Vec::new());

    let sketcher = Sketcher::new(&config);
    let mut scratch = Scratch::default();
    let sketches: Vec<Sketch> = documents
        .iter()
        .map(|keyed| sketcher.sketch(&keyed.document.language, &keyed.document.text, &mut scratch))
        .collect();
    lap(&mut seconds);
    dedup::write_sketches(&store, &dedup::sketch_name(id), &sketches).unwrap();
    lap(&mut seconds);
    dedup::bands(&store, &bundles, 0, 1).unwrap();
    lap(&mut seconds);
    dedup::cluster(&store, &bundles, 1).unwrap();
    lap(&mut seconds);
    let fates: Vec<Fate> = bundle::get(&store, &dedup::fate_name(id)).unwrap();
    let kept =
        documents.iter().zip(&fates).filter(|(_, fate)| fate.is_kept()).map(|(keyed, _)| keyed.document.text.len());
    let kept: Vec<usize> = kept.collect();
    lap(&mut seconds);

    let mut by_id: Vec<&Document> = documents.iter().map(|keyed| &keyed.document).collect();
    by_id.sort_by(|a, b| a.id.cmp(&b.id));
    let mut builder = NgramSet::builder(&DecontaminateConfig::default());
    by_id.iter().step_by(100).for_each(|item| builder.benchmark(&item.text).unwrap());
    let set = builder.build().unwrap();
    lap(&mut Vec::new());
    let checked = by_id.iter().enumerate().filter(|(place, _)| place % 100 > 0);
    let contaminated: HashSet<&str> =
        checked.filter(|(_, document)| set.check(&document.text).is_err()).map(|(_, document)| &*document.id).collect();
    lap(&mut seconds);

    let decision = |(keyed, fate): (&Keyed, &Fate)| {
        let (fate, of) = match fate {
            Fate::Kept { .. } => ("kept", None),
            Fate::Exact { of } => ("exact", Some(&ids[of])),
            Fate::Near { of } => ("near", Some(&ids[of])),
        };
        serde_json::json!({ "id": keyed.document.id, "fate": fate, "of": of, "contaminated": contaminated.contains(&*keyed.document.id) }).to_string() + "\n"
    };
    std::fs::write(decisions, documents.iter().zip(&fates).map(decision).collect::<String>()).unwrap();
    let [sketch, write, bands, cluster, filter, decontaminate] = seconds[..] else { unreachable!("six laps") };
    let report = serde_json::json!({
        "documents": documents.len(), "bytes": bytes, "kept": kept.len(), "kept_bytes": kept.iter().sum::<usize>(),
        "sketch": sketch, "write": write, "bands": bands, "cluster": cluster, "filter": filter,
        "decontaminate": decontaminate, "contaminated": contaminated.len(), "ngrams": set.len().1,
    });
    println!("{report}");
}
