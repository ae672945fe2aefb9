//! The search as a whole, against a search of all pairs.

use super::*;
use crate::bundle::{self, Keyed, Rows, keys_name};
use crate::document::{Document, Meta};
use crate::store::{Store, StoreError};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A document of a test: language, licence, text.
type Plain = (&'static str, &'static str, String);

fn keyed(number: usize, (language, license, text): &Plain) -> Keyed {
    let document = Document {
        id: format!("d{number}"),
        source: "s".into(),
        language: (*language).into(),
        license: (*license).into(),
        text: text.clone(),
        meta: Meta::default(),
    };
    Keyed { key: Key::of(&document), document, notes: Default::default() }
}

/// Ingests documents into bundles as `place` says, and runs all stages in `ranges` ranges.
fn run(
    store: &Store,
    documents: &[Keyed],
    place: impl Fn(usize) -> u32,
    config: &DedupConfig,
    ranges: u32,
) -> (Vec<BundleInfo>, Clusters) {
    let mut parts: BTreeMap<u32, Vec<Keyed>> = BTreeMap::new();
    for (number, keyed) in documents.iter().enumerate() {
        parts.entry(place(number)).or_default().push(keyed.clone());
    }
    let sketcher = Sketcher::new(config);
    let mut bundles = Vec::new();
    for (part, mut documents) in parts {
        documents.sort_by_key(|keyed| keyed.key);
        let mut scratch = Scratch::default();
        let mut sketch = |keyed: &Keyed| sketcher.sketch(&keyed.document.language, &keyed.document.text, &mut scratch);
        let sketches: Vec<Sketch> = documents.iter().map(&mut sketch).collect();
        let id = BundleId { unit: part / 2, part: part % 2 };
        let built = bundle::build(documents);
        write_sketches(store, &sketch_name(id), &sketches).unwrap();
        bundle::put(store, &keys_name("ingest", id), &built.rows).unwrap();
        bundles.push(BundleInfo { id, documents: built.rows.rows.len() as u32, text_bytes: built.text_bytes });
    }
    // Neither the order of ranges nor that of bundles matters.
    bundles.reverse();
    (0..ranges).rev().for_each(|r| {
        bands(store, &bundles, r, ranges).unwrap();
    });
    let clusters = cluster(store, &bundles, ranges).unwrap();
    (bundles, clusters)
}

/// The fates of all documents by key; of those with equal keys, in the order of bundles.
fn fates(store: &Store, bundles: &[BundleInfo]) -> Vec<(Key, Fate)> {
    let mut all = Vec::new();
    for bundle in bundles {
        let rows: Rows = bundle::get(store, &keys_name("ingest", bundle.id)).unwrap();
        let fates: Vec<Fate> = bundle::get(store, &fate_name(bundle.id)).unwrap();
        assert_eq!(rows.rows.len(), fates.len());
        all.extend(rows.rows.iter().map(|row| row.key).zip(fates));
    }
    all.sort_by_key(|(key, _)| *key);
    all
}

/// What the module's documentation says, by comparing all pairs. Keys must differ.
fn oracle(documents: &[Keyed], config: &DedupConfig) -> Vec<(Key, Fate)> {
    let sketcher = Sketcher::new(config);
    let sketch =
        |keyed: &Keyed| sketcher.sketch(&keyed.document.language, &keyed.document.text, &mut Scratch::default());
    let sketches: Vec<Sketch> = documents.iter().map(sketch).collect();
    let count = documents.len();
    let key = |i: usize| documents[i].key;
    let same = |i: usize, j: usize| config.exact && documents[i].document.text == documents[j].document.text;
    let stands: Vec<usize> =
        (0..count).map(|i| (0..count).filter(|&j| i == j || same(i, j)).min_by_key(|&j| key(j)).unwrap()).collect();
    let near = |i: usize, j: usize| {
        documents[i].document.language == documents[j].document.language
            && sketches[i].bands.iter().zip(&sketches[j].bands).any(|(a, b)| a == b)
    };
    let mut cluster: Vec<usize> = (0..count).collect();
    for _ in 0..count {
        for i in 0..count {
            for j in 0..count {
                if near(i, j) {
                    cluster[i] = cluster[i].min(cluster[j]);
                }
            }
        }
    }
    let winner = |i: usize| {
        let rivals = (0..count).filter(|&j| cluster[j] == cluster[i] && stands[j] == j);
        rivals.min_by_key(|&j| key(j)).unwrap()
    };
    let fate = |i: usize| {
        if stands[i] != i {
            return Fate::Exact { of: key(stands[i]) };
        }
        match winner(i) {
            best if best == i => {
                Fate::Kept { cluster_size: (0..count).filter(|&j| winner(stands[j]) == i).count() as u64 }
            }
            best => Fate::Near { of: key(best) },
        }
    };
    let mut all: Vec<(Key, Fate)> = (0..count).map(|i| (key(i), fate(i))).collect();
    all.sort_by_key(|(key, _)| *key);
    all
}

