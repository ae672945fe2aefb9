//! Reservations of rights, honoured after the fact: `robots.txt` (RFC 9309), the TDM Reservation Protocol, and a list of those who opted out
//! (Article 4(3) of Directive (EU) 2019/790).
//!
//! Memory: of each host its name and eight bytes, and rules that differ once each; `Rights::robots_bytes` counts them.

mod files;
mod optout;
pub mod robots;
mod table;
mod tdm;

use crate::document::Document;
use crate::verdict::Rejection;
use optout::OptOut;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use table::{Builder, State, Table};
use tdm::TdmFiles;
use url::Url;

/// What is done with documents of a host of which something is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// They are kept.
    Keep,
    /// They are dropped.
    Drop,
}

/// `[rights]`: which reservations are honoured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RightsConfig {
    /// `robots.txt` files of hosts: folders of `HOST.txt` or `HOST/robots.txt`; JSON lines with `host` or `url`, `status` and `body`; WARC,
    /// as Common Crawl's `robotstxt` part. Where there is none of them, `robots.txt` is not asked.
    pub robots: Vec<PathBuf>,
    /// A document is reserved where any of these may not fetch it. Default: crawlers for training of models, by ai.robots.txt.
    pub agents: Vec<String>,
    /// Whether the rules for `*` bind agents that no group names, as RFC 9309 has it. `false`: only rules that name an agent count.
    pub star: bool,
    /// Hosts that are not among the files. Default: drop, as Lucie and Luciole did.
    pub unknown: Policy,
    /// Hosts that answered that they have no `robots.txt` (400–499, or a redirection that led nowhere). Default: keep (RFC 9309, 2.3.1.3).
    pub absent: Policy,
    /// Hosts that did not answer or with an error (500–599). Default: drop (RFC 9309, 2.3.1.4); Apertus kept them.
    pub unreachable: Policy,
    /// Hosts whose file is none: a page of HTML, say. Default: keep, as Luciole did.
    pub malformed: Policy,
    /// Whether `tdm-reservation: 1` of a page's HTTP header or `<meta>` is honoured.
    pub tdm: bool,
    /// `tdmrep.json` files, in the forms of `robots`, with `HOST.json` for `HOST.txt`.
    pub tdm_files: Vec<PathBuf>,
    /// Lists of those who opted out: a line for each host, address or `id:…`.
    pub opt_out: Vec<PathBuf>,
}

/// The default of [`RightsConfig::agents`].
pub const AGENTS: [&str; 21] = [
    "AI2Bot",
    "Amazonbot",
    "anthropic-ai",
    "Applebot-Extended",
    "Bytespider",
    "CCBot",
    "ClaudeBot",
    "Claude-Web",
    "cohere-ai",
    "cohere-training-data-crawler",
    "Diffbot",
    "FacebookBot",
    "Google-Extended",
    "GPTBot",
    "img2dataset",
    "meta-externalagent",
    "omgili",
    "PanguBot",
    "PerplexityBot",
    "Timpibot",
    "Webzio-Extended",
];

impl Default for RightsConfig {
    fn default() -> Self {
        RightsConfig {
            robots: Vec::new(),
            agents: AGENTS.map(String::from).to_vec(),
            star: true,
            unknown: Policy::Drop,
            absent: Policy::Keep,
            unreachable: Policy::Drop,
            malformed: Policy::Keep,
            tdm: true,
            tdm_files: Vec::new(),
            opt_out: Vec::new(),
        }
    }
}

impl RightsConfig {
    /// All paths, to make them relative to the corpus file.
    pub fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.robots.iter_mut().chain(&mut self.tdm_files).chain(&mut self.opt_out)
    }
}

/// Why reservations could not be loaded. A build must not go on without them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RightsError {
    /// A file that cannot be read, or not to its end.
    #[error("{path}: {error}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line or record that is none.
    #[error("{path}: {place}{reason}; mend or remove it, since a reservation may be lost", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where, with what separates it from the reason.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// More than the tables hold.
    #[error("robots.txt files: more than 4 GiB of hosts' names; split the corpus by host")]
    TooMany,
    /// More agents than can be numbered.
    #[error("rights.agents has {got} entries, expected at most 1024, of letters, digits, - and _")]
    Agents {
        /// How many.
        got: usize,
    },
}

/// All reservations, ready to be asked by many threads.
#[derive(Debug)]
pub struct Rights {
    robots: Option<Table>,
    agents: Vec<String>,
    policies: [Policy; 4],
    tdm: bool,
    tdm_files: TdmFiles,
    opt_out: OptOut,
}

