//! A Llama in candle, with a cache of keys and values.

use super::config::LlamaConfig;
use candle_core::{D, DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Why no text came of a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A file of the checkpoint cannot be read, or is not what it should be.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model file lacks a tensor of the model.
    #[error("the checkpoint has no tensor '{name}'")]
    NoTensor {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than `config.json` says.
    #[error("tensor '{name}' has shape {got:?}, config.json says {wanted:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        got: Vec<usize>,
        /// The shape of the configuration.
        wanted: Vec<usize>,
    },
    /// A setting out of its range.
    #[error("{name} is {got}: {rule}")]
    Setting {
        /// Which.
        name: &'static str,
        /// Its value.
        got: f64,
        /// What it should be.
        rule: &'static str,
    },
    /// The model gave something that is no number.
    #[error("the model's output is not finite: the checkpoint is damaged or its training diverged")]
    NotFinite,
    /// The calculation failed.
    #[error("forward pass: {0}")]
    Candle(#[from] candle_core::Error),
}

struct Block {
    attention_norm: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    ffn_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// The model. Weights are float32, `[out, in]` as in the file.
pub struct Llama {
    /// Its shape.
    pub config: LlamaConfig,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    head: Tensor,
    cos: Tensor,
    sin: Tensor,
}

/// Keys and values of the tokens seen so far.
pub struct Session<'a> {
    model: &'a Llama,
    cache: Vec<Option<(Tensor, Tensor)>>,
    position: usize,
}

struct Weights(HashMap<String, Tensor>);

impl Weights {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, GenerateError> {
        let tensor = self.0.remove(name).ok_or_else(|| GenerateError::NoTensor { name: name.to_owned() })?;
        if tensor.dims() != shape {
            let (got, wanted) = (tensor.dims().to_vec(), shape.to_vec());
            return Err(GenerateError::Shape { name: name.to_owned(), got, wanted });
        }
        Ok(tensor.to_dtype(DType::F32)?)
    }
}

impl Llama {
    /// Reads `config.json` and `model.safetensors` of a checkpoint folder in the Hugging Face layout.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn load(folder: &Path) -> Result<Llama, GenerateError> {
        let path = folder.join("config.json");
        let wrong = |reason: String| GenerateError::File { path: path.clone(), reason };
        let json = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        let config = LlamaConfig::from_json(&json).map_err(wrong)?;
        let path = folder.join("model.safetensors");
        let wrong = |reason: String| GenerateError::File { path: path.clone(), reason };
        let metadata = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?;
        if !metadata.is_file() {
            return Err(wrong("not a file".into()));
        }
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu)
            .map_err(|error| wrong(first_line(&error.to_string())))?;
        Llama::new(config, tensors)
    }

    /// The model of `config` with tensors by their Hugging Face names.
    ///
    /// # Errors
    /// [`GenerateError`] when a tensor is missing or has another shape.
    pub fn new(config: LlamaConfig, tensors: HashMap<String, Tensor>) -> Result<Llama, GenerateError> {
        let mut weights = Weights(tensors);
        let (d, ffn, vocab) = (config.hidden_size, config.intermediate_size, config.vocab_size);
        let (q_width, kv_width) =
            (config.num_attention_heads * config.head_width(), config.kv_heads() * config.head_width());
        let embedding = weights.take("model.embed_tokens.weight", &[vocab, d])?;
        let mut blocks = Vec::new();
        for layer in 0..config.num_hidden_layers {
            let mut take =
                |name: &str, shape: &[usize]| weights.take(&format!("model.layers.{layer}.{name}.weight"), shape);
            blocks.push(Block {
                attention_norm: take("input_layernorm", &[d])?,
                query: take("self_attn.q_proj", &[q_width, d])?,
                key: take("self_attn.k_proj", &[kv_width, d])?,
                value: take("self_attn.v_proj", &[kv_width, d])?,
                output: take("self_attn.o_proj", &[d, q_width])?,
                ffn_norm: take("post_attention_layernorm", &[d])?,
                gate: take("mlp.gate_proj", &[ffn, d])?,
                up: take("mlp.up_proj", &[ffn, d])?,
                down: take("mlp.down_proj", &[d, ffn])?,
            });
        }
        let norm = weights.take("model.norm.weight", &[d])?;
        let head =
            if config.tie_word_embeddings { embedding.clone() } else { weights.take("lm_head.weight", &[vocab, d])? };
        let (cos, sin) = rotary_tables(&config)?;
        Ok(Llama { config, embedding, blocks, norm, head, cos, sin })
    }

    /// A session that has seen nothing.
    pub fn session(&self) -> Session<'_> {
        Session { model: self, cache: vec![None; self.blocks.len()], position: 0 }
    }
}

/// Cosines and sines, `[context, head_width / 2]` each.
fn rotary_tables(config: &LlamaConfig) -> Result<(Tensor, Tensor), GenerateError> {
    let (context, half) = (config.max_position_embeddings, config.head_width() / 2);
    let angle = |position: usize, pair: usize| {
        position as f64 / config.rope_theta.powf(2.0 * pair as f64 / config.head_width() as f64)
    };
    let angles: Vec<f64> = (0..context)
        .flat_map(|position| (0..half).map(move |pair| (position, pair)))
        .map(|(p, i)| angle(p, i))
        .collect();
    let table = |f: fn(f64) -> f64| {
        Tensor::from_iter(angles.iter().map(|&angle| f(angle) as f32), &Device::Cpu)?.reshape((context, half))
    };
    Ok((table(f64::cos)?, table(f64::sin)?))
}

