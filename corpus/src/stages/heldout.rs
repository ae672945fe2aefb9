//! Held-out documents as texts: looked for once, and then kept by language, of which one is held at a time.

use super::clean;
use super::runner::Runner;
use super::select::Cuts;
use crate::build::BuildError;
use crate::bundle::{self, BundleInfo, Key, Keyed};
use std::collections::BTreeMap;

/// Where they lie.
const STAGE: &str = "heldout";
/// Text that is gathered before it is written, bytes: of a language, and of all.
const PENDING: usize = 4 << 20;
const PENDING_ALL: usize = 16 << 20;

/// Documents of a language that wait to be written.
#[derive(Default)]
struct Pending {
    documents: Vec<Keyed>,
    text: usize,
    lists: u32,
}

/// Collects the held-out documents of all bundles; `each` sees every one. Gives for each language how many lists it has.
///
/// # Errors
/// [`BuildError`], also what `each` says.
pub(super) fn collect(
    runner: &Runner<'_>,
    bundles: &[BundleInfo],
    cuts: &Cuts,
    mut each: impl FnMut(&Keyed) -> Result<(), BuildError>,
) -> Result<BTreeMap<String, u32>, BuildError> {
    let Some(head) = cuts.cuts.values().map(Key::head).max() else { return Ok(BTreeMap::new()) };
    let mut languages: Vec<(&String, Pending)> = cuts.cuts.keys().map(|name| (name, Pending::default())).collect();
    let mut held = 0;
    for bundle in bundles {
        for keyed in bundle::read(&runner.store, &bundle::docs_name(clean::STAGE, bundle.id), 0..=head)? {
            let Ok(number) = languages.binary_search_by(|(name, _)| (*name).cmp(&keyed.document.language)) else {
                continue;
            };
            if !cuts.heldout(&keyed.document.language, &keyed.key) {
                continue;
            }
            each(&keyed)?;
            let (text, pending) = (keyed.document.text.len(), &mut languages[number].1);
            (pending.text, held) = (pending.text + text, held + text);
            pending.documents.push(keyed);
            if pending.text >= PENDING {
                held -= pending.text;
                write(runner, number, pending)?;
            }
        }
        if held >= PENDING_ALL {
            held = 0;
            for (number, (_, pending)) in languages.iter_mut().enumerate() {
                write(runner, number, pending)?;
            }
        }
    }
    for (number, (_, pending)) in languages.iter_mut().enumerate() {
        write(runner, number, pending)?;
    }
    Ok(languages.into_iter().map(|(name, pending)| (name.clone(), pending.lists)).collect())
}

fn list_name(language: usize, list: u32) -> String {
    format!("{STAGE}/{language:05}-{list:05}")
}

fn write(runner: &Runner<'_>, language: usize, pending: &mut Pending) -> Result<(), BuildError> {
    let documents = std::mem::take(&mut pending.documents);
    if !documents.is_empty() {
        bundle::put(&runner.store, &list_name(language, pending.lists), &documents)?;
        pending.lists += 1;
    }
    pending.text = 0;
    Ok(())
}

/// The held-out documents, language after language, each by key.
pub(super) fn languages<'a>(
    runner: &'a Runner<'_>,
    cuts: &'a Cuts,
) -> impl Iterator<Item = Result<(&'a str, Vec<Keyed>), BuildError>> + 'a {
    cuts.lists.iter().enumerate().map(|(number, (language, &lists))| {
        let mut documents = Vec::new();
        for list in 0..lists {
            let some: Vec<Keyed> = bundle::get(&runner.store, &list_name(number, list))?;
            documents.extend(some);
        }
        documents.sort_by_key(|keyed| keyed.key);
        Ok((language.as_str(), documents))
    })
}
