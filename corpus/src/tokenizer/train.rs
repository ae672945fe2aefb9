//! Learning a tokenizer from documents: the same documents give the same bytes.
//!
//! Merges come from the trainer of `tokenizers`. It counts in hash maps with random seeds, but takes the most frequent pair
//! first and, of equals, the one with the smaller ids, so its merges follow from the words' counts alone, as long as the
//! ids of the first characters do. The one choice that it leaves to a map's order is which characters to keep when the
//! alphabet is cut; hence the alphabet is cut here, and words that hold other characters are cut at them.

use super::{BLOCK, SPECIALS, TokenizerError, split, template};
use crate::document::BLOCK_SUBSTITUTE;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Tokenizer};

/// Characters of words that merges are learned from, at most: longer ones are rules, URLs and the like.
const WORD_CHARS_MAX: usize = 24;
/// A character of the alphabet occurs at least once in so many.
const ALPHABET_RARITY: u64 = 250_000;
/// Pairs of tokens that are merged occur at least so often.
const MERGE_COUNT_MIN: u64 = 2;

/// The text as the model sees it: spaces as `▁`, a literal `▁` out of the way.
pub fn inner_form(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for c in text.chars() {
        out.push(match c {
            ' ' => BLOCK,
            BLOCK => BLOCK_SUBSTITUTE,
            c => c,
        });
    }
    out
}

/// How often each word occurs.
fn count_words(texts: &[String]) -> HashMap<String, u64> {
    let count = |texts: &[String]| {
        let mut counts = HashMap::<String, u64>::new();
        for text in texts {
            let text = inner_form(text);
            for word in split::split(&text) {
                match counts.get_mut(word) {
                    Some(count) => *count += 1,
                    None => drop(counts.insert(word.to_owned(), 1)),
                }
            }
        }
        counts
    };
    let merge = |mut a: HashMap<String, u64>, mut b: HashMap<String, u64>| {
        if a.len() < b.len() {
            std::mem::swap(&mut a, &mut b);
        }
        for (word, n) in b {
            *a.entry(word).or_default() += n;
        }
        a
    };
    texts.par_chunks(512).map(count).reduce(HashMap::new, merge)
}

/// The characters that are tokens: frequent enough, the most frequent first where there are too many.
fn alphabet(words: &HashMap<String, u64>, chars_max: usize) -> HashSet<char> {
    let mut counts = BTreeMap::<char, u64>::new();
    for (word, n) in words {
        word.chars().for_each(|c| *counts.entry(c).or_default() += n);
    }
    counts.remove(&BLOCK_SUBSTITUTE);
    let count_min = (counts.values().sum::<u64>() / ALPHABET_RARITY).max(2);
    let mut frequent: Vec<(u64, char)> =
        counts.into_iter().map(|(c, n)| (n, c)).filter(|(n, _)| *n >= count_min).collect();
    frequent.sort_unstable_by_key(|&(n, c)| (std::cmp::Reverse(n), c));
    frequent.into_iter().take(chars_max).map(|(_, c)| c).collect()
}

/// Words cut at characters outside the alphabet; without the long ones.
fn learnable(words: HashMap<String, u64>, alphabet: &HashSet<char>) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for (word, n) in words {
        for piece in word.split(|c| !alphabet.contains(&c)) {
            if !piece.is_empty() && piece.chars().count() <= WORD_CHARS_MAX {
                *out.entry(piece.to_owned()).or_default() += n;
            }
        }
    }
    out
}

/// Learns a vocabulary of exactly `vocab_size` tokens; gives the bytes of a tokenizer.json. The texts go as soon as their words are counted.
///
/// # Errors
/// [`TokenizerError`] when the vocabulary is too small for the alphabet, or the library fails.
pub fn train(texts: Vec<String>, vocab_size: u32) -> Result<Vec<u8>, TokenizerError> {
    let words = count_words(&texts);
    drop(texts);
    let first_merge = SPECIALS.len() as u32 + 256;
    let alphabet = alphabet(&words, (vocab_size.saturating_sub(first_merge) / 2).min(4096) as usize);
    if first_merge + alphabet.len() as u32 >= vocab_size {
        return Err(TokenizerError::TooSmall { vocab_size, alphabet: alphabet.len() as u32 });
    }
    let counts = learnable(words, &alphabet);
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let first_tokens = SPECIALS.iter().map(|token| (*token).to_owned()).chain(bytes);
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size as usize)
        .min_frequency(MERGE_COUNT_MIN)
        .special_tokens(first_tokens.map(|token| AddedToken::from(token, true)).collect())
        .build();
    let mut model = BPE::default();
    // The library's map and string types are taken from its signature.
    let counts = counts.into_iter().map(|(word, n)| (word.into(), n)).collect();
    trainer.do_train(&counts, &mut model).map_err(TokenizerError::library)?;
    assemble(serde_json::to_value(&model).map_err(TokenizerError::library)?, vocab_size)
}

/// A tokenizer.json around a model, whose vocabulary is filled up with unused tokens.
fn assemble(mut model: Value, vocab_size: u32) -> Result<Vec<u8>, TokenizerError> {
    model["unk_token"] = json!(SPECIALS[2]);
    model["byte_fallback"] = json!(true);
    let vocab = model["vocab"].as_object_mut().ok_or_else(|| TokenizerError::library("a model without vocabulary"))?;
    for (n, id) in (vocab.len() as u32..vocab_size).enumerate() {
        vocab.insert(format!("<unused{n}>"), json!(id));
    }
    let mut whole = template();
    whole["model"] = model;
    let special = |(id, content): (usize, &&str)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    whole["added_tokens"] = SPECIALS.iter().enumerate().map(special).collect();
    // The library writes the form that it always writes: vocabulary by id, merges by rank.
    let tokenizer = Tokenizer::from_bytes(whole.to_string()).map_err(TokenizerError::library)?;
    Ok(tokenizer.to_string(true).map_err(TokenizerError::library)?.into_bytes())
}
