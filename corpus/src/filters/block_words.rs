//! Lists of words that a document must not have, or not many of.

use super::{FilterSetError, lists};
use crate::verdict::Rejection;
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Lists of words for each language, as those of LDNOOBW that C4 and Lucie use
/// (<https://github.com/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words>, CC-BY-4.0): one word or phrase a line. Capitals
/// do not matter; a word counts where no letter, digit or underscore is next to it (in Chinese, Japanese and Thai: anywhere).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlockWordsConfig {
    /// Lists of which no word may occur more than `hard_max` times, all counted together.
    pub hard: BTreeMap<String, PathBuf>,
    /// Occurrences of hard words at most.
    pub hard_max: u64,
    /// Lists of which a few words may occur.
    pub soft: BTreeMap<String, PathBuf>,
    /// Different soft words at most.
    pub soft_max: u64,
}

impl Default for BlockWordsConfig {
    fn default() -> Self {
        BlockWordsConfig { hard: BTreeMap::new(), hard_max: 0, soft: BTreeMap::new(), soft_max: 1 }
    }
}

/// The lists, ready to be searched for.
#[derive(Debug)]
pub(crate) struct BlockWords {
    hard: BTreeMap<String, Words>,
    soft: BTreeMap<String, Words>,
    hard_max: u64,
    soft_max: u64,
}

#[derive(Debug)]
struct Words {
    search: AhoCorasick,
    names: Vec<String>,
    /// Words may stand within others: the language has no spaces.
    anywhere: bool,
}

impl BlockWords {
    /// Reads the lists.
    pub(crate) fn new(config: &BlockWordsConfig) -> Result<BlockWords, FilterSetError> {
        let read_all = |files: &BTreeMap<String, PathBuf>| -> Result<BTreeMap<String, Words>, FilterSetError> {
            files.iter().map(|(language, path)| Ok((language.clone(), Words::read(language, path)?))).collect()
        };
        let (hard_max, soft_max) = (config.hard_max, config.soft_max);
        Ok(BlockWords { hard: read_all(&config.hard)?, soft: read_all(&config.soft)?, hard_max, soft_max })
    }

    /// Checks a text. Languages without a list pass.
    ///
    /// # Errors
    /// [`Rejection`], which names the word that was one too many.
    pub(crate) fn check(&self, text: &str, language: &str) -> Result<(), Rejection> {
        let (hard, soft) = (self.hard.get(language), self.soft.get(language));
        if hard.is_none() && soft.is_none() {
            return Ok(());
        }
        let text = text.to_lowercase();
        if let Some(words) = hard {
            let mut count = 0;
            for at in words.find(&text) {
                count += 1;
                if count > self.hard_max {
                    let detail = format!("\"{}\": more than {} of the list", words.names[at], self.hard_max);
                    return Err(Rejection::new("block-words/hard", detail));
                }
            }
        }
        if let Some(words) = soft {
            let mut met = vec![false; words.names.len()];
            let mut count = 0;
            for at in words.find(&text) {
                count += u64::from(!std::mem::replace(&mut met[at], true));
                if count > self.soft_max {
                    let detail = format!("\"{}\": more than {} of the list", words.names[at], self.soft_max);
                    return Err(Rejection::new("block-words/soft", detail));
                }
            }
        }
        Ok(())
    }
}

impl Words {
    fn read(language: &str, path: &std::path::Path) -> Result<Words, FilterSetError> {
        let mut names = lists::read(path, "block-words")?;
        names.iter_mut().for_each(|name| *name = name.to_lowercase());
        names.sort_unstable();
        names.dedup();
        let failed = |error: aho_corasick::BuildError| FilterSetError::Phrases {
            filter: "block-words",
            reason: error.to_string(),
        };
        let search = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(&names).map_err(failed)?;
        Ok(Words { search, names, anywhere: matches!(language, "zh" | "ja" | "th") })
    }

    /// Words of the list in the text, in the order in which they end.
    fn find(&self, text: &str) -> impl Iterator<Item = usize> {
        let inner = |c: char| c.is_alphanumeric() || c == '_';
        self.search
            .find_overlapping_iter(text)
            .filter(move |found| {
                let before = text[..found.start()].chars().next_back().is_some_and(inner);
                let after = text[found.end()..].chars().next().is_some_and(inner);
                self.anywhere || !(before || after)
            })
            .map(|found| found.pattern().as_usize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(hard: &str, soft: &str) -> BlockWords {
        let folder = tempfile::tempdir().unwrap();
        let [hard_path, soft_path] = ["hard", "soft"].map(|name| folder.path().join(name));
        std::fs::write(&hard_path, hard).unwrap();
        std::fs::write(&soft_path, soft).unwrap();
        let list = |path| BTreeMap::from([("fr".to_owned(), path)]);
        BlockWords::new(&BlockWordsConfig { hard: list(hard_path), soft: list(soft_path), ..Default::default() })
            .unwrap()
    }

    #[test]
    fn hard_words_reject_whole_words_only() {
        let list = words("# a comment\nZut alors\ncrotte\n", "");
        let rule = |text: &str| list.check(text, "fr").err().map(|rejection| rejection.to_string());
        assert_eq!(rule("des crottes et des crotter"), None);
        assert_eq!(rule("CROTTE!").as_deref(), Some("block-words/hard: \"crotte\": more than 0 of the list"));
        assert!(rule("ah, zut alors.").is_some());
        assert_eq!(rule("zut, alors"), None);
        assert!(list.check("crotte", "en").is_ok());
    }

    #[test]
    fn soft_words_reject_when_there_are_two() {
        let list = words("", "un\ndeux\n");
        assert!(list.check("un un un", "fr").is_ok());
        assert_eq!(list.check("un deux", "fr").unwrap_err().rule, "block-words/soft");
    }

    #[test]
    fn a_list_that_is_missing_is_named() {
        let config =
            BlockWordsConfig { hard: BTreeMap::from([("fr".into(), "/no/such".into())]), ..Default::default() };
        let error = BlockWords::new(&config).unwrap_err().to_string();
        assert!(error.starts_with("block-words: /no/such: "), "{error}");
    }
}
