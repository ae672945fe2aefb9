//! Repetition, by the rules of Gopher.

use super::lines::{chars, exceeds, split_at_breaks};
use super::scratch::Tables;
use super::words::Word;
use super::words::chars::strip;
use crate::verdict::Rejection;
use serde::{Deserialize, Serialize};

/// Limits of repetition. A limit of 1 is never exceeded by what is counted once.
///
/// Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", table A1
/// (<https://arxiv.org/abs/2112.11446>); counted as datatrove 0.10 does (`pipeline/filters/gopher_repetition_filter.py`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GopherRepetitionConfig {
    /// Lines that occurred before, of all lines.
    pub duplicate_lines_max: f64,
    /// Paragraphs that occurred before, of all paragraphs.
    pub duplicate_paragraphs_max: f64,
    /// Characters in lines that occurred before, of all characters.
    pub duplicate_line_chars_max: f64,
    /// Characters in paragraphs that occurred before, of all characters.
    pub duplicate_paragraph_chars_max: f64,
    /// Characters in all occurrences of the most frequent run of 2, 3 and 4 words, of all characters.
    pub top_ngram_chars_max: [f64; 3],
    /// Characters in runs of 5 to 10 words that occurred before, of all characters.
    pub duplicate_ngram_chars_max: [f64; 6],
}

impl Default for GopherRepetitionConfig {
    fn default() -> Self {
        GopherRepetitionConfig {
            duplicate_lines_max: 0.30,
            duplicate_paragraphs_max: 0.30,
            duplicate_line_chars_max: 0.20,
            duplicate_paragraph_chars_max: 0.20,
            top_ngram_chars_max: [0.20, 0.18, 0.16],
            duplicate_ngram_chars_max: [0.15, 0.14, 0.13, 0.12, 0.11, 0.10],
        }
    }
}

/// Rules for runs of 2 to 4 words.
const TOP_RULES: [&str; 3] =
    ["gopher-repetition/top-2-gram", "gopher-repetition/top-3-gram", "gopher-repetition/top-4-gram"];
/// Rules for runs of 5 to 10 words.
const DUPLICATE_RULES: [&str; 6] = [
    "gopher-repetition/duplicate-5-grams",
    "gopher-repetition/duplicate-6-grams",
    "gopher-repetition/duplicate-7-grams",
    "gopher-repetition/duplicate-8-grams",
    "gopher-repetition/duplicate-9-grams",
    "gopher-repetition/duplicate-10-grams",
];

/// Checks lines and paragraphs.
///
/// # Errors
/// [`Rejection`] by the first limit that is exceeded.
pub(crate) fn check_parts(text: &str, tables: &mut Tables, config: &GopherRepetitionConfig) -> Result<(), Rejection> {
    let text_chars = chars(text);
    if text_chars == 0 {
        return Err(Rejection::new("gopher-repetition/empty", ""));
    }
    let share = |rule, part, whole, limit, what| match exceeds(part, whole, limit) {
        true => Err(Rejection::new(rule, format!("{part} of {whole} {what}, at most {limit}"))),
        false => Ok(()),
    };
    let (parts, duplicates, duplicate_chars) = duplicates(strip(text), 2, tables);
    let limit = config.duplicate_paragraphs_max;
    share("gopher-repetition/duplicate-paragraphs", duplicates, parts, limit, "paragraphs are duplicates")?;
    let limit = config.duplicate_paragraph_chars_max;
    let rule = "gopher-repetition/duplicate-paragraph-chars";
    share(rule, duplicate_chars, text_chars, limit, "characters are in duplicate paragraphs")?;
    let (parts, duplicates, duplicate_chars) = self::duplicates(text, 1, tables);
    let limit = config.duplicate_lines_max;
    share("gopher-repetition/duplicate-lines", duplicates, parts, limit, "lines are duplicates")?;
    let limit = config.duplicate_line_chars_max;
    let rule = "gopher-repetition/duplicate-line-chars";
    share(rule, duplicate_chars, text_chars, limit, "characters are in duplicate lines")
}

/// How many parts there are, how many occurred before, and the latter's characters.
fn duplicates(text: &str, breaks: usize, tables: &mut Tables) -> (u64, u64, u64) {
    let line_feeds = text.as_bytes().iter().filter(|&&byte| byte == b'\n').count();
    tables.pieces.reset(line_feeds / breaks + 1);
    let (mut parts, mut duplicates, mut duplicate_chars) = (0, 0, 0);
    for (start, end) in split_at_breaks(text, breaks) {
        parts += 1;
        if !tables.pieces.number(text, start, end).1 {
            duplicates += 1;
            duplicate_chars += chars(&text[start..end]);
        }
    }
    (parts, duplicates, duplicate_chars)
}

