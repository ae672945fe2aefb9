//! Held-out loss: what a record carries, and what bits per byte are calculated from.
//!
//! **Definition.** Documents are taken whole, in the shard's order, as long as their predicted tokens together stay within a limit; the
//! first is always taken. A document of `n` tokens has `n - 1` predicted ones: all but the first, which corpora make `<s>`. Each document is
//! evaluated by itself, in windows of up to `context` predicted tokens: the first window's input starts with the document's first
//! token, each later one's with the last target of the window before; positions start at 0 in every window. The float32 losses are
//! added up in binary64, in order. Nothing depends on threads or path.

mod tokenizer;

pub use tokenizer::{TokenBytes, TokenizerError};

use crate::model::Evaluator;
use crate::shard::{ShardError, ShardReader};
use essaim_kernels::Exec;
use std::io::{Read, Seek};

/// The loss on a held-out shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardLoss {
    /// Sum of the losses of the predicted tokens, nats. A NaN is the one of bits `0x7ff8000000000000`.
    pub nats: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// UTF-8 bytes of the text that the documents spell.
    pub text_bytes: u64,
}

impl ShardLoss {
    /// Bits per byte of text; NaN for no text.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.text_bytes as f64
    }
}

/// Why a shard cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The shard cannot be read.
    #[error("held-out {0}")]
    Shard(#[from] ShardError),
    /// The shard, the tokenizer and the model are not of one vocabulary.
    #[error("held-out shard of {shard} tokens' vocabulary, but the tokenizer knows {tokenizer} and the model {model}")]
    Vocabulary {
        /// Tokens in the shard's vocabulary.
        shard: usize,
        /// Tokens that the tokenizer knows.
        tokenizer: usize,
        /// Tokens that the model knows.
        model: usize,
    },
}

/// The loss of `params` on the first documents of a shard, up to `tokens_max` predicted tokens.
///
/// # Errors
/// [`EvalError`] when the shard cannot be read, or has tokens that the tokenizer or the model does not know.
///
/// # Panics
/// When `params` has not the model's length.
pub fn evaluate_shard<R: Read + Seek>(
    exec: &Exec,
    evaluator: &mut Evaluator,
    params: &[f32],
    shard: &mut ShardReader<R>,
    token_bytes: &TokenBytes,
    tokens_max: u64,
) -> Result<ShardLoss, EvalError> {
    let (known, model) = (token_bytes.vocab_size(), evaluator.shape().vocab);
    let vocab = shard.vocab_size() as usize;
    if vocab > known || vocab > model {
        return Err(EvalError::Vocabulary { shard: vocab, tokenizer: known, model });
    }
    let mut losses = vec![0.0f32; evaluator.shape().context];
    let mut sum = ShardLoss { nats: 0.0, tokens: 0, text_bytes: 0 };
    for index in 0..shard.documents() {
        let range = shard.document_range(index)?;
        let predicted = (range.end - range.start).saturating_sub(1);
        if index > 0 && sum.tokens.saturating_add(predicted) > tokens_max {
            break;
        }
        let document = shard.read_tokens(range)?;
        document_loss(exec, evaluator, params, &document, &mut losses, &mut sum.nats);
        sum.tokens += predicted;
        sum.text_bytes += token_bytes.text_bytes(&document);
    }
    if sum.nats.is_nan() {
        // Which NaN an addition gives differs between processors.
        sum.nats = f64::from_bits(0x7ff8_0000_0000_0000);
    }
    Ok(sum)
}

/// Adds the losses of a document to `nats`; `losses[context]` is scratch.
fn document_loss(
    exec: &Exec,
    evaluator: &mut Evaluator,
    params: &[f32],
    document: &[u32],
    losses: &mut [f32],
    nats: &mut f64,
) {
    let Some((_, targets)) = document.split_first() else { return };
    let inputs = &document[..targets.len()];
    for (inputs, targets) in inputs.chunks(losses.len()).zip(targets.chunks(losses.len())) {
        let losses = &mut losses[..inputs.len()];
        evaluator.losses(exec, params, inputs, targets, losses);
        losses.iter().for_each(|&loss| *nats += f64::from(loss));
    }
}

#[cfg(test)]
mod tests;
