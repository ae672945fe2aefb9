//! From a prompt to text.

use super::model::{GenerateError, Llama};
use super::sampler::{Sampler, Sampling};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;
use tokenizers::Tokenizer;

/// What to generate.
#[derive(Debug, Clone)]
pub struct Request {
    /// The text to go on from.
    pub prompt: String,
    /// Most tokens to generate.
    pub tokens_max: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Decides the choices.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Generated {
    /// The prompt.
    pub prompt: String,
    /// What follows it.
    pub continuation: String,
    /// Prompt and continuation.
    pub text: String,
    /// Ids of the tokens generated.
    pub tokens: Vec<u32>,
    /// Whether the model ended the text itself.
    pub ended: bool,
    /// The seed.
    pub seed: u64,
    /// Generated tokens a second.
    pub tokens_per_s: f64,
}

/// Continues a prompt with the checkpoint in `folder` (`config.json`, `model.safetensors`, `tokenizer.json`).
///
/// # Errors
/// [`GenerateError`].
pub fn generate(folder: &Path, request: &Request) -> Result<Generated, GenerateError> {
    request.sampling.check()?;
    let tokenizer_path = folder.join("tokenizer.json");
    let wrong = |reason: String| GenerateError::File { path: tokenizer_path.clone(), reason };
    if !tokenizer_path.is_file() {
        return Err(wrong(
            "there is no such file; --checkpoint is a folder with model.safetensors, config.json and \
                          tokenizer.json"
                .into(),
        ));
    }
    let tokenizer = Tokenizer::from_file(&tokenizer_path).map_err(|error| wrong(error.to_string()))?;
    let model = Llama::load(folder)?;
    let encoding = tokenizer.encode(request.prompt.as_str(), false).map_err(|error| wrong(error.to_string()))?;
    let id_of = |token: &str| tokenizer.token_to_id(token);
    let begin = model.config.bos_token_id.or_else(|| id_of("<s>"));
    let end = model.config.eos_token_id.or_else(|| id_of("</s>"));
    let mut history: Vec<u32> = begin.into_iter().collect();
    history.extend(encoding.get_ids().iter().filter(|&&id| Some(id) != begin));
    if let Some(&id) = history.iter().find(|&&id| id as usize >= model.config.vocab_size) {
        return Err(wrong(format!("token {id} is beyond the model's vocabulary of {}", model.config.vocab_size)));
    }
    if history.is_empty() {
        return Err(wrong("the prompt has no token, and the tokenizer none that begins a text".into()));
    }
    let prompt_len = history.len();
    let banned = [begin, id_of("<unk>"), id_of("<pad>"), model.config.pad_token_id];
    let mut sampler = Sampler::new(
        request.sampling,
        banned.into_iter().flatten().filter(|&id| Some(id) != end).collect(),
        request.seed,
    );
    let start = Instant::now();
    let ended = extend(&model, &mut sampler, &mut history, request.tokens_max, end)?;
    let seconds = start.elapsed().as_secs_f64();
    let decode = |ids: &[u32]| tokenizer.decode(ids, true).map_err(|error| wrong(error.to_string()));
    let text = decode(&history)?;
    let tokens = history.split_off(prompt_len.min(history.len()));
    // The decoder may treat the first token of a text in its own way, so the continuation is what follows the prompt.
    let before = decode(&history)?;
    let continuation = text.strip_prefix(&before).unwrap_or(&text).to_owned();
    let tokens_per_s = tokens.len() as f64 / seconds.max(1e-9);
    Ok(Generated {
        prompt: request.prompt.clone(),
        continuation,
        text,
        tokens,
        ended,
        seed: request.seed,
        tokens_per_s,
    })
}

/// Appends up to `tokens_max` tokens to `history`. When the context is full, the model reads the last half of it anew.
fn extend(
    model: &Llama,
    sampler: &mut Sampler,
    history: &mut Vec<u32>,
    tokens_max: usize,
    end: Option<u32>,
) -> Result<bool, GenerateError> {
    let context = model.config.max_position_embeddings;
    let mut session = model.session();
    let mut unread = history.len().min(context);
    for _ in 0..tokens_max {
        if session.position() + unread > context {
            session = model.session();
            unread = context.div_ceil(2).min(history.len());
        }
        let from = history.len().saturating_sub(unread);
        let logits = session.feed(history.get(from..).unwrap_or_default())?;
        let token = sampler.choose(&logits, history)?;
        if Some(token) == end {
            return Ok(true);
        }
        history.push(token);
        unread = 1;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::config::LlamaConfig;
    use super::*;
    use candle_core::{Device, Tensor};
    use std::collections::HashMap;

    pub(crate) fn tiny() -> LlamaConfig {
        LlamaConfig {
            vocab_size: 19,
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: Some(2),
            head_dim: None,
            max_position_embeddings: 12,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            bos_token_id: None,
            eos_token_id: None,
            pad_token_id: None,
        }
    }

    fn model() -> Llama {
        let config = tiny();
        let mut tensors = HashMap::new();
        let mut add = |name: String, shape: &[usize]| {
            let len: usize = shape.iter().product();
            let salt = tensors.len() as f32;
            let values: Vec<f32> = (0..len).map(|i| ((i as f32 * 0.37 + salt * 1.7).sin()) * 0.4).collect();
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
        };
        add("model.embed_tokens.weight".into(), &[19, 16]);
        add("model.norm.weight".into(), &[16]);
        for layer in 0..2 {
            for (name, shape) in [
                ("input_layernorm", vec![16]),
                ("self_attn.q_proj", vec![16, 16]),
                ("self_attn.k_proj", vec![8, 16]),
                ("self_attn.v_proj", vec![8, 16]),
                ("self_attn.o_proj", vec![16, 16]),
                ("post_attention_layernorm", vec![16]),
                ("mlp.gate_proj", vec![24, 16]),
                ("mlp.up_proj", vec![24, 16]),
                ("mlp.down_proj", vec![16, 24]),
            ] {
                add(format!("model.layers.{layer}.{name}.weight"), &shape);
            }
        }
        Llama::new(config, tensors).unwrap()
    }

    #[test]
    fn the_cache_changes_nothing() {
        let model = model();
        let ids = [3u32, 7, 1, 18, 4, 4, 9];
        let whole: Vec<Vec<f32>> = model.session().feed_all(&ids).unwrap().to_vec2().unwrap();
        let mut session = model.session();
        for (id, row) in ids.iter().zip(&whole) {
            let logits = session.feed(&[*id]).unwrap();
            for (a, b) in logits.iter().zip(row) {
                assert!((a - b).abs() < 1e-4, "{a} and {b}");
            }
        }
        let mut cut = model.session();
        cut.feed(&ids[..3]).unwrap();
        let last = cut.feed(&ids[3..]).unwrap();
        for (a, b) in last.iter().zip(whole.last().unwrap()) {
            assert!((a - b).abs() < 1e-4, "{a} and {b}");
        }
    }

    #[test]
    fn text_goes_on_beyond_the_context() {
        let model = model();
        let mut history = vec![1, 2, 3];
        let mut sampler = Sampler::new(Sampling::default(), vec![], 1);
        assert!(!extend(&model, &mut sampler, &mut history, 30, None).unwrap());
        assert_eq!(history.len(), 33);
        let mut again = vec![1, 2, 3];
        let mut sampler = Sampler::new(Sampling::default(), vec![], 1);
        extend(&model, &mut sampler, &mut again, 30, None).unwrap();
        assert_eq!(history, again);
    }

    #[test]
    fn a_wrong_shape_or_missing_tensor_is_named() {
        let error = Llama::new(tiny(), HashMap::new()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("model.embed_tokens.weight"), "{error}");
        let mut tensors = HashMap::new();
        tensors.insert(
            "model.embed_tokens.weight".to_owned(),
            Tensor::zeros((19, 8), candle_core::DType::F32, &Device::Cpu).unwrap(),
        );
        assert!(matches!(Llama::new(tiny(), tensors), Err(GenerateError::Shape { .. })));
    }
}
