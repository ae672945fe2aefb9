//! Scanned books: is it language, or what a machine made of stains?

use super::lines::{exceeds, falls_short};
use super::names::Names;
use super::words::Word;
use super::words::chars::{is_space, is_symbol};
use super::{FilterSetError, lists};
use crate::document::Document;
use crate::verdict::Rejection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is asked of the text of a scan. The scores are those of Lucie's Gallica parts, where the document carries them: a character
/// recognition score of at least 90, and a perplexity (CCNet's models) between 10 and 1000
/// (<https://huggingface.co/datasets/OpenLLM-France/Lucie-Training-Dataset>). What can be told from the text alone follows the rules for
/// garbage strings of Taghva et al. 2001, "Automatic removal of garbage strings in OCR text: an implementation"; how many of them are
/// too many is ours, measured (`docs/corpus-filters.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OcrConfig {
    /// Keys in `quality_signals` that hold the recognition score, per cent. Of a list, the mean counts.
    pub score_keys: Vec<String>,
    /// The score at least, where there is one.
    pub score_min: f64,
    /// Keys in `quality_signals` that hold the perplexity.
    pub perplexity_keys: Vec<String>,
    /// The perplexity at least, where there is one.
    pub perplexity_min: f64,
    /// And at most.
    pub perplexity_max: f64,
    /// Garbage strings, of all strings between white space, at most.
    pub garbage_max: f64,
    /// Single letters, of all strings between white space, at most: words that fell apart.
    pub single_letters_max: f64,
    /// Files with the words of a language, one a line, in small letters.
    pub dictionary: BTreeMap<String, PathBuf>,
    /// Words that the dictionary has, of all words with a letter, at least; asked of languages with a dictionary.
    pub dictionary_words_min: f64,
}

impl Default for OcrConfig {
    fn default() -> Self {
        OcrConfig {
            score_keys: vec!["ocr".into()],
            score_min: 90.0,
            perplexity_keys: vec!["ccnet_perplexity".into(), "perplexity".into()],
            perplexity_min: 10.0,
            perplexity_max: 1000.0,
            garbage_max: 0.03,
            single_letters_max: 0.15,
            dictionary: BTreeMap::new(),
            dictionary_words_min: 0.6,
        }
    }
}

/// The rules, ready to be applied.
#[derive(Debug)]
pub(crate) struct Ocr {
    config: OcrConfig,
    dictionaries: BTreeMap<String, Names>,
}

/// A longer string is garbage, characters.
const STRING_CHARS_MAX: usize = 40;

impl Ocr {
    /// Reads the dictionaries.
    pub(crate) fn new(config: &OcrConfig) -> Result<Ocr, FilterSetError> {
        let read = |(language, path): (&String, &PathBuf)| {
            let mut words = lists::read(path, "ocr")?;
            words.iter_mut().for_each(|word| *word = word.to_lowercase());
            Ok((language.clone(), Names::new(words)))
        };
        let dictionaries = config.dictionary.iter().map(read).collect::<Result<_, FilterSetError>>()?;
        Ok(Ocr { config: config.clone(), dictionaries })
    }

    /// Whether [`Self::check`] looks at words.
    pub(crate) fn needs_words(&self, language: &str) -> bool {
        self.dictionaries.contains_key(language)
    }

    /// Checks a document.
    ///
    /// # Errors
    /// [`Rejection`] by the first limit that is broken.
    pub(crate) fn check(&self, document: &Document, words: &[Word]) -> Result<(), Rejection> {
        self.check_signals(document.meta.quality_signals.as_deref())?;
        self.check_strings(&document.text)?;
        let Some(dictionary) = self.dictionaries.get(&document.language) else { return Ok(()) };
        let (mut all, mut known) = (0, 0);
        for word in words.iter().filter(|word| word.alphabetic) {
            all += 1;
            known += u64::from(dictionary.contains(&word.of(&document.text).to_lowercase()));
        }
        let limit = self.config.dictionary_words_min;
        match falls_short(known, all, limit) {
            true => {
                let detail = format!("{known} of {all} words are in the dictionary, at least {limit}");
                Err(Rejection::new("ocr/unknown-words", detail))
            }
            false => Ok(()),
        }
    }

    fn check_signals(&self, signals: Option<&str>) -> Result<(), Rejection> {
        // Signals that are no JSON object are no signals.
        let Some(Ok(signals)) = signals.map(serde_json::from_str::<serde_json::Value>) else { return Ok(()) };
        let find = |keys: &[String]| keys.iter().find_map(|key| signals.get(key).and_then(mean));
        let config = &self.config;
        if let Some(score) = find(&config.score_keys)
            && score < config.score_min
        {
            let detail = format!("score {score}, at least {}", config.score_min);
            return Err(Rejection::new("ocr/low-score", detail));
        }
        let Some(perplexity) = find(&config.perplexity_keys) else { return Ok(()) };
        if perplexity < config.perplexity_min {
            let detail = format!("perplexity {perplexity}, at least {}", config.perplexity_min);
            return Err(Rejection::new("ocr/low-perplexity", detail));
        }
        if perplexity > config.perplexity_max {
            let detail = format!("perplexity {perplexity}, at most {}", config.perplexity_max);
            return Err(Rejection::new("ocr/high-perplexity", detail));
        }
        Ok(())
    }

