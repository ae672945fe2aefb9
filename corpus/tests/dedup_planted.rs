//! Near-duplicates that were planted: as many are found as the formula says.
#![allow(clippy::unwrap_used)]

use arrow_array::{Array, StringArray};
use essaim_corpus::dedup::{DedupConfig, Scratch, Sketcher};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Pairs made for each similarity.
const PAIRS: usize = 400;
/// Words of a text: so many that an edit changes the similarity a little.
const WORDS: usize = 1200;

/// Real French text where the corpus lies beside the repository, made-up text otherwise, which hardly repeats itself. The words have
/// letters alone, so that they are the same before and after the normalisation.
fn texts() -> Vec<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/fr");
    let mut words = Vec::new();
    let names = [
        "literature",
        "manpages",
        "libreoffice-help",
        "debian-handbook",
        "gimp-help",
        "gnome-user-docs",
        "lilypond-doc",
    ];
    for name in names {
        let Ok(file) = std::fs::File::open(folder.join(format!("{name}.parquet"))) else { continue };
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("text").unwrap();
            let texts = column.as_any().downcast_ref::<StringArray>().unwrap();
            let texts = (0..texts.len()).map(|row| texts.value(row));
            let letters = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
            words.extend(texts.flat_map(str::split_whitespace).filter(letters).map(str::to_owned));
        }
    }
    let varied = |words: &&[String]| grams(words).len() * 100 >= 95 * words.len();
    let texts: Vec<Vec<String>> =
        words.chunks_exact(WORDS).filter(varied).take(PAIRS).map(<[String]>::to_vec).collect();
    println!("{} real texts", texts.len());
    if texts.len() < PAIRS {
        let letter = |number: u64| char::from(b'a' + (number % 26) as u8);
        let word = |i: u64| (0..3 + random(i) % 8).map(|k| letter(random(i % 5000 * 100 + k))).collect();
        words = (0..(PAIRS * WORDS) as u64).map(word).collect();
        return words.chunks_exact(WORDS).map(<[String]>::to_vec).collect();
    }
    texts
}

fn random(number: u64) -> u64 {
    let hash = blake3::hash(&number.to_le_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

fn grams(words: &[String]) -> BTreeSet<&[String]> {
    words.windows(5).collect()
}

fn similarity(a: &[String], b: &[String]) -> f64 {
    let (a, b) = (grams(a), grams(b));
    let shared = a.intersection(&b).count();
    shared as f64 / (a.len() + b.len() - shared) as f64
}

/// Changes words far enough apart that each changes five n-grams, until the similarity is as asked, to 1/200.
fn edited(words: &[String], wanted: f64, draw: u64) -> Vec<String> {
    // k changes of n n-grams leave (n − 5k) / (n + 5k).
    let grams = (words.len() - 4) as f64;
    let changes = (grams * (1.0 - wanted) / (1.0 + wanted) / 5.0).round() as usize;
    let stride = words.len() / (changes + 1);
    assert!(stride >= 5);
    let mut edited = words.to_vec();
    for change in 1..=changes {
        let shift = random(draw * 1000 + change as u64) as usize % (stride - 4);
        edited[change * stride - shift] = format!("edit{}", "x".repeat(1 + change + draw as usize % 7));
    }
    edited
}

#[test]
fn as_many_planted_pairs_match_as_the_formula_says() {
    let config = DedupConfig::default();
    let sketcher = Sketcher::new(&config);
    let texts = texts();
    let mut scratch = Scratch::default();
    for wanted in [0.5, 0.6, 0.7, 0.8, 0.9] {
        let (mut matches, mut expected, mut variance) = (0.0, 0.0, 0.0);
        for (words, draw) in texts.iter().zip(1..) {
            let other = edited(words, wanted, draw);
            let similarity = similarity(words, &other);
            assert!((similarity - wanted).abs() < 0.06, "{similarity} for {wanted}");
            let mut bands = |words: &[String]| sketcher.sketch("fr", &words.join(" "), &mut scratch).bands;
            let (a, b) = (bands(words), bands(&other));
            matches += f64::from(u8::from(a.iter().zip(&b).any(|(a, b)| a == b)));
            let probability = config.probability(similarity);
            expected += probability;
            variance += probability * (1.0 - probability);
        }
        let pairs = PAIRS as f64;
        println!(
            "s = {wanted}: {:.3} of {PAIRS} pairs match, the formula says {:.3}",
            matches / pairs,
            expected / pairs
        );
        // Four standard deviations and one pair: one run in 15,000 would fail by chance, but it is always the same run.
        let off: f64 = matches - expected;
        assert!(off.abs() <= 4.0 * variance.sqrt() + 1.0, "{wanted}: {matches} matches, {expected} expected");
    }
}

#[test]
fn texts_that_match_are_alike() {
    let sketcher = Sketcher::new(&DedupConfig::default());
    let texts = texts();
    let mut scratch = Scratch::default();
    let mut seen: BTreeMap<u64, &[String]> = BTreeMap::new();
    for words in &texts {
        for band in sketcher.sketch("fr", &words.join(" "), &mut scratch).bands {
            // Real text has near-duplicates of its own. P(0.3) is 0.0009.
            if let Some(other) = seen.insert(band, words) {
                let similarity = similarity(words, other);
                assert!(similarity > 0.3, "{similarity}: {:?} and {:?}", &words[..8], &other[..8]);
            }
        }
    }
    assert!(seen.len() > 14 * texts.len() * 9 / 10, "{} bands of {} texts", seen.len(), texts.len());
}
