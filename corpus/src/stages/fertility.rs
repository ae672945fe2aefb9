//! How finely tokenizers cut text: tokens a word, of ours and of published ones.

use crate::build::BuildError;
use crate::config::Config;
use crate::facts::Fertility;
use crate::tokenizer::{self, TokenizerError};
use rayon::prelude::*;
use tokenizers::Tokenizer;

/// The tokenizers to compare with, by name.
///
/// # Errors
/// [`BuildError::Tokenizer`] when a file is none.
pub fn others(config: &Config) -> Result<Vec<(String, Tokenizer)>, BuildError> {
    let read = |(name, path): (&String, &std::path::PathBuf)| Ok((name.clone(), tokenizer::read(path)?.1));
    config.tokenizer.compare.iter().map(read).collect()
}

/// Counts words, bytes and tokens. A word is a run of characters that are not white space; `<s>` and `</s>` do not count.
///
/// # Errors
/// [`BuildError::Tokenizer`] when another tokenizer fails.
pub fn measure(texts: &[&str], tokens: &[Vec<u32>], others: &[(String, Tokenizer)]) -> Result<Fertility, BuildError> {
    let mut fertility = Fertility {
        words: texts.par_iter().map(|text| text.split_whitespace().count() as u64).sum(),
        bytes: texts.iter().map(|text| text.len() as u64).sum(),
        tokens: tokens.iter().map(|tokens| tokens.len().saturating_sub(2) as u64).sum(),
        ..Fertility::default()
    };
    for (name, other) in others {
        let count = |text: &&str| -> Result<u64, TokenizerError> {
            Ok(other.encode_fast(*text, false).map_err(TokenizerError::library)?.len() as u64)
        };
        let counts: Vec<u64> = texts.par_iter().map(count).collect::<Result<_, _>>()?;
        fertility.others.insert(name.clone(), counts.into_iter().sum());
    }
    Ok(fertility)
}
