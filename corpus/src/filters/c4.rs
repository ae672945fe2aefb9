//! The rules of C4, line by line.

use super::lines::all_lines;
use super::words::chars::{is_space, is_terminal, strip};
use super::words::{Rules, Segmenter, Word};
use super::{FilterSetError, Notes};
use crate::verdict::Rejection;
use aho_corasick::AhoCorasick;
use serde::{Deserialize, Serialize};

/// What C4 asks of lines and documents. Lines that fail are dropped from the document.
///
/// Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", §2.2 (<https://jmlr.org/papers/v21/20-074.html>), and the
/// code of the data set (<https://github.com/tensorflow/datasets/blob/master/tensorflow_datasets/text/c4_utils.py>); in the order of
/// datatrove 0.10 (`pipeline/filters/c4_filters.py`). Bad words have a filter of their own, `block-words`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct C4Config {
    /// Drop lines that do not end with `.`, `!`, `?` or a quotation mark.
    pub terminal_punctuation: bool,
    /// Sentences in what remains at least.
    pub sentences_min: u64,
    /// Drop lines with fewer words (between white space).
    pub line_words_min: u64,
    /// Drop lines with a longer word, characters.
    pub word_chars_max: u64,
    /// Take citations such as `[3]` out of the lines.
    pub citations: bool,
    /// Drop documents with "lorem ipsum".
    pub lorem_ipsum: bool,
    /// Drop documents with a curly bracket.
    pub curly_brackets: bool,
    /// Drop lines with "javascript".
    pub javascript: bool,
    /// Drop lines with one of these phrases; capitals do not matter.
    pub policy_phrases: Vec<String>,
}

impl Default for C4Config {
    fn default() -> Self {
        let phrases =
            ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];
        C4Config {
            terminal_punctuation: true,
            sentences_min: 5,
            line_words_min: 3,
            word_chars_max: 1000,
            citations: true,
            lorem_ipsum: true,
            curly_brackets: true,
            javascript: true,
            policy_phrases: phrases.map(String::from).to_vec(),
        }
    }
}

/// C4's rules, ready to be applied.
#[derive(Debug)]
pub(crate) struct C4 {
    config: C4Config,
    /// `lorem ipsum`, `javascript`, then the policy phrases.
    phrases: AhoCorasick,
}

/// What a line asks for.
enum Fate {
    Keep,
    Drop,
    Reject(Rejection),
}

impl C4 {
    /// Prepares the rules.
    pub(crate) fn new(config: &C4Config) -> Result<C4, FilterSetError> {
        let lower = config.policy_phrases.iter().map(|phrase| phrase.to_lowercase());
        let all: Vec<String> = ["lorem ipsum".to_owned(), "javascript".to_owned()].into_iter().chain(lower).collect();
        let built = AhoCorasick::builder().ascii_case_insensitive(true).build(&all);
        let phrases = built.map_err(|error| FilterSetError::Phrases { filter: "c4", reason: error.to_string() })?;
        Ok(C4 { config: config.clone(), phrases })
    }

