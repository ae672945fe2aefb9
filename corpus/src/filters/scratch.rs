//! What is computed once for all filters of a document, and the buffers it lies in.

use super::intern::{Pairs, Pieces};
use super::words::{Rules, Segmenter, Word};

/// Buffers for [`FilterSet::apply`](super::FilterSet::apply), and the words of the document at hand. One for each thread; what was
/// filtered with it before changes nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) segmenter: Segmenter,
    pub(super) words: Vec<Word>,
    words_of: Option<Rules>,
    pub(super) tables: Tables,
    /// Words of a line.
    pub(super) line: Vec<Word>,
}

/// Tables that repetition is counted with.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(super) pieces: Pieces,
    pub(super) pairs: Pairs,
    /// Number of each word.
    pub(super) words: Vec<u32>,
    /// Number of the n-gram at each word.
    pub(super) ngrams: Vec<u32>,
    /// Occurrences of each n-gram.
    pub(super) counts: Vec<u32>,
    /// Whether an n-gram was met.
    pub(super) met: Vec<bool>,
    /// Characters of the words up to each.
    pub(super) chars: Vec<u64>,
}

impl Scratch {
    /// Forgets the document: its text has changed.
    pub(super) fn text_changed(&mut self) {
        self.words_of = None;
    }

    /// The words of the text and the tables. The text must be the same as at the last call, or [`Self::text_changed`] called.
    pub(super) fn words(&mut self, text: &str, rules: Rules) -> (&[Word], &mut Tables) {
        if self.words_of != Some(rules) {
            self.words.clear();
            self.segmenter.cut(text, 0, &rules, &mut self.words);
            self.words_of = Some(rules);
        }
        (&self.words, &mut self.tables)
    }
}
