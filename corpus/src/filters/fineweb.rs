//! The rules that FineWeb added.

use super::lines::{chars, exceeds, falls_short};
use super::scratch::Tables;
use super::words::chars::{is_terminal, strip};
use crate::verdict::Rejection;
use serde::{Deserialize, Serialize};

/// Limits of FineWeb's own rules. Lines of white space do not count as lines.
///
/// Source: Penedo et al. 2024, "The FineWeb Datasets", §3.6 (<https://arxiv.org/abs/2406.17557>); counted as datatrove 0.10 does
/// (`pipeline/filters/fineweb_quality_filter.py`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FinewebConfig {
    /// Lines that end with a sentence terminal, of all lines, at least.
    pub punctuated_lines_min: f64,
    /// Short lines, of all lines, at most.
    pub short_lines_max: f64,
    /// A line of at most as many characters is short.
    pub short_line_chars: u64,
    /// Characters in lines that occurred before, of all but line feeds, at most.
    pub duplicate_line_chars_max: f64,
    /// Line feeds for each word at most.
    pub newlines_per_word_max: f64,
}

impl Default for FinewebConfig {
    fn default() -> Self {
        FinewebConfig {
            punctuated_lines_min: 0.12,
            short_lines_max: 0.67,
            short_line_chars: 30,
            duplicate_line_chars_max: 0.01,
            newlines_per_word_max: 0.3,
        }
    }
}

/// Checks the lines of a text.
///
/// # Errors
/// [`Rejection`] by the first limit that is broken.
pub(crate) fn check_lines(text: &str, tables: &mut Tables, config: &FinewebConfig) -> Result<(), Rejection> {
    tables.pieces.reset(newlines(text) as usize + 1);
    let (mut lines, mut punctuated, mut short, mut duplicate, mut start) = (0, 0, 0, 0, 0);
    for line in text.split('\n') {
        let end = start + line.len();
        if !strip(line).is_empty() {
            lines += 1;
            punctuated += u64::from(line.ends_with(is_terminal));
            let length = chars(line);
            short += u64::from(length <= config.short_line_chars);
            if !tables.pieces.number(text, start, end).1 {
                duplicate += length;
            }
        }
        start = end + 1;
    }
    if lines == 0 {
        return Err(Rejection::new("fineweb/empty", ""));
    }
    if falls_short(punctuated, lines, config.punctuated_lines_min) {
        let limit = config.punctuated_lines_min;
        let detail = format!("{punctuated} of {lines} lines end like a sentence, at least {limit}");
        return Err(Rejection::new("fineweb/too-little-punctuation", detail));
    }
    if exceeds(short, lines, config.short_lines_max) {
        let (most, limit) = (config.short_line_chars, config.short_lines_max);
        let detail = format!("{short} of {lines} lines have at most {most} characters, at most {limit}");
        return Err(Rejection::new("fineweb/too-many-short-lines", detail));
    }
    let whole = chars(text) - newlines(text);
    if exceeds(duplicate, whole, config.duplicate_line_chars_max) {
        let limit = config.duplicate_line_chars_max;
        let detail = format!("{duplicate} of {whole} characters are in duplicate lines, at most {limit}");
        return Err(Rejection::new("fineweb/duplicate-line-chars", detail));
    }
    Ok(())
}

/// Checks how long the text's lines are, in words.
///
/// # Errors
/// [`Rejection`] where the limit is broken.
pub(crate) fn check_words(text: &str, words: u64, config: &FinewebConfig) -> Result<(), Rejection> {
    let newlines = newlines(text);
    match exceeds(newlines, words, config.newlines_per_word_max) {
        true => {
            let detail = format!("{newlines} line feeds for {words} words, at most {}", config.newlines_per_word_max);
            Err(Rejection::new("fineweb/list", detail))
        }
        false => Ok(()),
    }
}

fn newlines(text: &str) -> u64 {
    text.as_bytes().iter().filter(|&&byte| byte == b'\n').count() as u64
}
