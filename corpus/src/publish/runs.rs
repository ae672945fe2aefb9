//! Which runs used a data set's shards.

use crate::dataset::{Dataset, OpenError};
use essaim_protocol::layout;
use essaim_protocol::limits;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::signing::Signed;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A run that has some of the shards in its data set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Run {
    /// The folder that was searched: the run's public one.
    pub folder: String,
    /// The run's name, by its manifest; that of its data set where there is no manifest of a run.
    pub name: String,
    /// Hash of its data set.
    pub dataset: String,
    /// How many of the shards are in it.
    pub shards: u64,
}

/// Searches folders for runs that list any of the shards. A folder is a run's public one, or holds such in its folders or in their
/// `public`.
///
/// # Errors
/// [`OpenError`] for a folder that cannot be read, and for a damaged manifest of a data set.
pub fn runs(folders: &[PathBuf], shards: &BTreeSet<&str>) -> Result<Vec<Run>, OpenError> {
    let mut found = BTreeSet::new();
    for folder in folders {
        for public in publics(folder)? {
            let dataset = Dataset::open(&public.join(layout::DATASET))?;
            let count = dataset.manifest.all_shards().filter(|info| shards.contains(info.hash.to_string().as_str()));
            let count = count.count() as u64;
            if count > 0 {
                let name = name(&public).unwrap_or_else(|| dataset.manifest.name.clone());
                let folder = public.display().to_string();
                found.insert(Run { folder, name, dataset: dataset.hash.to_string(), shards: count });
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn publics(folder: &Path) -> Result<BTreeSet<PathBuf>, OpenError> {
    let failed = |error| OpenError::Io { path: folder.to_owned(), error };
    let mut candidates = vec![folder.to_owned(), folder.join("public")];
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        candidates.extend([path.join("public"), path]);
    }
    Ok(candidates.into_iter().filter(|path| path.join(layout::DATASET).is_file()).collect())
}

/// The name in a run's manifest. Who signed it is not checked: the name is for people.
fn name(public: &Path) -> Option<String> {
    let path = public.join(layout::MANIFEST);
    let bytes = crate::dataset::read_file(&path, limits::STATEMENT_MAX.max(2 * limits::MANIFEST_MAX) as u64).ok()?;
    Some(Signed::<Manifest>::from_bytes(&bytes).ok()?.value.name)
}