impl Rights {
    /// Reads all files that the settings name. Their order means nothing.
    ///
    /// # Errors
    /// [`RightsError`]; nothing that is broken is passed over.
    pub fn load(config: &RightsConfig) -> Result<Rights, RightsError> {
        let is_agent = |agent: &String| {
            !agent.is_empty() && agent.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if config.agents.len() > 1024 || !config.agents.iter().all(is_agent) {
            return Err(RightsError::Agents { got: config.agents.len() });
        }
        // In an order of their own: which one is named as the reason does not depend on the settings' order.
        let mut agents = config.agents.clone();
        agents.sort();
        agents.dedup();
        let mut builder = Builder::default();
        for path in &config.robots {
            files::each(path, "robots.txt", &mut |answer| builder.add(&answer, &agents, config.star))?;
        }
        let robots = match config.robots.is_empty() {
            true => None,
            false => Some(builder.finish()?),
        };
        let (mut tdm_files, mut opt_out) = (TdmFiles::default(), OptOut::default());
        config.tdm_files.iter().try_for_each(|path| tdm_files.read(path))?;
        config.opt_out.iter().try_for_each(|path| opt_out.read(path))?;
        let policies = [config.unknown, config.absent, config.unreachable, config.malformed];
        Ok(Rights { robots, agents, policies, tdm: config.tdm, tdm_files, opt_out })
    }

    /// Whether a document may be used. Only documents with a web address are subject to `robots.txt` and `tdmrep.json`.
    ///
    /// # Errors
    /// `rights/opt-out`, `rights/tdm`, `rights/tdm-file`, `rights/robots`, or `rights/robots-unknown`, `-absent`, `-unreachable`, `-malformed`.
    pub fn check(&self, document: &Document) -> Result<(), Rejection> {
        let address = document.meta.url.as_deref().filter(|url| is_web(url));
        let url = address.and_then(|url| Url::parse(url).ok());
        if let Some(entry) = self.opt_out.covers(&document.id, url.as_ref()) {
            return Err(Rejection::new("rights/opt-out", entry));
        }
        if let Some(tdm) = document.meta.tdm.as_ref().filter(|tdm| self.tdm && tdm.reserved) {
            return Err(Rejection::new("rights/tdm", tdm.policy.as_deref().unwrap_or("no policy named")));
        }
        let Some(address) = address else { return Ok(()) };
        if let Some(location) = url.as_ref().and_then(|url| self.tdm_files.reserves(url)) {
            return Err(Rejection::new("rights/tdm-file", location));
        }
        match &self.robots {
            Some(table) => self.check_robots(table, address, url.as_ref()),
            None => Ok(()),
        }
    }

    fn check_robots(&self, table: &Table, address: &str, url: Option<&Url>) -> Result<(), Rejection> {
        let host = url.and_then(files::host_of);
        let [unknown, absent, unreachable, malformed] = self.policies;
        let by = |policy, rule| match policy {
            Policy::Keep => Ok(()),
            Policy::Drop => {
                let address = || address.chars().take(100).collect();
                Err(Rejection::new(rule, host.clone().unwrap_or_else(address)))
            }
        };
        match host.as_deref().and_then(|host| table.get(host)) {
            None => by(unknown, "rights/robots-unknown"),
            Some(State::Absent) => by(absent, "rights/robots-absent"),
            Some(State::Unreachable) => by(unreachable, "rights/robots-unreachable"),
            Some(State::Malformed) => by(malformed, "rights/robots-malformed"),
            Some(State::Rules(policy)) => {
                let path = url.map(robots::path_of).unwrap_or_default();
                match table.forbidden(policy, &path, &self.agents) {
                    None => Ok(()),
                    Some((agent, pattern)) => {
                        Err(Rejection::new("rights/robots", format!("{agent}: Disallow: {pattern}")))
                    }
                }
            }
        }
    }

    /// Hosts whose `robots.txt` is known, and the bytes that they take.
    pub fn robots_bytes(&self) -> (usize, usize) {
        self.robots.as_ref().map_or((0, 0), |table| (table.len(), table.bytes()))
    }
}

/// Whether an address is one of the web, and not a path or a DOI.
fn is_web(url: &str) -> bool {
    let starts = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    starts("http://") || starts("https://")
}

#[cfg(test)]
mod tests;
