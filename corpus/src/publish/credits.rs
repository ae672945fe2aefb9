//! Who is to be credited: authors by source and licence, bounded, whatever the order of documents.

use crate::document::Document;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Authors kept for a source and licence: the first in the order of their bytes.
pub const AUTHORS_MAX: usize = 200;
/// A name at most, characters.
const NAME_MAX: usize = 200;

/// Authors by source and licence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Credit>", into = "Vec<Credit>")]
pub struct Credits {
    rows: BTreeMap<(String, String), Credit>,
}

/// Who is to be credited for the documents of a source under one licence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// Source.
    pub source: String,
    /// SPDX expression.
    pub license: String,
    /// Documents.
    pub documents: u64,
    /// Documents that name no author.
    pub anonymous: u64,
    /// Authors, at most [`AUTHORS_MAX`].
    pub authors: BTreeSet<String>,
    /// Whether there are more.
    pub more: bool,
}

impl From<Vec<Credit>> for Credits {
    fn from(rows: Vec<Credit>) -> Credits {
        let mut credits = Credits::default();
        rows.into_iter().for_each(|row| credits.add(row));
        credits
    }
}

impl From<Credits> for Vec<Credit> {
    fn from(credits: Credits) -> Self {
        credits.rows.into_values().collect()
    }
}

impl Credits {
    /// Counts a document.
    pub fn document(&mut self, document: &Document) {
        let authors = authors(document.meta.author.as_deref().unwrap_or_default());
        self.add(Credit {
            source: document.source.clone(),
            license: document.license.clone(),
            documents: 1,
            anonymous: u64::from(authors.is_empty()),
            authors,
            more: false,
        });
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Credits) {
        other.rows.values().for_each(|row| self.add(row.clone()));
    }

    /// All, by source and licence.
    pub fn rows(&self) -> impl Iterator<Item = &Credit> {
        self.rows.values()
    }

    fn add(&mut self, row: Credit) {
        let key = (row.source.clone(), row.license.clone());
        let empty = || Credit { source: row.source.clone(), license: row.license.clone(), ..Credit::default() };
        let mine = self.rows.entry(key).or_insert_with(empty);
        mine.documents += row.documents;
        mine.anonymous += row.anonymous;
        mine.authors.extend(row.authors);
        mine.more |= row.more || mine.authors.len() > AUTHORS_MAX;
        while mine.authors.len() > AUTHORS_MAX {
            mine.authors.pop_last();
        }
    }
}

/// The names in an author column: plain, a JSON list, or JSON objects with `name` (or `author`).
fn authors(column: &str) -> BTreeSet<String> {
    fn names(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::String(name) => drop(into.insert(name.clone())),
            Value::Array(list) => list.iter().take(AUTHORS_MAX).for_each(|value| names(value, into)),
            Value::Object(fields) => {
                let name = ["name", "author", "fullName"].iter().find_map(|key| fields.get(*key));
                name.iter().for_each(|value| names(value, into));
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    match column.trim_start().starts_with(['[', '{']).then(|| serde_json::from_str::<Value>(column).ok()).flatten() {
        Some(value) => names(&value, &mut found),
        None => drop(found.insert(column.to_owned())),
    }
    let clean = |name: String| name.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(NAME_MAX).collect();
    found.into_iter().map(clean).filter(|name: &String| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(source: &str, author: &str) -> Document {
        let meta = crate::document::Meta { author: Some(author.into()), ..Default::default() };
        let [id, language, license, text] = ["i", "fr", "MIT", "t"].map(String::from);
        Document { id, source: source.into(), language, license, text, meta }
    }

    #[test]
    fn authors_are_found_in_every_form_and_bounded_in_any_order() {
        assert_eq!(authors(" Jules\nVerne "), ["Jules Verne".to_owned()].into());
        let several = r#"[{"name": "A", "born": 1}, "B", {"author": ["C"]}]"#;
        assert_eq!(authors(several), ["A", "B", "C"].map(String::from).into());
        assert!(authors("").is_empty() && authors("[]").is_empty() && authors(" \n").is_empty());

        let documents: Vec<Document> = (0..500).map(|i| document("s", &format!("author {i:03}"))).collect();
        let (mut forward, mut backward) = (Credits::default(), Credits::default());
        documents.iter().for_each(|document| forward.document(document));
        for chunk in documents.rchunks(7) {
            let mut part = Credits::default();
            chunk.iter().for_each(|document| part.document(document));
            backward.merge(&part);
        }
        assert_eq!(forward, backward);
        let row = forward.rows().next().unwrap();
        assert_eq!((row.documents, row.authors.len(), row.more), (500, AUTHORS_MAX, true));
        let json = serde_json::to_string(&forward).unwrap();
        assert_eq!(serde_json::from_str::<Credits>(&json).unwrap(), forward);
    }
}