/// A text of a family: the same words with one of some changed, so that chains arise.
fn text(family: u8, change: u8) -> String {
    let word = |i: u8| format!("{}{}", char::from(b'a' + family), char::from(b'a' + i));
    let mut words: Vec<String> = (0..24).map(word).collect();
    words.rotate_left(usize::from(change % 8));
    if change > 3 {
        words.truncate(20);
    }
    words.join(" ")
}

fn documents(picked: &[(u8, u8, bool)]) -> Vec<Keyed> {
    let plain =
        |&(family, change, german): &(u8, u8, bool)| (if german { "de" } else { "fr" }, "MIT", text(family, change));
    picked.iter().map(plain).enumerate().map(|(number, plain)| keyed(number, &plain)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn fates_are_those_of_all_pairs_whatever_the_bundles_and_ranges(
        picked in prop::collection::vec((0u8..3, 0u8..8, prop::bool::weighted(0.3)), 1..24),
        bundles in 1u32..6,
        ranges in prop::sample::select(vec![1u32, 2, 5, 64, 1024]),
        exact: bool,
        minhash in prop::bool::weighted(0.8),
        rows in 1u32..4,
    ) {
        let documents = documents(&picked);
        // Few bands, so that some pairs match and some do not.
        let config = DedupConfig { exact, minhash, bands: 3, rows, ..Default::default() };
        let store = Store::in_memory().unwrap();
        let (infos, clusters) = run(&store, &documents, |number| (number as u32 * 7) % bundles, &config, ranges);
        let found = fates(&store, &infos);
        prop_assert_eq!(&found, &oracle(&documents, &config));
        let sizes: u64 = clusters.sizes.iter().map(|(size, count)| size * count).sum();
        prop_assert_eq!(sizes, documents.len() as u64);
        let kept = found.iter().filter(|(_, fate)| fate.is_kept()).count() as u64;
        prop_assert_eq!(kept, clusters.sizes.values().sum::<u64>());
        prop_assert_eq!(kept + clusters.exact + clusters.near, documents.len() as u64);
    }
}

#[test]
fn a_text_counts_as_exact_across_languages_and_as_near_within_one() {
    let story = |end: &str| {
        format!("{} {end}", (b'a'..=b'z').map(|c| format!("{0}{0}{0} ", char::from(c))).collect::<String>())
    };
    let plain: Vec<Plain> = vec![
        ("fr", "MIT", story("fin")),
        ("de", "MIT", story("fin")),
        ("de", "MIT", story("FIN!")),
        ("fr", "MIT", story("FIN…")),
    ];
    let documents: Vec<Keyed> = plain.iter().enumerate().map(|(number, plain)| keyed(number, plain)).collect();
    let store = Store::in_memory().unwrap();
    let (bundles, clusters) = run(&store, &documents, |number| number as u32, &DedupConfig::default(), 3);
    let found: BTreeMap<Key, Fate> = fates(&store, &bundles).into_iter().collect();
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| documents[i].key);
    let (exact, other, near) = if a < b { (b, a, c) } else { (a, b, d) };
    assert_eq!(found[&exact], Fate::Exact { of: other });
    // What is left of the dropped document's language is not near to what stays in the other's.
    assert!(found[&near].is_kept());
    assert_eq!((clusters.exact, clusters.near), (1, 1));
    assert_eq!(clusters.sizes, BTreeMap::from([(1, 1), (3, 1)]));
    let refusal = found[&exact].rejection().unwrap();
    assert_eq!((refusal.rule.as_ref(), refusal.detail), ("dedup/exact", format!("the text of {other}")));
}

#[test]
fn one_document_read_twice_stays_once_under_the_same_licence() {
    let twice = |order: [&'static str; 2]| {
        let documents = order.map(|license| keyed(0, &("fr", license, "a b c d e f".into())));
        let store = Store::in_memory().unwrap();
        let (bundles, _) = run(&store, &documents, |number| number as u32, &DedupConfig::default(), 1);
        let kept = |bundle: &&BundleInfo| bundle::get::<Vec<Fate>>(&store, &fate_name(bundle.id)).unwrap()[0].is_kept();
        let kept: Vec<&BundleInfo> = bundles.iter().filter(kept).collect();
        assert_eq!(kept.len(), 1);
        let rows: Rows = bundle::get(&store, &keys_name("ingest", kept[0].id)).unwrap();
        rows.license(&rows.rows[0]).to_owned()
    };
    assert_eq!(twice(["MIT", "CC0-1.0"]), twice(["CC0-1.0", "MIT"]));
}

