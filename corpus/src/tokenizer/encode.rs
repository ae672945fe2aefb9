//! Encoding documents.
//!
//! BPE works within words, and a corpus has few different words: each is encoded once by the library's model and
//! remembered. That is many times faster than the library's own way through a document, whose result it equals; a build checks that on
//! its held-out documents. A tokenizer that was made elsewhere, with other rules, goes the library's way.

use super::train::inner_form;
use super::{SPECIALS, TokenizerError, split, template};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use tokenizers::models::ModelWrapper;
use tokenizers::{Model, Tokenizer};

/// Words longer than this are not remembered, bytes.
const REMEMBERED_LEN_MAX: usize = 64;
/// Documents that share a memory of words.
const GROUP_DOCUMENTS: usize = 1024;
/// Words remembered at a time.
const REMEMBERED_MAX: usize = 1 << 20;

/// Encodes texts as documents: `<s>`, tokens, `</s>`.
#[derive(Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    begin: u32,
    end: u32,
    by_words: bool,
}

type Memory = HashMap<Box<str>, Box<[u32]>>;

impl Encoder {
    /// An encoder for the bytes of a tokenizer.json.
    ///
    /// # Errors
    /// [`TokenizerError`] when it is none, lacks `<s>` or `</s>`, or encodes at random.
    pub fn new(bytes: &[u8]) -> Result<Encoder, TokenizerError> {
        let tokenizer = super::parse(bytes)?;
        let id = |token| tokenizer.token_to_id(token).ok_or(TokenizerError::NoToken { token });
        let (begin, end) = (id(SPECIALS[0])?, id(SPECIALS[1])?);
        let whole: Value = serde_json::from_slice(bytes).map_err(TokenizerError::library)?;
        let ours = template();
        if let Some(dropout) = whole["model"].get("dropout").filter(|dropout| !dropout.is_null()) {
            return Err(TokenizerError::Random { dropout: dropout.to_string() });
        }
        let is_special = |tokens: &Vec<Value>| tokens.iter().all(|token| token["special"] == true);
        let by_words = ["normalizer", "pre_tokenizer"].iter().all(|key| whole[key] == ours[key])
            && matches!(tokenizer.get_model(), ModelWrapper::BPE(_))
            && whole["added_tokens"].as_array().is_some_and(is_special);
        Ok(Encoder { tokenizer, begin, end, by_words })
    }

    /// Tokens in the vocabulary.
    pub fn vocab_size(&self) -> u32 {
        // The largest id counts, should there be gaps.
        let ids = self.tokenizer.get_vocab(true).into_values().max();
        ids.map_or(0, |id| id + 1)
    }

    /// Whether texts are encoded word by word.
    pub fn by_words(&self) -> bool {
        self.by_words
    }

    /// Encodes documents, on all threads.
    ///
    /// # Errors
    /// [`TokenizerError`] when the library fails.
    pub fn encode_all(&self, texts: &[&str], progress: impl Fn(u64) + Sync) -> Result<Vec<Vec<u32>>, TokenizerError> {
        let encode_group = |group: &[&str]| {
            let mut memory = Memory::new();
            let mut encode = |text: &&str| {
                let tokens = self.encode(text, &mut memory);
                progress(text.len() as u64);
                tokens
            };
            group.iter().map(&mut encode).collect::<Result<Vec<_>, _>>()
        };
        let groups: Vec<Result<Vec<Vec<u32>>, TokenizerError>> =
            texts.par_chunks(GROUP_DOCUMENTS).map(encode_group).collect();
        let mut all = Vec::with_capacity(texts.len());
        for group in groups {
            all.append(&mut group?);
        }
        Ok(all)
    }

    fn encode(&self, text: &str, memory: &mut Memory) -> Result<Vec<u32>, TokenizerError> {
        if !self.by_words {
            return self.encode_by_library(text);
        }
        let mut tokens = vec![self.begin];
        let text = inner_form(text);
        for word in split::split(&text) {
            if let Some(ids) = memory.get(word) {
                tokens.extend_from_slice(ids);
                continue;
            }
            let found = self.tokenizer.get_model().tokenize(word).map_err(TokenizerError::library)?;
            let ids: Box<[u32]> = found.iter().map(|token| token.id).collect();
            tokens.extend_from_slice(&ids);
            if word.len() <= REMEMBERED_LEN_MAX && memory.len() < REMEMBERED_MAX {
                memory.insert(word.into(), ids);
            }
        }
        tokens.push(self.end);
        Ok(tokens)
    }

    /// Encodes a document the library's way.
    ///
    /// # Errors
    /// [`TokenizerError`] when the library fails.
    pub fn encode_by_library(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(TokenizerError::library)?;
        Ok([&[self.begin], encoding.get_ids(), &[self.end]].concat())
    }

    /// The text of a document's tokens.
    ///
    /// # Errors
    /// [`TokenizerError`] when the library fails.
    pub fn decode(&self, document: &[u32]) -> Result<String, TokenizerError> {
        let inner = document.strip_prefix(&[self.begin]).unwrap_or(document);
        let inner = inner.strip_suffix(&[self.end]).unwrap_or(inner);
        self.tokenizer.decode(inner, false).map_err(TokenizerError::library)
    }

    /// Checks that both ways of encoding agree on `text`, whose encoding is `document`, and that decoding gives it back; the latter
    /// is false for tokenizers that lose something.
    ///
    /// # Errors
    /// [`TokenizerError::Disagreement`] when the ways differ.
    pub fn check(&self, text: &str, document: &[u32]) -> Result<bool, TokenizerError> {
        let lossless = self.decode(document)? == text;
        if self.by_words && (!lossless || self.encode_by_library(text)? != document) {
            return Err(TokenizerError::Disagreement { text: text.chars().take(60).collect() });
        }
        Ok(lossless)
    }
}