/// Checks runs of words. Runs of n are numbered by pairs: the number of the run of n - 1, and the word after it. What occurs once as a run of
/// n - 1 occurs once as a run of n, and is not looked up.
///
/// # Errors
/// [`Rejection`] by the first limit that is exceeded.
pub(crate) fn check_ngrams(
    text: &str,
    words: &[Word],
    tables: &mut Tables,
    config: &GopherRepetitionConfig,
) -> Result<(), Rejection> {
    let text_chars = chars(text);
    number_words(text, words, tables);
    for n in 2..=10_usize.min(words.len()) {
        let runs = number_runs(n, words.len(), tables);
        if n <= 4 {
            let limit = config.top_ngram_chars_max[n - 2];
            let top = top_run_chars(n, runs, tables);
            if exceeds(top, text_chars, limit) {
                let detail = format!("{top} of {text_chars} characters are of one run of {n} words, at most {limit}");
                return Err(Rejection::new(TOP_RULES[n - 2], detail));
            }
            continue;
        }
        if tables.pairs.len() == runs {
            // No run occurs twice, so no longer one does.
            return Ok(());
        }
        let limit = config.duplicate_ngram_chars_max[n - 5];
        let repeated = repeated_chars(n, runs, tables);
        if exceeds(repeated, text_chars, limit) {
            let detail =
                format!("{repeated} of {text_chars} characters are in repeated runs of {n} words, at most {limit}");
            return Err(Rejection::new(DUPLICATE_RULES[n - 5], detail));
        }
    }
    Ok(())
}

fn number_words(text: &str, words: &[Word], tables: &mut Tables) {
    let Tables { pieces, words: numbers, ngrams, counts, chars, .. } = tables;
    pieces.reset(words.len());
    for buffer in [&mut *numbers, &mut *ngrams, &mut *counts] {
        buffer.clear();
    }
    chars.clear();
    chars.push(0);
    let mut sum = 0;
    for word in words {
        let (number, new) = pieces.number(text, word.start as usize, word.end as usize);
        numbers.push(number);
        if new {
            counts.push(0);
        }
        counts[number as usize] += 1;
        sum += u64::from(word.chars);
        chars.push(sum);
    }
    ngrams.extend_from_slice(numbers);
}

/// Numbers the runs of n words from those of n - 1, counts each, and gives how many places there are.
fn number_runs(n: usize, words: usize, tables: &mut Tables) -> usize {
    let runs = words - n + 1;
    let Tables { pairs, ngrams, counts, words, .. } = tables;
    let repeated = ngrams[..runs].iter().filter(|&&run| counts[run as usize] > 1).count();
    pairs.reset(repeated);
    for at in 0..runs {
        let shorter = ngrams[at];
        ngrams[at] = match counts[shorter as usize] {
            1 => pairs.fresh(),
            _ => pairs.number(shorter, words[at + n - 1]),
        };
    }
    ngrams.truncate(runs);
    counts.clear();
    counts.resize(pairs.len(), 0);
    ngrams.iter().for_each(|&run| counts[run as usize] += 1);
    runs
}

/// Characters, with the spaces between words, of all occurrences of the most frequent run; the first one of equals.
fn top_run_chars(n: usize, runs: usize, tables: &Tables) -> u64 {
    let Some(&most) = tables.counts.iter().max() else { return 0 };
    let first = (0..runs).find(|&at| tables.counts[tables.ngrams[at] as usize] == most).unwrap_or(0);
    (tables.chars[first + n] - tables.chars[first] + n as u64 - 1) * u64::from(most)
}

/// Characters of runs that were met before, from left to right, each word counted once.
fn repeated_chars(n: usize, runs: usize, tables: &mut Tables) -> u64 {
    tables.met.clear();
    tables.met.resize(tables.pairs.len(), false);
    let (mut at, mut repeated) = (0, 0);
    while at < runs {
        let run = tables.ngrams[at] as usize;
        match std::mem::replace(&mut tables.met[run], true) {
            true => {
                repeated += tables.chars[at + n] - tables.chars[at];
                at += n;
            }
            false => at += 1,
        }
    }
    repeated
}
