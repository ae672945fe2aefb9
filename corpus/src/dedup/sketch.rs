//! What the search for duplicates keeps of a document: hashes alone.

use super::config::DedupConfig;
use super::minhash::Family;
use super::words::{chain, hashes, runs, seed};

/// What is kept of a document for the search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// The first 128 bits of BLAKE3 of the text: the same text, whatever the language.
    pub exact: Option<u128>,
    /// A key for each band: a hash of the language, the band's number and its smallest hashes. Two documents with an equal key are
    /// near-duplicates. None for texts with fewer words than an n-gram.
    pub bands: Vec<u64>,
    /// Hashes of the language and the words of each line that is long enough, without repetition, ascending.
    pub lines: Vec<u64>,
}

/// Buffers that one thread uses for document after document.
#[derive(Debug, Default)]
pub struct Scratch {
    words: Vec<u64>,
    grams: Vec<u64>,
    least: Vec<u64>,
}

/// Makes sketches: pure, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Sketcher {
    config: DedupConfig,
    family: Family,
}

/// Hashes a line by its words; `None` for one that is too short or has no words.
pub(super) fn line_hash(line: &str, language: u64, chars_min: u32, words: &[u64]) -> Option<u64> {
    let long =
        line.len() >= chars_min as usize && line.trim().chars().take(chars_min as usize).count() == chars_min as usize;
    (long && !words.is_empty()).then(|| chain(language, words))
}

/// What a language mixes into the hashes of lines.
pub(super) fn line_seed(language: &str) -> u64 {
    seed("essaim corpus 2026 lines", language)
}

impl Sketcher {
    /// A maker of sketches for settings that [`DedupConfig::check`] accepts.
    pub fn new(config: &DedupConfig) -> Sketcher {
        let functions = if config.minhash { config.bands as usize * config.rows as usize } else { 0 };
        Sketcher { config: config.clone(), family: Family::new(functions) }
    }

    /// The sketch of a text.
    pub fn sketch(&self, language: &str, text: &str, scratch: &mut Scratch) -> Sketch {
        let exact = self.config.exact.then(|| {
            let mut half = [0; 16];
            half.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
            u128::from_be_bytes(half)
        });
        let mut sketch = Sketch { exact, ..Sketch::default() };
        scratch.words.clear();
        match self.config.lines.on() {
            true => sketch.lines = self.lines(language, text, &mut scratch.words),
            false if self.config.minhash => hashes(text, &mut scratch.words),
            false => {}
        }
        if self.config.minhash {
            sketch.bands = self.bands(language, scratch);
        }
        sketch
    }

    /// Hashes the lines of a text, and leaves its words' hashes in `words`: no word goes over the end of a line.
    fn lines(&self, language: &str, text: &str, words: &mut Vec<u64>) -> Vec<u64> {
        let (seed, chars_min) = (line_seed(language), self.config.lines.chars_min);
        let mut lines = Vec::new();
        for line in text.split('\n') {
            let begin = words.len();
            hashes(line, words);
            lines.extend(line_hash(line, seed, chars_min, &words[begin..]));
        }
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    fn bands(&self, language: &str, scratch: &mut Scratch) -> Vec<u64> {
        let Scratch { words, grams, least } = scratch;
        grams.clear();
        runs(words, self.config.ngram as usize, |gram| grams.push(gram >> 3));
        if grams.is_empty() {
            return Vec::new();
        }
        self.family.signature(grams, least);
        let seed = seed("essaim corpus 2026 bands", language);
        let rows = self.config.rows as usize;
        least.chunks_exact(rows).zip(0u64..).map(|(band, number)| chain(seed.wrapping_add(number), band)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::config::LinesConfig;

    fn sketch(language: &str, text: &str) -> Sketch {
        let lines = LinesConfig { documents_max: 1, chars_min: 10 };
        Sketcher::new(&DedupConfig { lines, ..Default::default() }).sketch(language, text, &mut Scratch::default())
    }

    #[test]
    fn languages_share_exact_keys_and_nothing_else() {
        let text = "Un deux trois quatre cinq six\nsept huit neuf dix";
        let (french, german) = (sketch("fr", text), sketch("de", text));
        assert_eq!(french.exact, german.exact);
        assert_eq!((french.bands.len(), french.lines.len()), (14, 2));
        assert!(french.bands.iter().all(|key| !german.bands.contains(key)));
        assert!(french.lines.iter().all(|key| !german.lines.contains(key)));
        let distinct: std::collections::BTreeSet<_> = french.bands.iter().collect();
        assert_eq!(distinct.len(), 14);
    }

    #[test]
    fn texts_that_are_the_same_but_for_form_share_all_bands_and_lines() {
        let (a, b) =
            (sketch("fr", "L’été 1999, on lit un livre\n  court"), sketch("fr", "l ete 12 on lit UN LIVRE!\ncourt\n"));
        assert_ne!(a.exact, b.exact);
        assert_eq!((&a.bands, &a.lines), (&b.bands, &b.lines));
        assert_eq!(a.lines.len(), 1);
    }

    #[test]
    fn short_texts_have_no_bands() {
        assert!(sketch("fr", "un deux trois quatre").bands.is_empty());
        assert!(sketch("fr", "").bands.is_empty());
        assert_eq!(sketch("fr", "un deux trois quatre cinq").bands.len(), 14);
        let none = DedupConfig { exact: false, minhash: false, ..Default::default() };
        let sketch = Sketcher::new(&none).sketch("fr", "un deux trois quatre cinq", &mut Scratch::default());
        assert_eq!(sketch, Sketch::default());
    }

    #[test]
    fn scratch_and_lines_leave_no_trace() {
        let mut scratch = Scratch::default();
        let plain = Sketcher::new(&DedupConfig::default());
        let first = plain.sketch("fr", &"a b c d e f g h ".repeat(900), &mut scratch);
        let again = plain.sketch("fr", "un deux trois\nquatre cinq six", &mut scratch);
        assert_eq!(again.bands, sketch("fr", "un deux trois\nquatre cinq six").bands);
        assert_ne!(first.bands, again.bands);
    }
}
