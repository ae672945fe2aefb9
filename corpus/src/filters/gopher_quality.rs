//! Quality, by the rules of Gopher.

use super::lines::{all_lines, exceeds, falls_short};
use super::words::Word;
use super::words::chars::{is_space, strip};
use crate::verdict::Rejection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Limits of quality.
///
/// Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher", A.1.1
/// (<https://arxiv.org/abs/2112.11446>); counted as datatrove 0.10 does (`pipeline/filters/gopher_quality_filter.py`): punctuation
/// marks are words, but the first two rules leave them out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GopherQualityConfig {
    /// Words, without punctuation marks, at least.
    pub words_min: u64,
    /// Words, without punctuation marks, at most.
    pub words_max: u64,
    /// Mean length of words, without punctuation marks, in characters, at least.
    pub word_length_min: f64,
    /// And at most.
    pub word_length_max: f64,
    /// `#` for each word at most; ellipses for each word at most.
    pub symbols_per_word_max: f64,
    /// Lines that begin with `•` or `-`, of all lines, at most.
    pub bullet_lines_max: f64,
    /// Lines that end with an ellipsis, of all lines, at most.
    pub ellipsis_lines_max: f64,
    /// Words with a letter, of all words, at least.
    pub alphabetic_words_min: f64,
    /// Different stop words at least. Not asked of languages that `stop_words` does not have.
    pub stop_words_min: u64,
    /// Stop words of each language, as they are written. English: Gopher's; others: FineWeb-2's (`configs/*_Latn.yml` of
    /// <https://github.com/huggingface/fineweb-2>).
    pub stop_words: BTreeMap<String, Vec<String>>,
}

const STOP_WORDS: &[(&str, &str)] = &[
    ("en", "the be to of and that have with"),
    ("fr", "de la le et à en l' des du les est d' un une il dans par au"),
    ("de", "der und die in von im den des mit das er dem als wurde für"),
    ("es", "de la en el y a que del los se por un con una las su"),
    ("it", "di e il la in a del che è della un per nel l' con da i una"),
    ("nl", "de van in het een en is op voor met door zijn werd hij uit"),
    ("pt", "de a e o em do da que um no uma com para na é foi"),
];

impl Default for GopherQualityConfig {
    fn default() -> Self {
        let list = |words: &str| words.split(' ').map(String::from).collect();
        GopherQualityConfig {
            words_min: 50,
            words_max: 100_000,
            word_length_min: 3.0,
            word_length_max: 10.0,
            symbols_per_word_max: 0.1,
            bullet_lines_max: 0.9,
            ellipsis_lines_max: 0.3,
            alphabetic_words_min: 0.8,
            stop_words_min: 2,
            stop_words: STOP_WORDS.iter().map(|&(language, words)| (language.into(), list(words))).collect(),
        }
    }
}

/// Checks a text that has these words.
///
/// # Errors
/// [`Rejection`] by the first limit that is broken.
pub(crate) fn check(text: &str, words: &[Word], language: &str, config: &GopherQualityConfig) -> Result<(), Rejection> {
    check_words(words, config)?;
    check_symbols(text, words.len() as u64, config)?;
    check_lines(text, config)?;
    let all = words.len() as u64;
    let alphabetic = words.iter().filter(|word| word.alphabetic).count() as u64;
    if falls_short(alphabetic, all, config.alphabetic_words_min) {
        let detail = format!("{alphabetic} of {all} words have a letter, at least {}", config.alphabetic_words_min);
        return Err(Rejection::new("gopher-quality/too-few-letters", detail));
    }
    check_stop_words(text, words, language, config)
}

fn check_words(words: &[Word], config: &GopherQualityConfig) -> Result<(), Rejection> {
    let (mut count, mut chars) = (0_u64, 0_u64);
    for word in words.iter().filter(|word| !word.symbol) {
        count += 1;
        chars += u64::from(word.chars);
    }
    if count < config.words_min {
        let detail = format!("{count} words, at least {}", config.words_min);
        return Err(Rejection::new("gopher-quality/too-few-words", detail));
    }
    if count > config.words_max {
        let detail = format!("{count} words, at most {}", config.words_max);
        return Err(Rejection::new("gopher-quality/too-many-words", detail));
    }
    if falls_short(chars, count, config.word_length_min) {
        let detail = format!("{chars} characters in {count} words, at least {} a word", config.word_length_min);
        return Err(Rejection::new("gopher-quality/words-too-short", detail));
    }
    if exceeds(chars, count, config.word_length_max) {
        let detail = format!("{chars} characters in {count} words, at most {} a word", config.word_length_max);
        return Err(Rejection::new("gopher-quality/words-too-long", detail));
    }
    Ok(())
}

fn check_symbols(text: &str, words: u64, config: &GopherQualityConfig) -> Result<(), Rejection> {
    let limit = config.symbols_per_word_max;
    let hashes = text.as_bytes().iter().filter(|&&byte| byte == b'#').count() as u64;
    if exceeds(hashes, words, limit) {
        let detail = format!("{hashes} hashes for {words} words, at most {limit} a word");
        return Err(Rejection::new("gopher-quality/too-many-hashes", detail));
    }
    let ellipses = (text.matches("...").count() + text.matches('…').count()) as u64;
    if exceeds(ellipses, words, limit) {
        let detail = format!("{ellipses} ellipses for {words} words, at most {limit} a word");
        return Err(Rejection::new("gopher-quality/too-many-ellipses", detail));
    }
    Ok(())
}

fn check_lines(text: &str, config: &GopherQualityConfig) -> Result<(), Rejection> {
    let (mut lines, mut bullets, mut ellipses) = (0, 0, 0);
    for line in all_lines(text) {
        lines += 1;
        bullets += u64::from(line.trim_start_matches(is_space).starts_with(['•', '-']));
        let end = line.trim_end_matches(is_space);
        ellipses += u64::from(end.ends_with("...") || end.ends_with('…'));
    }
    if exceeds(bullets, lines, config.bullet_lines_max) {
        let detail = format!("{bullets} of {lines} lines begin with a bullet, at most {}", config.bullet_lines_max);
        return Err(Rejection::new("gopher-quality/too-many-bullets", detail));
    }
    if exceeds(ellipses, lines, config.ellipsis_lines_max) {
        let detail = format!("{ellipses} of {lines} lines end with an ellipsis, at most {}", config.ellipsis_lines_max);
        return Err(Rejection::new("gopher-quality/too-many-ellipsis-lines", detail));
    }
    Ok(())
}

fn check_stop_words(text: &str, words: &[Word], language: &str, config: &GopherQualityConfig) -> Result<(), Rejection> {
    let language = language.split(',').next().map_or("", strip);
    let Some(list) = config.stop_words.get(language) else { return Ok(()) };
    let longest = list.iter().map(String::len).max().unwrap_or(0);
    let mut met = vec![false; list.len()];
    let mut found = 0;
    for word in words {
        if found >= config.stop_words_min {
            return Ok(());
        }
        if (word.end - word.start) as usize > longest {
            continue;
        }
        let word = word.of(text);
        if let Some(at) = list.iter().position(|stop| stop == word)
            && !std::mem::replace(&mut met[at], true)
        {
            found += 1;
        }
    }
    match found >= config.stop_words_min {
        true => Ok(()),
        false => {
            let detail = format!("{found} different stop words ({language}), at least {}", config.stop_words_min);
            Err(Rejection::new("gopher-quality/too-few-stop-words", detail))
        }
    }
}
