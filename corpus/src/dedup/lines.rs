//! Lines that recur in many documents, as menus, notices and footers do.

use super::lists::{Hashes, put_list, read_list};
use super::sketch::{line_hash, line_seed};
use super::sketches::{self, Section};
use super::words::hashes;
use super::{DedupConfig, Fate, Numbering, fate_name, lines_name, sketch_name};
use crate::bundle::{self, BundleInfo};
use crate::store::{Store, StoreError};

/// Bytes held for each line of a range and each bundle that it occurs in.
pub(super) const LINE_BYTES: u64 = 16;

/// Counts in how many kept documents each long line of range `r` of `ranges` occurs, and writes the hashes of those in more than
/// [`super::LinesConfig::documents_max`] to [`lines_name`]`(r)`; after [`super::cluster`]. Returns how many there are. Any task may do
/// any range.
///
/// Two lines are one that have the same words after the normalisation that n-grams have: `Page 12` is `page 3`.
///
/// # Errors
/// [`StoreError`], also where an object is damaged.
pub fn lines(
    store: &Store,
    bundles: &[BundleInfo],
    config: &DedupConfig,
    r: u32,
    ranges: u32,
) -> Result<u64, StoreError> {
    let range = sketches::prefixes(r, ranges);
    let numbering = Numbering::new(bundles);
    let mut found = Vec::new();
    for (bundle, _) in numbering.bundles() {
        found.push((bundle, sketches::index(store, &sketch_name(bundle.id), Section::Lines, &range)?));
    }
    // Made to measure: growing would hold it twice.
    let lines = found.iter().map(|(_, index)| sketches::announced(index).0).sum();
    let mut counts: Vec<(u64, u32)> = Vec::with_capacity(lines);
    for (bundle, index) in found {
        let fates: Vec<Fate> = bundle::get(store, &fate_name(bundle.id))?;
        if fates.len() != bundle.documents as usize {
            let found = format!("fates of {} documents, its bundle has {}", fates.len(), bundle.documents);
            return Err(store.damaged(&fate_name(bundle.id), found));
        }
        let slice = sketches::read(store, &sketch_name(bundle.id), &index, &range, bundle.documents)?;
        for run in slice.near.chunk_by(|a, b| a.0 == b.0) {
            let kept = run.iter().filter(|&&(_, document)| fates[usize::from(document)].is_kept()).count();
            if kept > 0 {
                counts.push((run[0].0, kept as u32));
            }
        }
    }
    counts.sort_unstable();
    let many = |run: &&[(u64, u32)]| {
        run.iter().map(|&(_, count)| u64::from(count)).sum::<u64>() > u64::from(config.lines.documents_max)
    };
    let frequent: Vec<u64> = counts.chunk_by(|a, b| a.0 == b.0).filter(many).map(|run| run[0].0).collect();
    put_list(store, &lines_name(r), frequent.iter().copied())?;
    Ok(frequent.len() as u64)
}

/// A text without its frequent lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// What remains; empty where nothing does.
    pub text: String,
    /// Lines that are gone.
    pub lines: u64,
    /// Bytes that are gone, line ends included.
    pub bytes: u64,
}

/// The lines to be removed, all in memory: 10 bytes each.
#[derive(Debug, Clone, Default)]
pub struct FrequentLines {
    hashes: Hashes,
    chars_min: u32,
}

impl FrequentLines {
    /// Loads what [`lines`] wrote for all ranges.
    ///
    /// # Errors
    /// [`StoreError`], also for more than 2^28 lines: a larger `documents_max` leaves fewer.
    pub fn load(store: &Store, config: &DedupConfig, ranges: u32) -> Result<FrequentLines, StoreError> {
        let mut all = Vec::new();
        for r in 0..ranges {
            read_list(store, &lines_name(r), |hash| {
                all.push(hash);
                match all.len() > Hashes::MAX {
                    true => Err(format!("more than {} frequent lines; raise dedup.lines.documents_max", Hashes::MAX)),
                    false => Ok(()),
                }
            })?;
        }
        Ok(FrequentLines { hashes: Hashes::new(all), chars_min: config.lines.chars_min })
    }

