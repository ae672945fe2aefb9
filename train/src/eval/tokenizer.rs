//! How many bytes of text each token spells, read from a `tokenizer.json`.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Most tokens that a vocabulary may have: as many as a model.
const VOCAB_MAX: u64 = 1 << 20;
/// What byte-fallback tokenizers write for a space.
const SPACE: char = '▁';

/// Why a tokenizer.json does not tell how many bytes its tokens spell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// Not JSON, or without the fields that every tokenizer has.
    #[error("tokenizer.json: {0}")]
    Json(#[from] serde_json::Error),
    /// Too many tokens, or ids with holes that large.
    #[error("tokenizer.json: token id {id}, at most {VOCAB_MAX} tokens are allowed")]
    Id {
        /// The id.
        id: u64,
    },
    /// A way of writing text as tokens that is not known here.
    #[error("tokenizer.json: decoder '{decoder}' is not known; byte-fallback and byte-level tokenizers are")]
    Decoder {
        /// Its type.
        decoder: String,
    },
}

#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    decoder: Option<Decoder>,
    model: TokenModel,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u64,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct TokenModel {
    vocab: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Decoder {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    decoders: Vec<Decoder>,
    #[serde(default)]
    start: u64,
    prepend_scheme: Option<String>,
}

/// How a tokenizer's pieces become bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Spelling {
    /// Every character is a byte (GPT-2's way).
    byte_level: bool,
    /// `▁` is a space, `<0xNN>` a byte (SentencePiece's way).
    metaspace: bool,
    /// One space before the text is not part of it.
    strips_space: bool,
}

impl Spelling {
    fn read(&mut self, decoder: &Decoder) -> Result<(), TokenizerError> {
        match decoder.kind.as_str() {
            "Sequence" => decoder.decoders.iter().try_for_each(|part| self.read(part))?,
            "ByteLevel" => self.byte_level = true,
            "Replace" | "ByteFallback" => self.metaspace = true,
            "Metaspace" => {
                self.metaspace = true;
                self.strips_space |= decoder.prepend_scheme.as_deref() != Some("never");
            }
            "Strip" => self.strips_space |= decoder.start > 0,
            "Fuse" => {}
            other => return Err(TokenizerError::Decoder { decoder: other.to_owned() }),
        }
        Ok(())
    }

