//! Which documents are kept, held out and trained on, and in which order. Every decision follows from hashes of the documents,
//! so the order in which they were read means nothing.

use crate::config::{HeldoutConfig, MixConfig};
use crate::document::Document;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};

/// The documents of a corpus, sorted out.
#[derive(Debug, Default)]
pub struct Selection {
    /// Never trained on, by language; each language in the order of BLAKE3(id).
    pub heldout: BTreeMap<String, Vec<Document>>,
    /// The others, in the order of BLAKE3(id).
    pub training: Vec<Document>,
    /// Documents without text, dropped.
    pub empty: u64,
    /// Documents whose text another has, dropped.
    pub duplicates: u64,
}

/// Why there is nothing to build from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// No document with text.
    #[error("the corpus is empty: {read} documents were read, {empty} of them without text")]
    Empty {
        /// Documents read.
        read: u64,
        /// Documents without text.
        empty: u64,
    },
    /// Everything was held out or weighted away.
    #[error("nothing is left to train on: {heldout} documents are held out, weights drop {dropped}")]
    NothingToTrain {
        /// Documents held out.
        heldout: u64,
        /// Documents that weights drop.
        dropped: u64,
    },
    /// The language that should be the largest is not.
    #[error(
        "{wanted} is not the largest language of the mix: {wanted} has {wanted_bytes} bytes of text, {largest} {largest_bytes}; \
         add text, set [mix.weights], or say --largest any"
    )]
    NotLargest {
        /// The language asked for.
        wanted: String,
        /// Its bytes, weighted.
        wanted_bytes: u64,
        /// The largest language.
        largest: String,
        /// Its bytes, weighted.
        largest_bytes: u64,
    },
    /// A weight for a language that no document has.
    #[error("mix.weights names '{language}', which no document has")]
    UnknownLanguage {
        /// The language.
        language: String,
    },
}

/// A document with its hashes.
struct Hashed {
    id: [u8; 32],
    key: [u8; 32],
    text: [u8; 32],
    document: Document,
}

/// Documents of `count` that are held out: `permille` thousandths, rounded up; none in languages of too few.
pub fn heldout_count(count: u64, config: &HeldoutConfig) -> u64 {
    match count < u64::from(config.documents_min) {
        true => 0,
        false => (count * u64::from(config.permille)).div_ceil(1000),
    }
}

/// Drops documents without text and exact duplicates, then holds out those of each language whose BLAKE3(id) is smallest.
/// Of duplicates, in whatever languages, the one with the smallest BLAKE3(id) stays: no text is both held out and trained on.
///
/// # Errors
/// [`SelectError::Empty`] when nothing is left.
pub fn select(mut documents: Vec<Document>, config: &HeldoutConfig) -> Result<Selection, SelectError> {
    let read = documents.len() as u64;
    documents.retain(|document| !document.text.trim().is_empty());
    let mut selection = Selection { empty: read - documents.len() as u64, ..Selection::default() };
    if documents.is_empty() {
        return Err(SelectError::Empty { read, empty: selection.empty });
    }
    let hash = |document: Document| Hashed {
        id: document.id_hash(),
        key: document.key(),
        text: document.text_hash(),
        document,
    };
    let mut hashed: Vec<Hashed> = documents.into_par_iter().map(hash).collect();
    hashed.par_sort_unstable_by(|a, b| (a.id, a.key, &a.document.license).cmp(&(b.id, b.key, &b.document.license)));
    let mut texts = HashSet::with_capacity(hashed.len());
    let mut languages = BTreeMap::<String, u64>::new();
    let mut kept = Vec::with_capacity(hashed.len());
    for Hashed { text, document, .. } in hashed {
        match texts.insert(text) {
            true => {
                *languages.entry(document.language.clone()).or_default() += 1;
                kept.push(document);
            }
            false => selection.duplicates += 1,
        }
    }
    let mut wanted: BTreeMap<String, u64> =
        languages.into_iter().map(|(language, count)| (language, heldout_count(count, config))).collect();
    for document in kept {
        match wanted.get_mut(&document.language) {
            Some(left) if *left > 0 => {
                *left -= 1;
                selection.heldout.entry(document.language.clone()).or_default().push(document);
            }
            _ => selection.training.push(document),
        }
    }
    Ok(selection)
}