    /// Checks a text, and gives what remains of it where that is not the text itself.
    ///
    /// # Errors
    /// [`Rejection`] of the document.
    pub(crate) fn apply(
        &self,
        text: &str,
        rules: Rules,
        segmenter: &mut Segmenter,
        words: &mut Vec<Word>,
        notes: &mut Notes,
    ) -> Result<Option<String>, Rejection> {
        let mut kept = String::with_capacity(text.len());
        let (mut sentences, mut lines, mut dropped) = (0, 0, 0);
        for whole in all_lines(text) {
            let line = strip(whole);
            let long = |word: &str| word.chars().count() as u64 > self.config.word_chars_max;
            let shortened = self.without_citations(line);
            let line = shortened.as_deref().unwrap_or(line);
            let pieces = strip(whole).split(is_space).filter(|word| !word.is_empty());
            let fits = whole.len() as u64 <= self.config.word_chars_max || !pieces.clone().any(long);
            match if fits { self.fate(line, pieces.count() as u64) } else { Fate::Drop } {
                Fate::Reject(rejection) => return Err(rejection),
                Fate::Drop => dropped += 1,
                Fate::Keep => {
                    if sentences < self.config.sentences_min {
                        words.clear();
                        segmenter.cut(line, 0, &rules, words);
                        sentences += count_sentences(line, words);
                    }
                    if lines > 0 {
                        kept.push('\n');
                    }
                    kept.push_str(line);
                    lines += 1;
                }
            }
        }
        if sentences < self.config.sentences_min {
            let detail = format!("{sentences} sentences in {lines} lines, at least {}", self.config.sentences_min);
            return Err(Rejection::new("c4/too-few-sentences", detail));
        }
        notes.lines_dropped += dropped;
        let stripped = strip(&kept);
        if stripped.len() < kept.len() {
            kept = stripped.to_owned();
        }
        notes.bytes_dropped += text.len().saturating_sub(kept.len()) as u64;
        Ok((kept != text).then_some(kept))
    }

    /// What becomes of a line with as many words, which were counted before citations were taken out.
    fn fate(&self, line: &str, words: u64) -> Fate {
        let config = &self.config;
        let ends = line.ends_with(['.', '?', '!', '"', '\'']) && !line.ends_with("...");
        if config.terminal_punctuation && !ends {
            return Fate::Drop;
        }
        if words < config.line_words_min {
            return Fate::Drop;
        }
        let [mut lorem, mut javascript, mut policy] = [false; 3];
        for found in self.phrases.find_overlapping_iter(line) {
            match found.pattern().as_usize() {
                0 => lorem = true,
                1 => javascript = true,
                _ => policy = true,
            }
        }
        if lorem && config.lorem_ipsum {
            return Fate::Reject(Rejection::new("c4/lorem-ipsum", ""));
        }
        if javascript && config.javascript {
            return Fate::Drop;
        }
        if config.curly_brackets && line.contains('{') {
            return Fate::Reject(Rejection::new("c4/curly-bracket", ""));
        }
        if policy { Fate::Drop } else { Fate::Keep }
    }

    /// The line without `[12]`, `[]`, `[edit]` and `[citation needed]`, if it has one.
    fn without_citations(&self, line: &str) -> Option<String> {
        if !self.config.citations || !line.contains('[') {
            return None;
        }
        let mut kept = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(at) = rest.find('[') {
            let inner = &rest[at + 1..];
            let length = ["edit]", "citation needed]"].iter().find(|end| inner.starts_with(**end)).map(|end| end.len());
            let digits = inner.len() - inner.trim_start_matches(char::is_numeric).len();
            let number = inner[digits..].starts_with(']').then_some(digits + 1);
            kept.push_str(&rest[..at]);
            match length.or(number) {
                Some(length) => rest = &inner[length..],
                None => {
                    kept.push('[');
                    rest = inner;
                }
            }
        }
        kept.push_str(rest);
        (kept.len() < line.len()).then_some(kept)
    }
}

/// Sentences of a line: one, and another at each word that follows a terminal and is no punctuation (as spaCy's sentencizer).
fn count_sentences(line: &str, words: &[Word]) -> u64 {
    let (mut sentences, mut ended) = (1, false);
    for word in words {
        let text = word.of(line);
        let mut chars = text.chars();
        let terminal = chars.next().is_some_and(is_terminal) && chars.next().is_none();
        match terminal {
            true => ended = true,
            false if ended && !text.chars().all(is_punctuation_mark) => {
                sentences += 1;
                ended = false;
            }
            false => (),
        }
    }
    sentences
}

/// The general category P, about.
fn is_punctuation_mark(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_punctuation() && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~'),
        false => {
            matches!(c, '«' | '»' | '¡' | '¿' | '§' | '¶' | '·' | '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}'
            | '\u{3001}'..='\u{3003}' | '\u{3008}'..='\u{3011}')
        }
    }
}
