//! What was read, refused and kept, counted by source, language and rule.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Documents and the UTF-8 bytes of their text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
}

impl Count {
    /// Adds another count.
    pub fn add(&mut self, other: Count) {
        self.documents += other.documents;
        self.bytes += other.bytes;
    }
}

/// A line of a tally.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TallyKey {
    /// Where documents come from.
    pub source: String,
    /// Their language: the declared one for refusals before the language is identified.
    pub language: String,
    /// `read`, `kept`, or the rule that refused them.
    pub rule: String,
}

/// The rule under which documents are counted when they are read.
pub const READ: &str = "read";
/// The rule under which documents are counted that came through.
pub const KEPT: &str = "kept";

/// Counts by source, language and rule. Sums do not depend on the order of additions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(TallyKey, Count)>", into = "Vec<(TallyKey, Count)>")]
pub struct Tally {
    rows: BTreeMap<TallyKey, Count>,
}

impl From<Vec<(TallyKey, Count)>> for Tally {
    fn from(rows: Vec<(TallyKey, Count)>) -> Tally {
        let mut tally = Tally::default();
        rows.into_iter().for_each(|(key, count)| tally.rows.entry(key).or_default().add(count));
        tally
    }
}

impl From<Tally> for Vec<(TallyKey, Count)> {
    fn from(tally: Tally) -> Self {
        tally.rows.into_iter().collect()
    }
}

impl Tally {
    /// Counts one document.
    pub fn document(&mut self, source: &str, language: &str, rule: &str, bytes: u64) {
        self.add(source, language, rule, 1, bytes);
    }

    /// Counts several.
    pub fn add(&mut self, source: &str, language: &str, rule: &str, documents: u64, bytes: u64) {
        let key = TallyKey { source: source.to_owned(), language: language.to_owned(), rule: rule.to_owned() };
        self.rows.entry(key).or_default().add(Count { documents, bytes });
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Tally) {
        for (key, count) in &other.rows {
            self.rows.entry(key.clone()).or_default().add(*count);
        }
    }

    /// All lines, by source, language, rule.
    pub fn rows(&self) -> impl Iterator<Item = (&TallyKey, Count)> {
        self.rows.iter().map(|(key, count)| (key, *count))
    }

    /// The sum of the lines that a test picks.
    pub fn sum(&self, pick: impl Fn(&TallyKey) -> bool) -> Count {
        let mut sum = Count::default();
        self.rows.iter().filter(|(key, _)| pick(key)).for_each(|(_, count)| sum.add(*count));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_order() {
        let mut a = Tally::default();
        a.document("s", "fr", READ, 10);
        a.document("s", "fr", "language/other", 10);
        let mut b = Tally::default();
        b.document("s", "fr", READ, 5);
        b.document("t", "de", READ, 7);
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.merge(&b);
        ba.merge(&a);
        assert_eq!(ab, ba);
        assert_eq!(ab.sum(|key| key.rule == READ), Count { documents: 3, bytes: 22 });
        let json = serde_json::to_string(&ab).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&json).unwrap(), ab);
    }
}
