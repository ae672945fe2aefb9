//! The tokenizer: byte-fallback BPE in the form of Hugging Face `tokenizers`.
//!
//! Vocabulary: `<s>` 0, `</s>` 1, `<unk>` 2, `<pad>` 3, the 256 bytes `<0x00>`…`<0xFF>`, the characters seen often enough, then
//! merges; `<unused0>`… where a small corpus gives fewer. A character outside the vocabulary becomes its UTF-8 bytes, so `<unk>`
//! never occurs.
//!
//! **Lossless.** Decoding gives back the very text. A space is `▁` inside; a literal `▁` is first replaced by a noncharacter that no
//! document holds (see [`crate::document::BLOCK_SUBSTITUTE`]), which is not in the alphabet and hence falls back to three bytes, as
//! many as `▁` itself has; decoding puts it back. Special tokens are never matched in a document's text: `<s>` there is three
//! characters, and the way that text is cut into words ([`split`]) keeps letters and digits apart from `<` and `>`, so that no
//! merge can spell a special or byte token.

pub mod encode;
pub mod split;
pub mod train;

use crate::document::BLOCK_SUBSTITUTE;
use essaim_protocol::limits::TOKENIZER_MAX;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// The special tokens, in the order of their ids from 0.
pub const SPECIALS: [&str; 4] = ["<s>", "</s>", "<unk>", "<pad>"];
/// A space inside the tokenizer.
pub const BLOCK: char = '\u{2581}';

/// What is wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not a tokenizer.json.
    #[error("{path}: not a tokenizer.json: {reason}", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A token that documents are delimited with is not in the vocabulary.
    #[error("the tokenizer has no token '{token}', which every document begins or ends with")]
    NoToken {
        /// Which.
        token: &'static str,
    },
    /// A vocabulary too large for the characters and bytes it starts from.
    #[error("a vocabulary of {vocab_size} tokens holds no more than bytes and {alphabet} characters: ask for more")]
    TooSmall {
        /// Tokens asked for.
        vocab_size: u32,
        /// Characters in the alphabet.
        alphabet: u32,
    },
    /// A tokenizer that encodes a text differently each time.
    #[error("the tokenizer has a dropout of {dropout}: the same text would get other tokens each time; set it to null")]
    Random {
        /// Its dropout.
        dropout: String,
    },
    /// The library failed.
    #[error("tokenizer: {0}")]
    Library(String),
    /// The library and this crate's faster way disagree on a text.
    #[error("tokenizer: two ways to encode disagree on the text that begins {text:?}; please report this")]
    Disagreement {
        /// The text's beginning.
        text: String,
    },
}

impl TokenizerError {
    pub(crate) fn library(error: impl std::fmt::Display) -> TokenizerError {
        TokenizerError::Library(error.to_string().replace('\n', " "))
    }
}

/// Everything of a tokenizer.json but the model and the special tokens.
pub(crate) fn template() -> Value {
    let replace = |from: String, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let (block, substitute) = (BLOCK.to_string(), BLOCK_SUBSTITUTE.to_string());
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let begin = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "normalizer": {"type": "Sequence", "normalizers": [
            replace("\r".into(), ""),
            replace("\0".into(), ""),
            replace(substitute.clone(), ""),
            {"type": "NFC"},
            replace(block.clone(), &substitute),
            replace(" ".into(), &block),
        ]},
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": split::pattern()},
            "behavior": "Isolated",
            "invert": false,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin.clone(), sequence("A")],
            "pair": [begin, sequence("A"), sequence("B")],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            replace(block.clone(), " "),
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            replace(substitute, &block),
        ]},
    })
}

/// The bytes of `tokenizer_config.json`, for the programs that want one beside `tokenizer.json`.
pub fn config_json() -> Vec<u8> {
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[0],
        "eos_token": SPECIALS[1],
        "unk_token": SPECIALS[2],
        "pad_token": SPECIALS[3],
        "clean_up_tokenization_spaces": false,
    });
    [config.to_string().into_bytes(), b"\n".to_vec()].concat()
}

/// Reads a tokenizer.json, bounded.
///
/// # Errors
/// [`TokenizerError`] when the file cannot be read, is too long, or is no tokenizer.
pub fn read(path: &Path) -> Result<(Vec<u8>, Tokenizer), TokenizerError> {
    let failed = |error| TokenizerError::Read { path: path.to_owned(), error };
    let malformed = |reason: String| TokenizerError::Malformed { path: path.to_owned(), reason };
    let len_bytes = std::fs::metadata(path).map_err(failed)?.len();
    if len_bytes > TOKENIZER_MAX {
        return Err(malformed(format!("{len_bytes} bytes, at most {TOKENIZER_MAX} are read")));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let tokenizer = parse(&bytes).map_err(|error| malformed(error.to_string()))?;
    Ok((bytes, tokenizer))
}

/// The tokenizer of a tokenizer.json, set to take special tokens in a text as the characters they are spelled with, and to
/// neither cut nor fill up what it encodes.
///
/// # Errors
/// [`TokenizerError::Library`] when it is none.
pub fn parse(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(TokenizerError::library)?;
    tokenizer.set_encode_special_tokens(true);
    tokenizer.with_truncation(None).map_err(TokenizerError::library)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}
