//! n-grams that training text must not have, and the check of a document.

use super::config::DecontaminateConfig;
use super::files::{self, DecontaminateError};
use crate::dedup::lists::{Hashes, put_list, read_list};
use crate::dedup::words::{hashes, runs, words};
use crate::store::{Store, StoreError};
use crate::verdict::Rejection;
use std::collections::BTreeMap;

/// Collects n-grams.
#[derive(Debug)]
pub struct Builder {
    ngram: usize,
    words_min: usize,
    share_max: f64,
    heldout: Grams,
    /// By the number of their words.
    benchmarks: BTreeMap<usize, Grams>,
    words: Vec<u64>,
}

/// Hashes that lose their repetitions whenever there are many.
#[derive(Debug, Default)]
struct Grams {
    hashes: Vec<u64>,
    settled: usize,
}

impl Grams {
    fn add(&mut self, words: &[u64], n: usize) -> Result<(), DecontaminateError> {
        runs(words, n, |hash| self.hashes.push(hash));
        if self.hashes.len() > 2 * self.settled.max(1 << 16) {
            self.settle();
        }
        match self.settled > Hashes::MAX {
            true => Err(DecontaminateError::TooMany { max: Hashes::MAX }),
            false => Ok(()),
        }
    }

    fn settle(&mut self) {
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.settled = self.hashes.len();
    }

    fn finish(mut self) -> Result<Hashes, DecontaminateError> {
        self.settle();
        match self.settled > Hashes::MAX {
            true => Err(DecontaminateError::TooMany { max: Hashes::MAX }),
            false => Ok(Hashes::new(self.hashes)),
        }
    }
}

impl Builder {
    /// Adds a held-out document.
    ///
    /// # Errors
    /// [`DecontaminateError::TooMany`].
    pub fn heldout(&mut self, text: &str) -> Result<(), DecontaminateError> {
        self.words.clear();
        hashes(text, &mut self.words);
        self.heldout.add(&self.words, self.ngram)
    }

    /// Adds a benchmark item.
    ///
    /// # Errors
    /// [`DecontaminateError::TooMany`].
    pub fn benchmark(&mut self, text: &str) -> Result<(), DecontaminateError> {
        self.words.clear();
        hashes(text, &mut self.words);
        let n = self.words.len().min(self.ngram);
        match n < self.words_min {
            true => Ok(()),
            false => self.benchmarks.entry(n).or_default().add(&self.words, n),
        }
    }

    /// Adds the items of the settings' benchmark files.
    ///
    /// # Errors
    /// [`DecontaminateError`].
    pub fn benchmark_files(&mut self, config: &DecontaminateConfig) -> Result<(), DecontaminateError> {
        files::add(config, self)
    }

    /// The set.
    ///
    /// # Errors
    /// [`DecontaminateError::TooMany`].
    pub fn build(self) -> Result<NgramSet, DecontaminateError> {
        let benchmarks = self.benchmarks.into_iter().map(|(n, grams)| Ok((n, grams.finish()?)));
        Ok(NgramSet {
            ngram: self.ngram,
            share_max: self.share_max,
            benchmarks: benchmarks.collect::<Result<_, DecontaminateError>>()?,
            heldout: self.heldout.finish()?,
            common: Hashes::default(),
        })
    }
}

/// n-grams of held-out documents and benchmark items.
#[derive(Debug, Clone, PartialEq)]
pub struct NgramSet {
    ngram: usize,
    share_max: f64,
    benchmarks: Vec<(usize, Hashes)>,
    heldout: Hashes,
    /// Those of `heldout` that count for nothing.
    common: Hashes,
}

impl NgramSet {
    /// An empty set, to be filled.
    pub fn builder(config: &DecontaminateConfig) -> Builder {
        Builder {
            ngram: config.ngram as usize,
            words_min: config.words_min as usize,
            share_max: config.share_max,
            heldout: Grams::default(),
            benchmarks: BTreeMap::new(),
            words: Vec::new(),
        }
    }