#[test]
fn lines_in_many_kept_documents_are_found_and_removed() {
    let notice = "Cette page est distribuée sous la licence libre numéro 3.";
    let body = |i: usize| format!("Le document {} parle de lui-même et de rien.", "abcdefghij".repeat(i + 1));
    let mut plain: Vec<Plain> = (0..6).map(|i| ("fr", "MIT", format!("{}\n\n{notice}", body(i)))).collect();
    plain.push(plain[0].clone());
    plain.push(("de", "MIT", format!("{}\n{notice}", body(7))));
    let documents: Vec<Keyed> = plain.iter().enumerate().map(|(number, plain)| keyed(number, plain)).collect();
    for (documents_max, found) in [(5, 1), (6, 0), (1, 1)] {
        let lines_config = LinesConfig { documents_max, chars_min: 30 };
        // Without near-duplicates: the texts are short and share much.
        let config = DedupConfig { minhash: false, lines: lines_config, ..Default::default() };
        for ranges in [1, 9] {
            let store = Store::in_memory().unwrap();
            let (bundles, _) = run(&store, &documents, |number| number as u32 % 3, &config, ranges);
            let sum: u64 = (0..ranges).map(|r| lines(&store, &bundles, &config, r, ranges).unwrap()).sum();
            assert_eq!(sum, found, "{documents_max} {ranges}");
            let frequent = FrequentLines::load(&store, &config, ranges).unwrap();
            assert_eq!(frequent.len() as u64, found);
            let removed = frequent.remove("fr", &plain[2].2);
            assert_eq!(removed.is_some(), found > 0);
            assert!(removed.is_none_or(|removed| removed.text == body(2) && removed.lines == 1));
            assert!(frequent.remove("de", &plain[7].2).is_none());
        }
    }
}

#[test]
fn damaged_and_missing_objects_are_named() {
    let store = Store::in_memory().unwrap();
    let config = DedupConfig { lines: LinesConfig { documents_max: 1, chars_min: 8 }, ..Default::default() };
    let (bundles, _) =
        run(&store, &documents(&[(0, 0, false), (0, 1, false), (1, 0, false)]), |n| n as u32 % 2, &config, 2);
    let id = bundles[0].id;
    let names = [sketch_name(id), keys_name("ingest", id), fate_name(id), edges_name(1)];
    for name in &names {
        let whole = store.get(name).unwrap();
        let failure = |bad: Option<Vec<u8>>| {
            match bad {
                Some(bad) => store.put(name, bad).unwrap(),
                None => store.remove(name).unwrap(),
            }
            let stages = || -> Result<(), StoreError> {
                if *name == sketch_name(id) {
                    bands(&store, &bundles, 0, 1)?;
                }
                if *name == fate_name(id) {
                    return lines(&store, &bundles, &config, 0, 1).map(drop);
                }
                cluster(&store, &bundles, 2).map(drop)
            };
            let error = stages().unwrap_err();
            store.put(name, whole.clone()).unwrap();
            error.to_string()
        };
        assert_eq!(failure(None), format!("memory: no {name} there"));
        let refusal = failure(Some(whole[..whole.len() / 2].to_vec()));
        assert!(refusal.contains(name.as_str()), "{refusal}");
        let refusal = failure(Some(b"nothing of the kind, only a text that is here".to_vec()));
        assert!(refusal.contains(name.as_str()), "{refusal}");
    }
    let fewer: Vec<BundleInfo> = bundles.iter().map(|bundle| BundleInfo { documents: 7, ..*bundle }).collect();
    assert!(matches!(cluster(&store, &fewer, 2), Err(StoreError::Damaged { .. })));
    assert!(matches!(lines(&store, &fewer, &config, 0, 1), Err(StoreError::Damaged { .. })));
}

#[test]
fn ranges_keep_to_the_budget() {
    let bundle = |documents, text_bytes| BundleInfo { id: BundleId { unit: 0, part: 0 }, documents, text_bytes };
    let bundles = [bundle(50_000, 1 << 25), bundle(50_000, 1 << 25)];
    let mut config = DedupConfig::default();
    // 100,000 documents × 256 bytes.
    assert_eq!(ranges(&bundles, &config, 25_600_000), 1);
    assert_eq!(ranges(&bundles, &config, 25_599_999), 2);
    assert_eq!(ranges(&bundles, &config, 1_280_000), 20);
    assert_eq!((ranges(&bundles, &config, 0), ranges(&[], &config, 0)), (1024, 1));
    config.lines = LinesConfig { documents_max: 6, chars_min: 32 };
    assert_eq!(ranges(&bundles, &config, 1 << 20), 32);
}