    /// How many lines they are.
    pub fn len(&self) -> usize {
        self.hashes.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes them from a text; `None` where it has none of them. All occurrences go. Paragraphs stay apart as they were, and where
    /// a whole paragraph goes, so does one of the two gaps around it; a gap at either end that was not there before goes too.
    pub fn remove(&self, language: &str, text: &str) -> Option<Removed> {
        if self.is_empty() {
            return None;
        }
        let (seed, mut words) = (line_seed(language), Vec::new());
        let mut frequent = |line: &str| {
            // Too short to be looked up: not worth its words.
            if line.len() < self.chars_min as usize {
                return false;
            }
            words.clear();
            hashes(line, &mut words);
            line_hash(line, seed, self.chars_min, &words).is_some_and(|hash| self.hashes.contains(hash))
        };
        let (mut kept, mut gone, mut last_gone) = (Vec::new(), 0, false);
        for line in text.split('\n') {
            let blank = line.trim().is_empty();
            let gap = kept.last().is_none_or(|last: &&str| last.trim().is_empty());
            if frequent(line) {
                (gone, last_gone) = (gone + 1, true);
            } else if !(blank && last_gone && gap) {
                kept.push(line);
                last_gone = false;
            }
        }
        if gone == 0 {
            return None;
        }
        while last_gone && kept.last().is_some_and(|last| last.trim().is_empty()) {
            kept.pop();
        }
        let text_left = kept.join("\n");
        Some(Removed { bytes: (text.len() - text_left.len()) as u64, text: text_left, lines: gone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequent(lines: &[&str]) -> FrequentLines {
        let hash = |line: &&str| {
            let mut words = Vec::new();
            hashes(line, &mut words);
            line_hash(line, line_seed("fr"), 8, &words).unwrap()
        };
        FrequentLines { hashes: Hashes::new(lines.iter().map(hash).collect()), chars_min: 8 }
    }

    #[test]
    fn lines_go_and_paragraphs_stay() {
        let menu = frequent(&["Accueil | Contact | Plan", "Tous droits réservés 2024"]);
        let remove = |text: &str| menu.remove("fr", text).map(|removed| (removed.text, removed.lines));
        let gives =
            |text: &str, left: &str, lines: u64| assert_eq!(remove(text), Some((left.to_owned(), lines)), "{text:?}");
        assert_eq!(remove("Rien ici.\n\nNi là."), None);
        gives("accueil contact plan\nUn.\nDeux.", "Un.\nDeux.", 1);
        gives("Un.\n  Accueil | Contact | Plan\nDeux.", "Un.\nDeux.", 1);
        gives("Un.\n\nAccueil | Contact | Plan\n\nDeux.", "Un.\n\nDeux.", 1);
        gives("Un.\n\nAccueil | Contact | Plan\nDeux.", "Un.\n\nDeux.", 1);
        gives("Un.\nAccueil | Contact | Plan\n\nDeux.", "Un.\n\nDeux.", 1);
        gives("Un.\n\nTous droits réservés 1999", "Un.", 1);
        gives("Un.\n\nTous droits réservés 1999\n", "Un.", 1);
        gives("Accueil | Contact | Plan\n\nUn.\n\n\nDeux.\n", "Un.\n\n\nDeux.\n", 1);
        gives("Accueil | Contact | Plan\nTous droits réservés 1", "", 2);
        assert!(menu.remove("de", "Accueil | Contact | Plan").is_none());
        let removed = menu.remove("fr", "Un.\nAccueil | Contact | Plan").unwrap();
        assert_eq!((removed.bytes, removed.text.len()), (25, 3));
        assert!(FrequentLines::default().remove("fr", "Accueil | Contact | Plan").is_none());
    }
}
