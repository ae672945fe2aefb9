//! All that decides over a document by itself, in its order: removal, licence, rights, language, filters, personal data.

use super::runner::{Fingerprint, fingerprint};
use crate::bundle::{Fate, Key, Keyed, Notes};
use crate::config::{Config, ConfigError, Format, SourceConfig};
use crate::document::Document;
use crate::filters::{self, FilterSet, FilterSetError};
use crate::language::{Identifier, LanguageError};
use crate::license::Licenses;
use crate::pii::{Masker, PiiCounts, PiiError};
use crate::readers::Unit;
use crate::rights::{Rights, RightsError};
use crate::verdict::Rejection;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// A list of ids at most, bytes.
const IDS_MAX: u64 = 1 << 30;

/// Why the settings give no chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The licences.
    #[error(transparent)]
    Licenses(#[from] ConfigError),
    /// The reservations of rights.
    #[error(transparent)]
    Rights(#[from] RightsError),
    /// The identification of languages.
    #[error(transparent)]
    Language(#[from] LanguageError),
    /// A set of filters.
    #[error(transparent)]
    Filters(#[from] FilterSetError),
    /// Personal data.
    #[error(transparent)]
    Pii(#[from] PiiError),
    /// A file that the settings name.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The chain; all threads share it.
#[derive(Debug)]
pub struct Chain {
    removed: HashSet<[u8; 16]>,
    licenses: Licenses,
    /// For each source: the licence that its settings name.
    source_licenses: Vec<Option<String>>,
    rights: Rights,
    identifier: Identifier,
    masker: Masker,
    /// By name.
    filters: BTreeMap<String, FilterSet>,
    /// For each source: the names for its web archives and for other files.
    sets: Vec<[String; 2]>,
    fingerprint: Fingerprint,
}

/// What a thread needs on the way.
#[derive(Debug, Default)]
pub struct Scratch {
    filters: filters::Scratch,
}

/// When a file was changed, nanoseconds since 1970; 0 where the system does not say.
pub fn modified(path: &Path) -> u128 {
    let modified = std::fs::metadata(path).and_then(|data| data.modified()).ok();
    modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_nanos())
}

impl Chain {
    /// Makes the chain of a corpus: reads the lists and models that its settings name.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn new(config: &Config) -> Result<Chain, ChainError> {
        let set =
            |source: &SourceConfig| [Format::Warc, Format::Text].map(|format| source.filter_set(format).to_owned());
        let sets: Vec<[String; 2]> = config.sources.iter().map(set).collect();
        let mut filters = BTreeMap::new();
        for name in sets.iter().flatten() {
            filters.insert(name.clone(), FilterSet::within(&config.folder, name, &config.filters)?);
        }
        let removed = config.remove.as_deref().map(ids).transpose()?.unwrap_or_default();
        let mut files = Vec::new();
        let lists = filters.values().flat_map(|set| set.settings().paths());
        for path in config.deciding_files().into_iter().chain(lists) {
            hash(&path, 0, &mut files)?;
        }
        Ok(Chain {
            removed,
            licenses: Licenses::new(&config.license)?,
            source_licenses: config.sources.iter().map(|source| source.license.clone()).collect(),
            rights: Rights::load(&config.rights)?,
            identifier: Identifier::load(&config.language)?,
            masker: Masker::new(&config.pii)?,
            filters,
            sets,
            fingerprint: fingerprint("chain", &(config.chain(), files)),
        })
    }

    /// A fingerprint of all that decides.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Decides over a document of a file, and changes what is to be changed.
    ///
    /// # Errors
    /// The document's [`Fate`], if it is refused.
    pub fn judge(&self, unit: &Unit, mut document: Document, scratch: &mut Scratch) -> Result<Keyed, Box<Fate>> {
        let bytes = document.text.len() as u64;
        match self.apply(unit, &mut document, scratch) {
            Ok(notes) => Ok(Keyed { key: Key::of(&document), document, notes }),
            Err(rejection) => Err(Box::new(Fate { bytes, ..Fate::new(&document, rejection) })),
        }
    }

    fn apply(&self, unit: &Unit, document: &mut Document, scratch: &mut Scratch) -> Result<Notes, Rejection> {
        if document.text.trim().is_empty() {
            return Err(Rejection::new("empty/no-text", ""));
        }
        if self.removed.contains(&document.id_hash()[..16]) {
            return Err(Rejection::new("removed/request", "its id is on the list of removals"));
        }
        let source_license = self.source_licenses[unit.source].as_deref();
        let license_from = self.licenses.decide(document, source_license)?;
        self.rights.check(document)?;
        self.identifier.check(document)?;
        let [web, other] = &self.sets[unit.source];
        let set = if unit.format == Format::Warc { web } else { other };
        if let Some(filters) = self.filters.get(set) {
            filters.apply(document, &mut scratch.filters)?;
        }
        let (masked, counts) = self.masker.mask(&document.text);
        if let Cow::Owned(masked) = masked {
            document.text = masked;
        }
        let PiiCounts { email, phone, ip, iban } = counts;
        let masked = [email, phone, ip, iban].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        Ok(Notes { license_from, masked, cluster: 0 })
    }
}

/// The ids of a list, a line each, as hashes.
fn ids(path: &Path) -> Result<HashSet<[u8; 16]>, ChainError> {
    let failed = |reason: String| ChainError::File { path: path.to_owned(), reason };
    let len = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if len > IDS_MAX {
        return Err(failed(format!("{len} bytes, at most {IDS_MAX} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let hash = |id: &str| {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
        short
    };
    Ok(lines.map(hash).collect())
}

/// Hashes of a file, or of all files of a folder, by name.
fn hash(path: &Path, depth: usize, hashes: &mut Vec<(String, [u8; 32])>) -> Result<(), ChainError> {
    let failed = |error: std::io::Error| ChainError::File { path: path.to_owned(), reason: error.to_string() };
    if path.is_dir() && depth < 8 {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            entries.push(entry.map_err(failed)?.path());
        }
        entries.sort();
        return entries.iter().try_for_each(|entry| hash(entry, depth + 1, hashes));
    }
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    hasher.update_reader(file).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    hashes.push((name, *hasher.finalize().as_bytes()));
    Ok(())
}
