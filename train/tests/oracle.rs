//! The model's losses and gradients against candle's autograd in float64: an independent statement of the same function.
#![allow(clippy::unwrap_used)]

mod model_support;

use candle_core::{D, DType, Device, Tensor, Var};
use essaim_kernels::Exec;
use essaim_protocol::manifest::ModelConfig;
use essaim_train::config::ModelShape;
use essaim_train::model::{Evaluator, Model};
use essaim_train::params::ParamLayout;
use model_support::{config, grouped, parameters, tokens};
use std::collections::BTreeMap;

type Vars = BTreeMap<String, Var>;

fn variables(layout: &ParamLayout, params: &[f32]) -> Vars {
    let var = |range: std::ops::Range<usize>, shape: Vec<usize>| {
        let values: Vec<f64> = params[range].iter().map(|&value| f64::from(value)).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    };
    layout.tensors().iter().map(|tensor| (tensor.name.clone(), var(tensor.range(), tensor.shape()))).collect()
}

fn norm(x: &Tensor, gains: &Tensor, eps: f64) -> Tensor {
    let mean = x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
    let scaled = x.broadcast_div(&(mean + eps).unwrap().sqrt().unwrap()).unwrap();
    scaled.broadcast_mul(gains).unwrap()
}

fn linear(x: &Tensor, w: &Tensor) -> Tensor {
    let (b, s, d) = x.dims3().unwrap();
    x.reshape((b * s, d)).unwrap().matmul(&w.t().unwrap()).unwrap().reshape((b, s, ())).unwrap()
}

/// Rotates `x[b, h, s, hd]` by position: each complex number `x[i] + i x[i + hd/2]` by `s · theta^(-2i/hd)`.
fn rotate(x: &Tensor, theta: f64) -> Tensor {
    let (_, _, s, hd) = x.dims4().unwrap();
    let half = hd / 2;
    let angle = |p: usize, i: usize| p as f64 * theta.powf(-2.0 * i as f64 / hd as f64);
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f64> = (0..s).flat_map(|p| (0..half).map(move |i| f(angle(p, i)))).collect();
        Tensor::from_vec(values, (1, 1, s, half), &Device::Cpu).unwrap()
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let (re, im) = (x.narrow(3, 0, half).unwrap(), x.narrow(3, half, half).unwrap());
    let times = |a: &Tensor, b: &Tensor| a.broadcast_mul(b).unwrap();
    let turned_re = (times(&re, &cos) - times(&im, &sin)).unwrap();
    let turned_im = (times(&im, &cos) + times(&re, &sin)).unwrap();
    Tensor::cat(&[turned_re, turned_im], 3).unwrap()
}

fn attention(x: &Tensor, weights: &dyn Fn(&str) -> Tensor, shape: &ModelShape) -> Tensor {
    let (b, s, d) = x.dims3().unwrap();
    let hd = shape.head_dim;
    let heads = |name: &str, count: usize| {
        let y = linear(x, &weights(name)).reshape((b, s, count, hd)).unwrap();
        y.transpose(1, 2).unwrap().contiguous().unwrap()
    };
    let grouped = |y: Tensor| {
        let group = shape.heads / shape.kv_heads;
        let wide = y.unsqueeze(2).unwrap().broadcast_as((b, shape.kv_heads, group, s, hd)).unwrap();
        wide.contiguous().unwrap().reshape((b, shape.heads, s, hd)).unwrap()
    };
    let q = rotate(&heads("self_attn.q_proj", shape.heads), shape.rope_theta);
    let k = grouped(rotate(&heads("self_attn.k_proj", shape.kv_heads), shape.rope_theta));
    let v = grouped(heads("self_attn.v_proj", shape.kv_heads));
    let mask: Vec<f64> = (0..s).flat_map(|i| (0..s).map(move |j| if j > i { -1e30 } else { 0.0 })).collect();
    let mask = Tensor::from_vec(mask, (1, 1, s, s), &Device::Cpu).unwrap();
    let scores = (q.matmul(&k.t().unwrap().contiguous().unwrap()).unwrap() / (hd as f64).sqrt()).unwrap();
    let exps = scores.broadcast_add(&mask).unwrap().exp().unwrap();
    let p = exps.broadcast_div(&exps.sum_keepdim(D::Minus1).unwrap()).unwrap();
    let out = p.matmul(&v).unwrap().transpose(1, 2).unwrap().contiguous().unwrap().reshape((b, s, d)).unwrap();
    linear(&out, &weights("self_attn.o_proj"))
}

