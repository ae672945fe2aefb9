//! `/.well-known/tdmrep.json` of the TDM Reservation Protocol (W3C Community Group, final report of 2 February 2024).

use super::RightsError;
use super::files::{self, host_of};
use super::robots::{matches, normalise, path_of};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use url::Url;

/// Rules of one file at most.
const RULES_MAX: usize = 10_000;

#[derive(Deserialize)]
struct JsonRule {
    location: String,
    #[serde(rename = "tdm-reservation")]
    reservation: serde_json::Value,
}

/// Which paths of which hosts are reserved, by files. Memory: each host with a reservation, and its patterns.
#[derive(Debug, Default)]
pub(super) struct TdmFiles {
    reserved: BTreeMap<Box<str>, Vec<Box<str>>>,
}

impl TdmFiles {
    /// Adds answers in any of the forms of `robots.txt`, as `HOST.json` where each has a file. What is no JSON of the protocol reserves
    /// nothing.
    pub(super) fn read(&mut self, path: &Path) -> Result<(), RightsError> {
        files::each(path, "tdmrep.json", &mut |answer| {
            if !(200..=299).contains(&answer.status) {
                return Ok(());
            }
            let rules: Vec<JsonRule> = serde_json::from_slice(answer.body).unwrap_or_default();
            // The protocol has 0 and 1; some write them as text.
            let reserves = |rule: &JsonRule| rule.reservation == 1 || rule.reservation == "1";
            let patterns = rules.iter().take(RULES_MAX).filter(|rule| reserves(rule));
            let mut patterns: Vec<Box<str>> =
                patterns.map(|rule| normalise(rule.location.as_bytes(), true).into()).collect();
            if !patterns.is_empty() {
                self.reserved.entry(answer.host.into()).or_default().append(&mut patterns);
            }
            Ok(())
        })
    }

    /// The pattern that reserves an address. Any that matches does, whatever other rules say: a little stricter than the protocol.
    pub(super) fn reserves(&self, url: &Url) -> Option<&str> {
        let patterns = self.reserved.get(host_of(url)?.as_str())?;
        let path = path_of(url);
        patterns.iter().map(|pattern| &**pattern).find(|pattern| matches(pattern, &path))
    }
}