    /// Whether it refuses nothing.
    pub fn is_empty(&self) -> bool {
        self.benchmarks.is_empty() && self.heldout.as_slice().is_empty()
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> u64 {
        self.heldout.bytes()
            + self.common.bytes()
            + self.benchmarks.iter().map(|(_, hashes)| hashes.bytes()).sum::<u64>()
    }

    /// n-grams of held-out documents, and of benchmark items.
    pub fn len(&self) -> (usize, usize) {
        (self.heldout.as_slice().len(), self.benchmarks.iter().map(|(_, hashes)| hashes.as_slice().len()).sum())
    }

    /// The n-grams of held-out documents, ascending.
    pub(crate) fn heldout(&self) -> &[u64] {
        self.heldout.as_slice()
    }

    /// The n-grams of held-out documents that a text has, each once.
    pub(crate) fn heldout_ngrams(&self, text: &str) -> Vec<u64> {
        let (mut words, mut found) = (Vec::with_capacity(text.len() / 5), Vec::new());
        hashes(text, &mut words);
        runs(&words, self.ngram, |gram| {
            if self.heldout.contains(gram) {
                found.push(gram);
            }
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Lets n-grams of held-out documents count for nothing from now on.
    pub fn ignore(&mut self, common: Vec<u64>) {
        self.common = Hashes::new(common);
    }

    /// Checks a document, which must not be a held-out one itself.
    ///
    /// # Errors
    /// `decontamination/benchmark` or `decontamination/held-out`.
    pub fn check(&self, text: &str) -> Result<(), Rejection> {
        if self.is_empty() {
            return Ok(());
        }
        let mut words = Vec::with_capacity(text.len() / 5);
        hashes(text, &mut words);
        for (n, grams) in &self.benchmarks {
            let (mut at, mut first) = (0, None);
            runs(&words, *n, |gram| {
                if first.is_none() && grams.contains(gram) {
                    first = Some(at);
                }
                at += 1;
            });
            if let Some(first) = first {
                let quote = quote(text, first, *n);
                return Err(Rejection::new("decontamination/benchmark", format!("words from {}: {quote}", first + 1)));
            }
        }
        let (mut all, mut found) = (0u64, 0u64);
        runs(&words, self.ngram, |gram| {
            let held = self.heldout.contains(gram);
            if !held || !self.common.contains(gram) {
                all += 1;
                found += u64::from(held);
            }
        });
        match found as f64 > self.share_max * all as f64 {
            true => {
                let n = self.ngram;
                let but = if self.common.as_slice().is_empty() { "" } else { " that are not common" };
                let detail =
                    format!("{found} of {all} {n}-grams{but} are held out, at most {} of them may be", self.share_max);
                Err(Rejection::new("decontamination/held-out", detail))
            }
            false => Ok(()),
        }
    }

    /// Writes it to a store, as objects that begin with `name`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn save(&self, store: &Store, name: &str) -> Result<(), StoreError> {
        let numbers = self.benchmarks.iter().map(|&(n, _)| n as u64);
        let head: Vec<u64> = [self.ngram as u64, self.share_max.to_bits()].into_iter().chain(numbers).collect();
        put_list(store, &format!("{name}-heldout"), self.heldout.as_slice().iter().copied())?;
        for (n, hashes) in &self.benchmarks {
            put_list(store, &format!("{name}-benchmark-{n:02}"), hashes.as_slice().iter().copied())?;
        }
        put_list(store, name, head.into_iter())
    }

    /// Loads what [`NgramSet::save`] wrote.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(store: &Store, name: &str) -> Result<NgramSet, StoreError> {
        let list = |name: &str, max: usize| {
            let mut list = Vec::new();
            read_list(store, name, |number| {
                list.push(number);
                if list.len() > max { Err(format!("more than {max} numbers")) } else { Ok(()) }
            })
            .map(|()| list)
        };
        let head = list(name, 128)?;
        let [ngram, share_max, lengths @ ..] = &head[..] else { return Err(store.damaged(name, "too short")) };
        let share_max = f64::from_bits(*share_max);
        if *ngram > 64 || lengths.iter().any(|n| n > ngram || *n == 0) || !(0.0..=1.0).contains(&share_max) {
            return Err(store.damaged(name, "not a set of n-grams"));
        }
        let heldout = Hashes::new(list(&format!("{name}-heldout"), Hashes::MAX)?);
        let mut benchmarks = Vec::new();
        for &n in lengths {
            let hashes = list(&format!("{name}-benchmark-{n:02}"), Hashes::MAX)?;
            benchmarks.push((n as usize, Hashes::new(hashes)));
        }
        Ok(NgramSet { ngram: *ngram as usize, share_max, benchmarks, heldout, common: Hashes::default() })
    }
}

/// Words `first..first + n` of a text as they stand there, on one line and at most 200 bytes.
fn quote(text: &str, first: usize, n: usize) -> String {
    let (mut number, mut begin, mut end) = (0, 0, 0);
    words(text, |_, place| {
        if number == first {
            begin = place.start;
        }
        if number < first + n {
            end = place.end;
        }
        number += 1;
    });
    let line = text[begin..end].split_whitespace().collect::<Vec<_>>().join(" ");
    format!("“{}”", &line[..line.floor_char_boundary(200)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(words: std::ops::Range<usize>) -> String {
        // Letters, as all numbers are one.
        let word = |mut n: usize| {
            let mut word = String::from("w");
            while n > 0 {
                word.push(char::from(b'a' + (n % 26) as u8));
                n /= 26;
            }
            word
        };
        words.map(|n| word(n) + "x").collect::<Vec<_>>().join(" ")
    }

    fn set(heldout: &[&str], benchmarks: &[&str]) -> NgramSet {
        let mut builder = NgramSet::builder(&DecontaminateConfig::default());
        heldout.iter().for_each(|text| builder.heldout(text).unwrap());
        benchmarks.iter().for_each(|text| builder.benchmark(text).unwrap());
        builder.build().unwrap()
    }

    #[test]
    fn one_benchmark_ngram_is_too_many_and_twelve_words_are_not() {
        let set = set(&[], &[&numbered(100..130)]);
        let around = |words: std::ops::Range<usize>| format!("Avant. {} — après.", numbered(words).to_uppercase());
        assert!(set.check(&around(105..117)).is_ok());
        let refusal = set.check(&around(105..118)).unwrap_err();
        assert_eq!(refusal.rule, "decontamination/benchmark");
        let quoted = format!("words from 2: “{}”", numbered(105..118).to_uppercase());
        assert_eq!(refusal.detail, quoted);
        // The same words apart are none.
        assert!(set.check(&format!("{} autre {}", numbered(105..111), numbered(111..118))).is_ok());
    }

    #[test]
    fn a_short_item_is_one_ngram_and_a_shorter_one_none() {
        let set = set(&[], &[&numbered(0..8), &numbered(50..57), &numbered(20..30)]);
        assert_eq!(set.len(), (0, 2));
        assert!(set.check(&format!("le {} fin", numbered(0..8))).is_err());
        assert!(set.check(&numbered(0..7)).is_ok());
        assert!(set.check(&numbered(50..57)).is_ok());
        assert!(set.check(&numbered(20..30)).is_err() && set.check(&numbered(20..29)).is_ok());
    }

    #[test]
    fn a_share_of_heldout_ngrams_is_allowed() {
        let set = set(&[&numbered(0..200)], &[]);
        // 112 words have 100 n-grams; k + 12 of them from the held-out text give k of these.
        let document = |k: usize| format!("{} {}", numbered(0..k + 12), numbered(1000..1100 - k));
        assert!(set.check(&document(20)).is_ok());
        let refusal = set.check(&document(21)).unwrap_err();
        let expected = "decontamination/held-out: 21 of 100 13-grams are held out, at most 0.2 of them may be";
        assert_eq!(refusal.to_string(), expected);
        assert!(set.check(&numbered(0..12)).is_ok(), "shorter than an n-gram");
        assert!(set.check(&numbered(0..13)).is_err());
        assert!(set.check("").is_ok());
    }

    #[test]
    fn common_ngrams_are_neither_shared_nor_own() {
        let mut set = set(&[&numbered(0..200)], &[]);
        // 38 n-grams of the held-out text, of which 30 will be common, and 100 of its own.
        let text = format!("{} | {}", numbered(0..50), numbered(1000..1100));
        assert_eq!(set.check(&text).unwrap_err().detail, "38 of 138 13-grams are held out, at most 0.2 of them may be");
        let licence = set.heldout_ngrams(&numbered(0..42));
        assert_eq!((licence.len(), set.heldout_ngrams(&numbered(300..400)).len()), (30, 0));
        set.ignore(licence);
        assert!(set.check(&text).is_ok());
        assert!(set.check(&numbered(0..42)).is_ok(), "nothing but what is common");
        let refusal = set.check(&format!("{} {}", numbered(0..50), numbered(1000..1010))).unwrap_err();
        assert_eq!(refusal.detail, "8 of 18 13-grams that are not common are held out, at most 0.2 of them may be");
    }

    #[test]
    fn a_set_is_saved_and_loaded() {
        let store = Store::in_memory().unwrap();
        let set = set(&[&numbered(0..99_000)], &[&numbered(0..8), &numbered(100..130)]);
        set.save(&store, "decontaminate/ngrams").unwrap();
        let loaded = NgramSet::load(&store, "decontaminate/ngrams").unwrap();
        assert_eq!(loaded, set);
        assert_eq!(set.len(), (98_988, 1 + 18));
        assert!(set.bytes() <= 11 * 98_988 + 1000);
        store.put("decontaminate/ngrams-heldout", vec![1, 2, 3]).unwrap();
        let refusal = NgramSet::load(&store, "decontaminate/ngrams").unwrap_err().to_string();
        assert_eq!(refusal, "memory: decontaminate/ngrams-heldout is damaged (too short); remove it and build again");
        put_list(&store, "decontaminate/ngrams", [99u64, 0].into_iter()).unwrap();
        assert!(NgramSet::load(&store, "decontaminate/ngrams").is_err());
    }

    #[test]
    fn benchmark_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let jsonl = format!("{{\"q\": \"{}\", \"a\": [\"{}\"]}}\n\n", numbered(0..10), numbered(10..14));
        let text = format!("{}\n\n{}\n{}\n", numbered(50..60), numbered(70..76), numbered(76..84));
        let good = vec![file("a.jsonl", &jsonl), file("b.txt", &text)];
        let keys = vec!["q".into(), "a".into()];
        let config = DecontaminateConfig { benchmarks: good, keys, ..Default::default() };
        let mut builder = NgramSet::builder(&config);
        builder.benchmark_files(&config).unwrap();
        let set = builder.build().unwrap();
        assert_eq!(set.len(), (0, 2 + 1 + 2));
        assert!(set.check(&numbered(1..14)).is_err() && set.check(&numbered(50..60)).is_err());
        let refusal = |path: PathBuf| {
            let config = DecontaminateConfig { benchmarks: vec![path], ..config.clone() };
            NgramSet::builder(&config).benchmark_files(&config).unwrap_err().to_string()
        };
        assert!(
            refusal(file("c.jsonl", "{\"q\": 3}"))
                .ends_with("c.jsonl, line 1: q is neither a string nor a list of strings")
        );
        assert!(refusal(file("d.jsonl", "\n{\"x\": \"y\"}")).contains("line 2: none of the keys q, a is there"));
        assert!(refusal(file("e.jsonl", "{")).contains("line 1: EOF"));
        assert!(refusal(folder.path().join("none.txt")).contains("none.txt: "));
        std::fs::write(folder.path().join("f.txt"), [0xFF, 0xFE]).unwrap();
        assert!(refusal(folder.path().join("f.txt")).contains("line 1: invalid utf-8"));
    }

    use std::path::PathBuf;
}