impl Session<'_> {
    /// Tokens seen.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Reads `ids` after what was seen, and gives the logits of each of them, `[ids, vocab]`. The context must hold them.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn feed_all(&mut self, ids: &[u32]) -> Result<Tensor, GenerateError> {
        let hidden = self.hidden(ids)?;
        Ok(linear(&hidden, &self.model.head)?)
    }

    /// Reads `ids` after what was seen, and gives the logits after the last one.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn feed(&mut self, ids: &[u32]) -> Result<Vec<f32>, GenerateError> {
        let hidden = self.hidden(ids)?;
        let last = hidden.narrow(0, ids.len().saturating_sub(1), 1)?;
        Ok(linear(&last, &self.model.head)?.flatten_all()?.to_vec1()?)
    }

    fn hidden(&mut self, ids: &[u32]) -> Result<Tensor, GenerateError> {
        let model = self.model;
        let eps = model.config.rms_norm_eps;
        let mut x = model.embedding.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        for (block, cache) in model.blocks.iter().zip(&mut self.cache) {
            let normed = rms_norm(&x, &block.attention_norm, eps)?;
            x = (x + attention(model, block, &normed, cache, self.position)?)?;
            let normed = rms_norm(&x, &block.ffn_norm, eps)?;
            let inner = (linear(&normed, &block.gate)?.silu()? * linear(&normed, &block.up)?)?;
            x = (x + linear(&inner, &block.down)?)?;
        }
        self.position += ids.len();
        Ok(rms_norm(&x, &model.norm, eps)?)
    }
}

/// `x · wᵀ`: `[tokens, in]` and `[out, in]` to `[tokens, out]`.
fn linear(x: &Tensor, w: &Tensor) -> candle_core::Result<Tensor> {
    x.matmul(&w.t()?)
}

fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> candle_core::Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    x.broadcast_div(&scale)?.broadcast_mul(weight)
}

/// Rotates pairs `(i, i + width/2)` of `[heads, tokens, width]`.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> candle_core::Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (b.broadcast_mul(cos)? + a.broadcast_mul(sin)?)?;
    Tensor::cat(&[first, second], 2)
}

/// Attention of `x` `[tokens, d]`, which begins at `position`, over what the cache holds and itself.
fn attention(
    model: &Llama,
    block: &Block,
    x: &Tensor,
    cache: &mut Option<(Tensor, Tensor)>,
    position: usize,
) -> candle_core::Result<Tensor> {
    let config = &model.config;
    let (heads, kv_heads, width) = (config.num_attention_heads, config.kv_heads(), config.head_width());
    let tokens = x.dim(0)?;
    let split = |t: Tensor, heads: usize| t.reshape((tokens, heads, width))?.transpose(0, 1)?.contiguous();
    let (cos, sin) = (model.cos.narrow(0, position, tokens)?, model.sin.narrow(0, position, tokens)?);
    let q = rotate(&split(linear(x, &block.query)?, heads)?, &cos, &sin)?;
    let k = rotate(&split(linear(x, &block.key)?, kv_heads)?, &cos, &sin)?;
    let v = split(linear(x, &block.value)?, kv_heads)?;
    let (k, v) = match cache.take() {
        Some((old_k, old_v)) => (Tensor::cat(&[old_k, k], 1)?, Tensor::cat(&[old_v, v], 1)?),
        None => (k, v),
    };
    *cache = Some((k.clone(), v.clone()));
    let seen = k.dim(1)?;
    // Each key and value head serves a group of query heads.
    let group = heads / kv_heads;
    let shared = |t: Tensor| {
        t.unsqueeze(1)?.broadcast_as((kv_heads, group, seen, width))?.reshape((heads, seen, width))?.contiguous()
    };
    let scores = (q.contiguous()?.matmul(&shared(k)?.transpose(1, 2)?.contiguous()?)? / (width as f64).sqrt())?;
    let scores = if tokens > 1 { scores.broadcast_add(&causal_mask(tokens, position)?)? } else { scores };
    let exp = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    let probabilities = exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?;
    let mixed = probabilities.matmul(&shared(v)?)?.transpose(0, 1)?.reshape((tokens, heads * width))?;
    linear(&mixed, &block.output)
}

/// `[tokens, position + tokens]`: zero where a token may look, minus infinity where it may not.
fn causal_mask(tokens: usize, position: usize) -> candle_core::Result<Tensor> {
    let seen = position + tokens;
    let value = |row: usize, column: usize| if column > position + row { f32::NEG_INFINITY } else { 0.0 };
    let values: Vec<f32> = (0..tokens * seen).map(|index| value(index / seen, index % seen)).collect();
    Tensor::from_vec(values, (tokens, seen), &Device::Cpu)
}

/// The first line of a message: candle adds backtraces.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
