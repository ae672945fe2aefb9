//! Addresses that documents must not come from.

use super::names::Names;
use super::{FilterSetError, lists};
use crate::document::Document;
use crate::verdict::Rejection;
use aho_corasick::AhoCorasick;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Block lists of hosts, addresses and words in addresses. Documents without an address pass.
///
/// Sources: the rules of FineWeb (datatrove 0.10, `pipeline/filters/url_filter.py`: one hard word, or two soft ones), the lists of
/// UT1 (<https://dsi.ut-capitole.fr/blacklists/>, CC-BY-SA-4.0) that Lucie used: a folder for each category with the files `domains` and
/// `urls`. A host is blocked with all hosts below it, an address with all below it (as squidGuard reads these lists).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UrlListsConfig {
    /// Folders of UT1's form: `domains` and `urls` in them count.
    pub folders: Vec<PathBuf>,
    /// Files of hosts, one a line.
    pub host_files: Vec<PathBuf>,
    /// Hosts.
    pub hosts: Vec<String>,
    /// Files of words of which one in an address is too many.
    pub hard_word_files: Vec<PathBuf>,
    /// Words of which one is too many.
    pub hard_words: Vec<String>,
    /// Files of words of which a few are too many.
    pub soft_word_files: Vec<PathBuf>,
    /// Words of which a few are too many.
    pub soft_words: Vec<String>,
    /// As many different soft words are too many.
    pub soft_words_min: u64,
    /// Parts of words that must not occur in an address from which all but letters and digits is taken out.
    pub subword_files: Vec<PathBuf>,
}

impl Default for UrlListsConfig {
    fn default() -> Self {
        UrlListsConfig {
            folders: Vec::new(),
            host_files: Vec::new(),
            hosts: Vec::new(),
            hard_word_files: Vec::new(),
            hard_words: Vec::new(),
            soft_word_files: Vec::new(),
            soft_words: Vec::new(),
            soft_words_min: 2,
            subword_files: Vec::new(),
        }
    }
}

/// The lists, ready to be asked.
#[derive(Debug)]
pub(crate) struct UrlLists {
    hosts: Names,
    addresses: Names,
    hard: Names,
    soft: Names,
    soft_words_min: u64,
    subwords: AhoCorasick,
}

/// Parts of a host or path that are looked at, at most.
const PARTS_MAX: usize = 64;

impl UrlLists {
    /// Reads the lists.
    pub(crate) fn new(config: &UrlListsConfig) -> Result<UrlLists, FilterSetError> {
        let read = |files: &[PathBuf]| -> Result<Vec<String>, FilterSetError> {
            files
                .iter()
                .map(|path| lists::read(path, "url-lists"))
                .collect::<Result<Vec<_>, _>>()
                .map(|all| all.concat())
        };
        let mut hosts = [read(&config.host_files)?, config.hosts.clone()].concat();
        let mut addresses = Vec::new();
        for folder in &config.folders {
            hosts.extend(part(folder, "domains")?);
            addresses.extend(part(folder, "urls")?);
        }
        hosts.iter_mut().for_each(|host| *host = host.trim_start_matches('.').trim_end_matches('.').to_lowercase());
        addresses.iter_mut().for_each(|address| *address = place(address));
        let words = |files: &[PathBuf], more: &[String]| -> Result<Names, FilterSetError> {
            let all = [read(files)?, more.to_vec()].concat();
            Ok(Names::new(all.iter().map(|word| squeeze(word)).collect()))
        };
        let subwords: Vec<String> = read(&config.subword_files)?.iter().map(|word| squeeze(word)).collect();
        let failed = |error: aho_corasick::BuildError| FilterSetError::Phrases {
            filter: "url-lists",
            reason: error.to_string(),
        };
        Ok(UrlLists {
            hosts: Names::new(hosts),
            addresses: Names::new(addresses),
            hard: words(&config.hard_word_files, &config.hard_words)?,
            soft: words(&config.soft_word_files, &config.soft_words)?,
            soft_words_min: config.soft_words_min,
            subwords: AhoCorasick::new(subwords.iter().filter(|word| !word.is_empty())).map_err(failed)?,
        })
    }

    /// Checks where a document is from.
    ///
    /// # Errors
    /// [`Rejection`], which names the host or word.
    pub(crate) fn check(&self, document: &Document) -> Result<(), Rejection> {
        let Some(url) = document.meta.url.as_deref().filter(|url| !url.is_empty()) else { return Ok(()) };
        let place = place(url);
        let host = &place[..place.find('/').unwrap_or(place.len())];
        if !self.hosts.is_empty()
            && let Some(blocked) = parents(host).find(|host| self.hosts.contains(host))
        {
            return Err(Rejection::new("url-lists/host", blocked));
        }
        if !self.addresses.is_empty()
            && let Some(blocked) = prefixes(&place).find(|prefix| self.addresses.contains(prefix))
        {
            return Err(Rejection::new("url-lists/address", blocked));
        }
        self.check_words(url)
    }

