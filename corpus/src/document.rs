//! A document, its one form, and the hashes that its fate depends on.

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Stands for a literal `▁` (U+2581) inside the tokenizer, where `▁` itself stands for a space. A noncharacter that Unicode keeps for
/// such inner uses, of the same length in UTF-8; documents lose it.
pub const BLOCK_SUBSTITUTE: char = '\u{FDD0}';

/// What is known of a document beside its text, in the columns of the Lucie-Training-Dataset. `None`: the source does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Where it was.
    pub url: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Who wrote it; JSON where there are several.
    pub author: Option<String>,
    /// `YYYY`, `YYYY-MM-DD` or a timestamp (RFC 3339).
    pub date: Option<String>,
    /// A JSON object in a string.
    pub quality_signals: Option<String>,
    /// A JSON object in a string.
    pub extra: Option<String>,
    /// What its server said of text and data mining.
    pub tdm: Option<Tdm>,
}

/// TDM reservation headers of an HTTP response (W3C TDM Reservation Protocol, §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tdm {
    /// `tdm-reservation: 1`: rights are reserved.
    pub reserved: bool,
    /// `tdm-policy`: the address of the terms.
    pub policy: Option<String>,
}

/// A document as it goes through the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its name within its source. Which documents are held out follows from it.
    pub id: String,
    /// Where it comes from.
    pub source: String,
    /// ISO 639-1, or another short name: `fr`, `code:python`.
    pub language: String,
    /// An SPDX expression, or `NOASSERTION`.
    pub license: String,
    /// The normalised text.
    pub text: String,
    /// What else is known.
    pub meta: Meta,
}

/// Brings a text to its one form: without `\r`, `\0` and [`BLOCK_SUBSTITUTE`], then NFC.
pub fn normalise(text: &str) -> String {
    let dropped = |c: char| matches!(c, '\r' | '\0' | BLOCK_SUBSTITUTE);
    let kept: String = match text.contains(dropped) {
        true => text.chars().filter(|&c| !dropped(c)).collect(),
        false => text.to_owned(),
    };
    match is_nfc_quick(kept.chars()) {
        IsNormalized::Yes => kept,
        _ => kept.nfc().collect(),
    }
}

impl Document {
    /// BLAKE3 of the id: the documents of a language with the smallest are held out.
    pub fn id_hash(&self) -> [u8; 32] {
        *blake3::hash(self.id.as_bytes()).as_bytes()
    }

    /// BLAKE3 of the text: two documents with the same are duplicates.
    pub fn text_hash(&self) -> [u8; 32] {
        *blake3::hash(self.text.as_bytes()).as_bytes()
    }

    /// A hash of everything that names the document, each part with its length. Its place in a shuffled order follows from it.
    pub fn key(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.id, &self.source, &self.language] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.update(&self.text_hash());
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_one_form() {
        assert_eq!(normalise("d\u{e9}j\u{e0} vu"), "déjà vu");
        assert_eq!(normalise("de\u{301}ja\u{300} vu"), "déjà vu");
        assert_eq!(normalise("a\r\nb\0c\u{FDD0}d"), "a\nbcd");
        // What is dropped does not keep a letter from its accent.
        assert_eq!(normalise("e\0\u{301}"), "é");
        // Spaces, tabs, ligatures and no-break spaces stay: NFC, not NFKC.
        assert_eq!(normalise(" \tﬁn\u{a0}! ▁ "), " \tﬁn\u{a0}! ▁ ");
    }

    #[test]
    fn a_key_tells_parts_apart() {
        let document = |id: &str, source: &str| Document {
            id: id.into(),
            source: source.into(),
            language: "fr".into(),
            license: "MIT".into(),
            text: "x".into(),
            meta: Meta::default(),
        };
        assert_ne!(document("ab", "c").key(), document("a", "bc").key());
        assert_eq!(document("ab", "c").key(), document("ab", "c").key());
        assert_eq!(document("ab", "c").id_hash(), document("ab", "d").id_hash());
    }
}