/// The loss of every token `[b, s]`.
fn losses(vars: &Vars, config: &ModelConfig, inputs: &Tensor, targets: &Tensor) -> Tensor {
    let shape = ModelShape::from(config);
    let eps = f64::from_bits(config.norm_eps.0);
    let (b, s) = inputs.dims2().unwrap();
    let weight = |name: &str| vars[name].as_tensor().clone();
    let embedding = weight("model.embed_tokens.weight");
    let rows = embedding.index_select(&inputs.flatten_all().unwrap(), 0).unwrap();
    let mut x = rows.reshape((b, s, shape.d_model)).unwrap();
    for layer in 0..shape.layers {
        let weights = |name: &str| weight(&format!("model.layers.{layer}.{name}.weight"));
        let a = norm(&x, &weights("input_layernorm"), eps);
        x = (&x + attention(&a, &weights, &shape)).unwrap();
        let a = norm(&x, &weights("post_attention_layernorm"), eps);
        let gate = linear(&a, &weights("mlp.gate_proj"));
        let sigmoid = ((gate.neg().unwrap().exp().unwrap() + 1.0).unwrap()).recip().unwrap();
        let h = ((gate * sigmoid).unwrap() * linear(&a, &weights("mlp.up_proj"))).unwrap();
        x = (x + linear(&h, &weights("mlp.down_proj"))).unwrap();
    }
    let head = if shape.tied { embedding } else { weight("lm_head.weight") };
    let logits = linear(&norm(&x, &weight("model.norm.weight"), eps), &head);
    let total = logits.exp().unwrap().sum(D::Minus1).unwrap().log().unwrap();
    let picked = logits.gather(&targets.unsqueeze(2).unwrap(), 2).unwrap().squeeze(2).unwrap();
    (total - picked).unwrap()
}

/// Largest deviation of `got` from `want`, relative to the largest magnitude in `want`.
fn deviation(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    assert!(largest > 0.0, "a gradient of zeros tells nothing");
    got.iter().zip(want).fold(0.0f64, |max, (&got, want)| max.max((f64::from(got) - want).abs())) / largest
}

fn check(config: &ModelConfig, batch: usize, batch_max: usize) {
    let exec = Exec::detect(2).unwrap();
    let layout = ParamLayout::new(config);
    let params = parameters(&exec, config);
    let context = config.context as usize;
    let rows = tokens(batch * (context + 1), config.vocab_size, 1);
    let (mut grads, mut got) = (vec![f32::NAN; layout.total()], vec![f32::NAN; batch * context]);
    Model::new(config, batch_max).inner_gradients(&exec, &params, &rows, &mut grads, &mut got);

    let rows = Tensor::from_vec(rows, (batch, context + 1), &Device::Cpu).unwrap();
    let vars = variables(&layout, &params);
    let part = |from| rows.narrow(1, from, context).unwrap().contiguous().unwrap();
    let all = losses(&vars, config, &part(0), &part(1));
    let want: Vec<f64> = all.flatten_all().unwrap().to_vec1().unwrap();
    assert!(deviation(&got, &want) < 1e-5, "losses: {}", deviation(&got, &want));
    let backward = all.mean_all().unwrap().backward().unwrap();
    for tensor in layout.tensors() {
        let want = backward.get(vars[&tensor.name].as_tensor()).unwrap().to_dtype(DType::F64).unwrap();
        let want: Vec<f64> = want.flatten_all().unwrap().to_vec1().unwrap();
        let off = deviation(&grads[tensor.range()], &want);
        assert!(off < 2e-5, "{}: {off:e} of the largest gradient", tensor.name);
    }
}

#[test]
fn losses_and_gradients_are_candles_for_grouped_queries() {
    check(&grouped(false), 3, 3);
    check(&grouped(false), 3, 2);
}

#[test]
fn losses_and_gradients_are_candles_for_a_tied_head() {
    check(&grouped(true), 3, 1);
}

#[test]
fn losses_and_gradients_are_candles_for_single_and_full_heads() {
    check(&config([50, 16, 2, 4, 4, 24, 9], false), 2, 2);
    check(&config([50, 16, 2, 4, 1, 24, 9], true), 2, 2);
    check(&config([50, 16, 1, 1, 1, 24, 2], false), 4, 3);
}

#[test]
fn an_evaluator_gives_the_losses_of_training_and_the_logits_behind_them() {
    let exec = Exec::detect(1).unwrap();
    for tied in [false, true] {
        let config = grouped(tied);
        let params = parameters(&exec, &config);
        let context = config.context as usize;
        let rows = tokens(context + 1, config.vocab_size, 2);
        let (mut grads, mut trained) = (vec![0.0; params.len()], vec![0.0; context]);
        Model::new(&config, 1).inner_gradients(&exec, &params, &rows, &mut grads, &mut trained);
        let mut evaluator = Evaluator::new(&config);
        for len in 1..=context {
            let mut got = vec![0.0; len];
            evaluator.losses(&exec, &params, &rows[..len], &rows[1..=len], &mut got);
            // A prefix has the bits of the whole: later tokens take no part in earlier ones.
            assert_eq!(got, trained[..len], "{len} tokens");
            let mut logits = vec![0.0; config.vocab_size as usize];
            evaluator.logits(&exec, &params, &rows[..len], &mut logits);
            let total = logits.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln();
            let loss = total - f64::from(logits[rows[len] as usize]);
            assert!((loss - f64::from(got[len - 1])).abs() < 1e-5, "{loss} and {}", got[len - 1]);
        }
    }
}