    fn check_strings(&self, text: &str) -> Result<(), Rejection> {
        let (mut all, mut garbage, mut single) = (0, 0, 0);
        for string in text.split(is_space).filter(|string| !string.is_empty()) {
            // Punctuation that stands alone is usual in French.
            let core = string.trim_matches(is_symbol);
            if core.is_empty() && string.chars().count() <= 3 {
                continue;
            }
            all += 1;
            garbage += u64::from(is_garbage(string, core));
            let mut chars = core.chars();
            single += u64::from(chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none());
        }
        let config = &self.config;
        if exceeds(garbage, all, config.garbage_max) {
            let detail = format!("{garbage} of {all} strings are garbage, at most {}", config.garbage_max);
            return Err(Rejection::new("ocr/garbage", detail));
        }
        if exceeds(single, all, config.single_letters_max) {
            let detail = format!("{single} of {all} strings are single letters, at most {}", config.single_letters_max);
            return Err(Rejection::new("ocr/single-letters", detail));
        }
        Ok(())
    }
}

/// A number, or the mean of a list of numbers.
fn mean(value: &serde_json::Value) -> Option<f64> {
    let Some(list) = value.as_array() else { return value.as_f64() };
    let numbers: Vec<f64> = list.iter().filter_map(serde_json::Value::as_f64).collect();
    let sum = numbers.iter().fold(0.0, |sum, number| sum + number);
    (!numbers.is_empty()).then(|| sum / numbers.len() as f64)
}

/// Taghva's rules. `core` is the string without punctuation around it.
fn is_garbage(string: &str, core: &str) -> bool {
    let (mut length, mut alphanumeric, mut run, mut previous) = (0, 0, 0, '\0');
    let [mut vowels, mut letters, mut inner_capital, mut four] = [0_usize, 0, 0, 0];
    let mut marks: [char; 2] = ['\0'; 2];
    for c in core.chars() {
        length += 1;
        alphanumeric += usize::from(c.is_alphanumeric());
        letters += usize::from(c.is_alphabetic());
        vowels += usize::from(is_vowel(c));
        inner_capital += usize::from(c.is_uppercase());
        run = if c == previous { run + 1 } else { 1 };
        four += usize::from(run >= 4 && c.is_alphabetic());
        previous = c;
        if !c.is_alphanumeric() && !matches!(c, '-' | '\'' | '’' | '.' | ',') && !marks.contains(&c) {
            marks.rotate_right(1);
            marks[0] = c;
        }
    }
    let small = |c: Option<char>| c.is_some_and(char::is_lowercase);
    let latin = core.chars().all(|c| c < '\u{250}');
    string.len() > STRING_CHARS_MAX && string.chars().count() > STRING_CHARS_MAX
        || 2 * alphanumeric < length
        || length == 0
        || four > 0
        || marks[1] != '\0'
        || (inner_capital > 0 && small(core.chars().next()) && small(core.chars().next_back()))
        || (latin
            && letters == length
            && letters >= 5
            && (10 * vowels < letters - vowels || 10 * (letters - vowels) < vowels))
}

fn is_vowel(c: char) -> bool {
    // Accented letters of Latin 1 and Extended A are vowels but for these few.
    match c {
        'a' | 'e' | 'i' | 'o' | 'u' | 'y' | 'A' | 'E' | 'I' | 'O' | 'U' | 'Y' => true,
        'ç' | 'Ç' | 'ñ' | 'Ñ' | 'ð' | 'Ð' | 'þ' | 'Þ' | 'ß' | '×' | '÷' => false,
        '\u{c0}'..='\u{ff}' | 'œ' | 'Œ' | 'ā'..='ą' | 'ē'..='ě' | 'ĩ'..='ı' | 'ō'..='ő' | 'ũ'..='ų' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn garbage(string: &str) -> bool {
        is_garbage(string, string.trim_matches(is_symbol))
    }

    #[test]
    fn words_are_no_garbage() {
        let words = "l'eau aujourd'hui, porte-monnaie « (1789). 1,5 http M. CNRS SNCF naïveté œuvre Ah! straße 12/07/1998 rhythm";
        for word in words.split(' ').filter(|word| *word != "«") {
            assert!(!garbage(word), "{word}");
        }
    }

    #[test]
    fn stains_are_garbage() {
        for string in ["tlrfgh", "iiiiil", "a~b|c", "quEl", "^~|;:", "¦§°¬{}", "aeiouaeiouaei"] {
            assert!(garbage(string), "{string}");
        }
        assert!(garbage(&"a".repeat(41)));
        assert!(!garbage(&"ab".repeat(20)));
    }

    #[test]
    fn signals_decide_on_both_sides() {
        let ocr = Ocr::new(&OcrConfig::default()).unwrap();
        let rule = |signals: &str| ocr.check_signals(Some(signals)).err().map(|rejection| rejection.rule.into_owned());
        assert_eq!(rule(r#"{"ocr": 90}"#), None);
        assert_eq!(rule(r#"{"ocr": 89.9}"#).as_deref(), Some("ocr/low-score"));
        assert_eq!(rule(r#"{"ccnet_perplexity": [900, 1100]}"#), None);
        assert_eq!(rule(r#"{"ccnet_perplexity": [900, 1101]}"#).as_deref(), Some("ocr/high-perplexity"));
        assert_eq!(rule(r#"{"perplexity": 10}"#), None);
        assert_eq!(rule(r#"{"perplexity": 9.99}"#).as_deref(), Some("ocr/low-perplexity"));
        assert_eq!(rule("no JSON"), None);
        assert_eq!(rule("[1]"), None);
        assert_eq!(rule(r#"{"ocr": []}"#), None);
    }
}