    fn bytes(self, piece: &str) -> u32 {
        let bytes = if self.byte_level {
            piece.chars().count()
        } else if self.metaspace && is_byte_token(piece) {
            1
        } else if self.metaspace {
            piece.len() - piece.matches(SPACE).count() * (SPACE.len_utf8() - 1)
        } else {
            piece.len()
        };
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// `<0xNN>`.
fn is_byte_token(piece: &str) -> bool {
    let digits = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The bytes of text that each token of a vocabulary spells; 0 for special tokens such as `<s>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBytes {
    bytes: Vec<u32>,
    /// By id: whether the piece starts with a space that the decoder drops at the start of a text. Empty if it drops none.
    leading_space: Vec<bool>,
}

impl TokenBytes {
    /// Reads a Hugging Face `tokenizer.json`: byte-fallback (`▁` for a space, `<0xNN>` for a byte) or byte-level.
    ///
    /// # Errors
    /// [`TokenizerError`] when it is not one of these.
    pub fn from_tokenizer_json(json: &[u8]) -> Result<TokenBytes, TokenizerError> {
        let file: TokenizerFile = serde_json::from_slice(json)?;
        let mut spelling = Spelling::default();
        if let Some(decoder) = &file.decoder {
            spelling.read(decoder)?;
        }
        let ids = file.model.vocab.values().chain(file.added_tokens.iter().map(|token| &token.id));
        let largest = ids.copied().max().unwrap_or(0);
        if largest >= VOCAB_MAX {
            return Err(TokenizerError::Id { id: largest });
        }
        let (mut bytes, mut leading_space) = (vec![0u32; largest as usize + 1], vec![false; largest as usize + 1]);
        for (piece, &id) in &file.model.vocab {
            bytes[id as usize] = spelling.bytes(piece);
            leading_space[id as usize] = piece.starts_with(SPACE);
        }
        for token in &file.added_tokens {
            let len_bytes = u32::try_from(token.content.len()).unwrap_or(u32::MAX);
            bytes[token.id as usize] = if token.special { 0 } else { len_bytes };
            leading_space[token.id as usize] = false;
        }
        if !spelling.strips_space {
            leading_space.clear();
        }
        Ok(TokenBytes { bytes, leading_space })
    }

    /// Tokens that are known.
    pub fn vocab_size(&self) -> usize {
        self.bytes.len()
    }

    /// UTF-8 bytes of the text that a document's tokens spell.
    ///
    /// # Panics
    /// When a token is not below [`TokenBytes::vocab_size`].
    pub fn text_bytes(&self, document: &[u32]) -> u64 {
        let total: u64 = document.iter().map(|&token| u64::from(self.bytes[token as usize])).sum();
        let first = document.iter().find(|&&token| self.bytes[token as usize] > 0);
        let dropped = first.is_some_and(|&token| self.leading_space.get(token as usize) == Some(&true));
        total - u64::from(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decoder: &str) -> Result<TokenBytes, TokenizerError> {
        let json = format!(
            r#"{{"added_tokens": [{{"id": 0, "content": "<s>", "special": true}}, {{"id": 1, "content": "é!", "special": false}}],
                "decoder": {decoder},
                "model": {{"type": "BPE", "merges": [],
                           "vocab": {{"<s>": 0, "<0xE2>": 2, "▁le": 3, "né": 4, "▁▁": 5, "<0xZZ>": 6, "Ġa": 7}}}}}}"#
        );
        TokenBytes::from_tokenizer_json(json.as_bytes())
    }

    #[test]
    fn byte_fallback_pieces_count_spaces_bytes_and_letters() {
        let replace = r#"{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}"#;
        let plain = read(&format!(
            r#"{{"type": "Sequence", "decoders": [{replace}, {{"type": "ByteFallback"}}, {{"type": "Fuse"}}]}}"#
        ));
        let plain = plain.unwrap();
        assert_eq!(plain.bytes, [0, 3, 1, 3, 3, 2, 6, 3]);
        assert_eq!(plain.text_bytes(&[0, 3, 4, 2, 0]), 7);
        assert_eq!(plain.vocab_size(), 8);
        let strip = read(&format!(
            r#"{{"type": "Sequence", "decoders": [{replace}, {{"type": "Strip", "content": " ", "start": 1, "stop": 0}}]}}"#
        ));
        let strip = strip.unwrap();
        // Only the space before the whole text is dropped.
        assert_eq!(strip.text_bytes(&[0, 3, 3, 0]), 5);
        assert_eq!(strip.text_bytes(&[0, 4, 3]), 6);
        assert_eq!(strip.text_bytes(&[0]), 0);
    }

    #[test]
    fn byte_level_pieces_count_characters() {
        assert_eq!(read(r#"{"type": "ByteLevel"}"#).unwrap().text_bytes(&[0, 7, 7]), 4);
    }

    #[test]
    fn other_tokenizers_are_refused() {
        let error = read(r#"{"type": "WordPiece"}"#).unwrap_err();
        assert!(matches!(error, TokenizerError::Decoder { ref decoder } if decoder == "WordPiece"), "{error}");
        let json = br#"{"model": {"vocab": {"a": 1048576}}}"#;
        assert!(matches!(TokenBytes::from_tokenizer_json(json), Err(TokenizerError::Id { id: 1_048_576 })));
        assert!(matches!(TokenBytes::from_tokenizer_json(b"{}"), Err(TokenizerError::Json(_))));
        assert!(matches!(TokenBytes::from_tokenizer_json(b"\xff"), Err(TokenizerError::Json(_))));
    }
}