/// The training documents to lay into shards, by index and in a shuffled order; one with weight 2 comes twice.
///
/// # Errors
/// [`SelectError`] when nothing is left, a weight names an unknown language, or the largest language is another than demanded.
pub fn order(training: &[Document], heldout: u64, mix: &MixConfig, seed: u64) -> Result<Vec<usize>, SelectError> {
    let mut by_language = BTreeMap::<&str, Vec<usize>>::new();
    for (i, document) in training.iter().enumerate() {
        by_language.entry(&document.language).or_default().push(i);
    }
    if let Some(language) = mix.weights.keys().find(|language| !by_language.contains_key(language.as_str())) {
        return Err(SelectError::UnknownLanguage { language: language.clone() });
    }
    let mut bytes = BTreeMap::<&str, u64>::new();
    let mut chosen = Vec::new();
    for (language, documents) in &by_language {
        let weight = mix.weights.get(*language).copied().unwrap_or(1.0);
        let wanted = (weight * documents.len() as f64).round() as usize;
        // `training` is in the order of a hash: a prefix is a fair sample.
        for (n, &i) in documents.iter().cycle().take(wanted).enumerate() {
            chosen.push((place(&training[i], seed, (n / documents.len()) as u64), i));
            *bytes.entry(language).or_default() += training[i].text.len() as u64;
        }
    }
    if chosen.is_empty() {
        return Err(SelectError::NothingToTrain { heldout, dropped: training.len() as u64 });
    }
    if mix.largest != "any" {
        check_largest(&bytes, &mix.largest)?;
    }
    chosen.sort_unstable();
    Ok(chosen.into_iter().map(|(_, i)| i).collect())
}

fn check_largest(bytes: &BTreeMap<&str, u64>, wanted: &str) -> Result<(), SelectError> {
    let wanted_bytes = bytes.get(wanted).copied().unwrap_or(0);
    match bytes.iter().filter(|(language, _)| **language != wanted).max_by_key(|(_, bytes)| **bytes) {
        Some((largest, &largest_bytes)) if largest_bytes >= wanted_bytes => Err(SelectError::NotLargest {
            wanted: wanted.to_owned(),
            wanted_bytes,
            largest: (*largest).to_owned(),
            largest_bytes,
        }),
        _ => Ok(()),
    }
}