    fn check_words(&self, url: &str) -> Result<(), Rejection> {
        let mut words: Vec<String> =
            url.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(squeeze).collect();
        words.sort_unstable();
        words.dedup();
        if let Some(word) = words.iter().find(|word| self.hard.contains(word)) {
            return Err(Rejection::new("url-lists/hard-word", format!("\"{word}\"")));
        }
        let soft: Vec<&str> = words.iter().filter(|word| self.soft.contains(word)).map(String::as_str).collect();
        if !soft.is_empty() && soft.len() as u64 >= self.soft_words_min {
            let detail = format!("\"{}\", fewer than {}", soft.join("\", \""), self.soft_words_min);
            return Err(Rejection::new("url-lists/soft-words", detail));
        }
        match self.subwords.find(&squeeze(url)) {
            Some(found) => {
                let detail = format!("\"{}\"", &squeeze(url)[found.range()]);
                Err(Rejection::new("url-lists/subword", detail))
            }
            None => Ok(()),
        }
    }
}

/// A file of a UT1 folder. A category may lack one of its two, the folder itself may not be missing.
fn part(folder: &Path, name: &str) -> Result<Vec<String>, FilterSetError> {
    let path = folder.join(name);
    match folder.is_dir() && !path.exists() {
        true => Ok(Vec::new()),
        false => lists::read(&path, "url-lists"),
    }
}

/// Letters and digits of ASCII, small.
fn squeeze(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// `host/path?query` of an address: without scheme, user, port, fragment and `www.`; the host in small letters.
fn place(url: &str) -> String {
    let url = url.trim();
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) => {
            rest
        }
        _ => url.strip_prefix("//").unwrap_or(url),
    };
    let rest = &rest[..rest.find('#').unwrap_or(rest.len())];
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.trim_end_matches('.').to_lowercase();
    let host = host.strip_prefix("www.").unwrap_or(&host);
    format!("{host}{}", path.trim_end_matches('/'))
}

/// The host and those above it: `a.b.c`, `b.c`, `c`.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host), |host| host.split_once('.').map(|(_, above)| above)).take(PARTS_MAX)
}

/// The address and those above it: `a/b/c`, `a/b`, `a`.
fn prefixes(place: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(place), |place| place.rfind(['/', '?']).map(|at| &place[..at])).take(PARTS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Meta;

    fn rule(lists: &UrlLists, url: &str) -> Option<String> {
        let meta = Meta { url: Some(url.into()), ..Meta::default() };
        let [id, source, language, license, text] = [const { String::new() }; 5];
        let document = Document { id, source, language, license, text, meta };
        lists.check(&document).err().map(|rejection| rejection.to_string())
    }

    #[test]
    fn ut1_folders_block_hosts_and_addresses_with_what_is_below() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("domains"), "bad.example\n# no\nBad.org\n").unwrap();
        std::fs::write(folder.path().join("urls"), "good.example/~bad\ngood.example/x?y=1\n").unwrap();
        let config = UrlListsConfig { folders: vec![folder.path().to_owned()], ..Default::default() };
        let lists = UrlLists::new(&config).unwrap();
        let blocked = |url| rule(&lists, url).is_some();
        assert!(blocked("https://bad.example/") && blocked("http://a.b.BAD.example:8080/x#y") && blocked("bad.org"));
        assert!(!blocked("https://notbad.example/") && !blocked("https://bad.example.com/"));
        assert!(blocked("https://www.good.example/~bad/page") && blocked("http://me:pw@good.example/~bad"));
        assert!(!blocked("https://good.example/~badly") && blocked("https://good.example/x?y=1"));
        assert_eq!(rule(&lists, "https://x.bad.org/").as_deref(), Some("url-lists/host: bad.org"));
        assert_eq!(rule(&lists, ""), None);
        let config = UrlListsConfig { folders: vec!["/no/such".into()], ..Default::default() };
        assert!(UrlLists::new(&config).is_err());
    }

    #[test]
    fn one_hard_word_or_two_soft_ones() {
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        let config = UrlListsConfig {
            hard_words: words(&["casino"]),
            soft_words: words(&["Poker", "bet"]),
            ..Default::default()
        };
        let lists = UrlLists::new(&config).unwrap();
        assert!(rule(&lists, "https://a.example/CASINO-1").is_some());
        assert_eq!(rule(&lists, "https://a.example/casinos"), None);
        assert_eq!(rule(&lists, "https://poker.example/poker"), None);
        assert!(rule(&lists, "https://poker.example/bet").is_some());
    }

    #[test]
    fn odd_addresses_are_read_somehow() {
        for url in ["://", "http://", "a:b:c", "////", "?", "é@è:99999/ü", "http://[::1]:80/x"] {
            assert!(place(url).len() <= url.len(), "{url}");
        }
        assert_eq!(place("HTTPS://www.Example.ORG./a/?q#f"), "example.org/a/?q");
    }
}
