//! A list of hosts, addresses and documents whose owners do not want them in.

use super::RightsError;
use super::files::host_of;
use crate::readers::{Line, next_line, open_bytes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use url::Url;

/// One line at most, bytes.
const LINE_MAX: u64 = 16 << 10;

/// The list. Memory: each entry once, with about 50 bytes beside its text.
#[derive(Debug, Default)]
pub(super) struct OptOut {
    hosts: BTreeSet<Box<str>>,
    /// By host, the starts of paths, without a `/` at their end.
    prefixes: BTreeMap<Box<str>, Vec<Box<str>>>,
    ids: BTreeSet<Box<str>>,
}

impl OptOut {
    /// Adds a file: a line for each host (`example.org`, with all below it), address (`example.org/me` or `https://example.org/me`, with
    /// all below it) or document (`id:…`); `#` begins a line that is not read. Packed or not.
    pub(super) fn read(&mut self, path: &Path) -> Result<(), RightsError> {
        let failed = |error| RightsError::Read { path: path.to_owned(), error };
        let mut file = open_bytes(path).map_err(failed)?;
        let (mut line, mut number) = (Vec::new(), 0u64);
        while let Some(kind) = next_line(&mut file, &mut line, LINE_MAX).map_err(failed)? {
            number += 1;
            let bad = |reason: &str| RightsError::Malformed {
                path: path.to_owned(),
                place: format!("line {number}: "),
                reason: reason.to_owned(),
            };
            if matches!(kind, Line::TooLong(_)) {
                return Err(bad("longer than 16384 bytes"));
            }
            let entry = std::str::from_utf8(&line).map_err(|_| bad("not UTF-8"))?.trim();
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            self.add(entry).ok_or_else(|| bad("neither a host, an address nor id:…"))?;
        }
        Ok(())
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        if let Some(id) = entry.strip_prefix("id:") {
            self.ids.insert(id.trim().into());
            return Some(());
        }
        let whole = if entry.contains("://") { entry.to_owned() } else { format!("http://{entry}") };
        let url = Url::parse(&whole).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        // One word is a host only where it looks like one.
        let host = host_of(&url).filter(|host| host.contains(['.', ':']) || host == "localhost")?;
        let path = path_of(&url);
        match path.trim_end_matches('/') {
            "" => drop(self.hosts.insert(host.into())),
            path => self.prefixes.entry(host.into()).or_default().push(path.into()),
        }
        Some(())
    }

    /// The entry that covers a document.
    pub(super) fn covers(&self, id: &str, url: Option<&Url>) -> Option<String> {
        if self.ids.contains(id) {
            return Some(format!("id:{id}"));
        }
        let url = url?;
        let host = host_of(url)?;
        let without_port = url.host_str()?.trim_end_matches('.').to_ascii_lowercase();
        let mut part = without_port.as_str();
        if self.hosts.contains(host.as_str()) {
            return Some(host);
        }
        loop {
            if self.hosts.contains(part) {
                return Some(part.to_owned());
            }
            match part.split_once('.') {
                Some((_, parent)) => part = parent,
                None => break,
            }
        }
        let path = path_of(url);
        let below = |prefix: &str| {
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with(['/', '?'])).then(|| format!("{host}{prefix}"))
        };
        self.prefixes.get(host.as_str())?.iter().find_map(|prefix| below(prefix))
    }
}

fn path_of(url: &Url) -> String {
    super::robots::path_of(url)
}