/// A document's place in the shuffled order: sorting by hashes shuffles, the same way everywhere.
fn place(document: &Document, seed: u64, copy: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("essaim corpus 1: order of training documents");
    hasher.update(&seed.to_le_bytes()).update(&copy.to_le_bytes()).update(&document.key());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(language: &str, id: usize, text: &str) -> Document {
        Document {
            id: format!("{language}/{id}"),
            source: "s".into(),
            language: language.into(),
            license: "MIT".into(),
            text: text.into(),
            meta: Default::default(),
        }
    }

    fn many(language: &str, count: usize) -> Vec<Document> {
        (0..count).map(|id| document(language, id, &format!("{language} text {id}"))).collect()
    }

    #[test]
    fn the_smallest_hashes_are_held_out_rounded_up() {
        let config = HeldoutConfig::default();
        let documents = [many("fr", 101), many("de", 50), many("el", 1)].concat();
        let selection = select(documents.clone(), &config).unwrap();
        let counts: Vec<(&str, usize)> = selection.heldout.iter().map(|(l, d)| (l.as_str(), d.len())).collect();
        assert_eq!(counts, [("de", 1), ("fr", 3)]);
        let mut hashes: Vec<[u8; 32]> = many("fr", 101).iter().map(Document::id_hash).collect();
        hashes.sort_unstable();
        let heldout: Vec<[u8; 32]> = selection.heldout["fr"].iter().map(Document::id_hash).collect();
        assert_eq!(heldout, hashes[..3]);
        assert_eq!(selection.training.len(), 152 - 4);
        // Whatever order they were read in.
        let reversed = select(documents.into_iter().rev().collect(), &config).unwrap();
        assert_eq!((reversed.training, reversed.heldout), (selection.training, selection.heldout));
    }

    #[test]
    fn counts_of_held_out_documents() {
        let config = |permille, documents_min| HeldoutConfig { permille, documents_min };
        let counts = |config: &HeldoutConfig| [0, 1, 2, 50, 51, 100, 4863].map(|count| heldout_count(count, config));
        assert_eq!(counts(&config(20, 2)), [0, 0, 1, 1, 2, 2, 98]);
        assert_eq!(counts(&config(20, 51)), [0, 0, 0, 0, 2, 2, 98]);
        assert_eq!(counts(&config(0, 0)), [0; 7]);
    }

    #[test]
    fn duplicates_are_dropped_across_languages_and_never_straddle_the_held_out() {
        let mut documents = many("fr", 200);
        documents.extend((0..200).map(|id| document("oc", id, &format!("fr text {id}"))));
        documents.push(document("fr", 999, "  \n"));
        let selection = select(documents, &HeldoutConfig { permille: 500, documents_min: 2 }).unwrap();
        assert_eq!((selection.duplicates, selection.empty), (200, 1));
        let heldout: HashSet<&str> =
            selection.heldout.values().flatten().map(|document| document.text.as_str()).collect();
        assert!(heldout.len() > 80 && selection.training.len() > 80);
        assert!(selection.training.iter().all(|document| !heldout.contains(document.text.as_str())));
    }

    #[test]
    fn the_order_is_shuffled_by_the_seed_and_weighted() {
        let training = [many("fr", 60), many("de", 40)].concat();
        let mix = |largest: &str, weights: &[(&str, f64)]| MixConfig {
            largest: largest.into(),
            weights: weights.iter().map(|(language, weight)| ((*language).to_owned(), *weight)).collect(),
        };
        let plain = order(&training, 0, &mix("fr", &[]), 1).unwrap();
        let sorted = |order: &[usize]| {
            let mut order = order.to_vec();
            order.sort_unstable();
            order
        };
        assert_eq!(sorted(&plain), (0..100).collect::<Vec<_>>());
        assert_ne!(plain, (0..100).collect::<Vec<_>>());
        assert_eq!(plain, order(&training, 0, &mix("fr", &[]), 1).unwrap());
        assert_ne!(plain, order(&training, 0, &mix("fr", &[]), 2).unwrap());
        let weighted = order(&training, 0, &mix("any", &[("de", 2.5), ("fr", 0.1)]), 1).unwrap();
        let count = |from: usize, to: usize| weighted.iter().filter(|i| (from..to).contains(*i)).count();
        assert_eq!((count(0, 60), count(60, 100)), (6, 100));
        assert_eq!((count(60, 61), count(99, 100)), (3, 2));
    }

    #[test]
    fn a_mix_that_is_not_what_was_asked_for_is_refused() {
        let training = [many("fr", 10), many("de", 40)].concat();
        let mix = |largest: &str, weights: &[(&str, f64)]| {
            let weights = weights.iter().map(|(language, weight)| ((*language).to_owned(), *weight)).collect();
            order(&training, 7, &MixConfig { largest: largest.into(), weights }, 1).map_err(|error| error.to_string())
        };
        let refusal = mix("fr", &[]).unwrap_err();
        assert!(
            refusal.starts_with("fr is not the largest language of the mix: fr has 90 bytes of text, de 390;"),
            "{refusal}"
        );
        assert!(mix("any", &[]).is_ok() && mix("de", &[]).is_ok() && mix("fr", &[("de", 0.1)]).is_ok());
        assert!(mix("it", &[]).is_err());
        assert_eq!(mix("any", &[("it", 1.0)]).unwrap_err(), "mix.weights names 'it', which no document has");
        let nothing = mix("any", &[("fr", 0.0), ("de", 0.0)]).unwrap_err();
        assert_eq!(nothing, "nothing is left to train on: 7 documents are held out, weights drop 50");
        let empty = select(vec![document("fr", 1, "\n")], &HeldoutConfig::default()).unwrap_err().to_string();
        assert_eq!(empty, "the corpus is empty: 1 documents were read, 1 of them without text");
    }
}
