//! An inner loop, written out once more from SEMANTICS.md §10 and §12.2 to §12.4, element by element: every bit must be the same.
#![allow(clippy::unwrap_used)]

use essaim_kernels::{Exec, Path, reduce, scalar64};
use essaim_protocol::ids::RunId;
use essaim_protocol::manifest::{F64Bits, InnerConfig, Manifest, Optimizer};
use essaim_train::inner::InnerLoop;
use essaim_train::model::Model;
use essaim_train::params::{TensorKind, TensorSpec};
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::{tiny_manifest, tiny_unit};

fn float64(bits: F64Bits) -> f64 {
    f64::from_bits(bits.0)
}

fn learning_rate(inner: &InnerConfig, tokens: u64) -> f64 {
    let (t, w, e) = (tokens as f64, inner.warmup_tokens as f64, inner.total_tokens as f64);
    let (p, f) = (float64(inner.peak_lr), float64(inner.final_lr_fraction));
    if t < w {
        return p * (t / w);
    }
    let x = ((t - w) / (e - w)).min(1.0);
    p * (f + (1.0 - f) * (0.5 * (1.0 + scalar64::cos(std::f64::consts::PI * x))))
}

/// A mean in binary64, in order.
fn mean(values: &[f32]) -> f32 {
    let mut sum = 0.0f64;
    values.iter().for_each(|&value| sum += f64::from(value));
    (sum / values.len() as f64) as f32
}

/// `c[i, j]` continued over p of `a(i, p), b(p, j)`.
fn product(
    c: &mut [f32],
    [rows, terms, cols]: [usize; 3],
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
) {
    for i in 0..rows {
        for j in 0..cols {
            c[i * cols + j] = (0..terms).fold(c[i * cols + j], |sum, p| a(i, p).mul_add(b(p, j), sum));
        }
    }
}

/// Muon's update of one matrix.
fn muon(inner: &InnerConfig, lr: f64, tensor: &TensorSpec, p: &mut [f32], g: &[f32], b: &mut [f32]) {
    let [rows, cols] = [tensor.rows, tensor.cols];
    let (side, mu) = (rows.min(cols), float64(inner.muon_momentum) as f32);
    let mut x = Vec::new();
    for (b, &g) in b.iter_mut().zip(g) {
        *b = g + mu * *b;
        x.push(g + mu * *b);
    }
    let inverse = 1.0 / (reduce::sum_squares(&Exec::new(Path::Scalar, 1).unwrap(), &x).sqrt() + 1e-7f32);
    x.iter_mut().for_each(|x| *x *= inverse);
    for _ in 0..inner.muon_iterations {
        let (mut s, mut t) = (vec![0.0f32; side * side], vec![0.0f32; side * side]);
        if rows > cols {
            product(&mut s, [side, rows, side], |i, p| x[p * cols + i], |p, j| x[p * cols + j]);
        } else {
            product(&mut s, [side, cols, side], |i, p| x[i * cols + p], |p, j| x[j * cols + p]);
        }
        product(&mut t, [side; 3], |i, p| s[i * side + p], |p, j| s[p * side + j]);
        t.iter_mut().zip(&s).for_each(|(t, s)| *t = -4.7750f32 * s + 2.0315f32 * *t);
        let mut next: Vec<f32> = x.iter().map(|x| 3.4445f32 * x).collect();
        if rows > cols {
            product(&mut next, [rows, side, cols], |i, p| x[i * cols + p], |p, j| t[p * side + j]);
        } else {
            product(&mut next, [rows, side, cols], |i, p| t[i * side + p], |p, j| x[p * cols + j]);
        }
        x = next;
    }
    let rate = (lr * 0.2 * scalar64::sqrt(rows.max(cols) as f64)) as f32;
    let decay = (1.0 - lr * float64(inner.weight_decay)) as f32;
    p.iter_mut().zip(x).for_each(|(p, x)| *p = -rate * x + decay * *p);
}

/// AdamW's update of one tensor.
fn adamw(inner: &InnerConfig, lr: f64, bias2: f32, decays: bool, p: &mut [f32], g: &[f32], [m, v]: [&mut [f32]; 2]) {
    let [beta1, beta2, eps, wd] = [inner.beta1, inner.beta2, inner.eps, inner.weight_decay].map(|x| float64(x) as f32);
    let (lr, wd) = (lr as f32, if decays { wd } else { 0.0 });
    for i in 0..p.len() {
        m[i] = beta1 * m[i] + (1.0 - beta1) * g[i];
        v[i] = beta2 * v[i] + (1.0 - beta2) * (g[i] * g[i]);
        p[i] = p[i] * (1.0 - lr * wd) - lr * (m[i] / ((v[i] / bias2).sqrt() + eps));
    }
}

/// Of the tensors with second moments: where a tensor's factors are taken from, spanned.
fn span(tensor: &TensorSpec, factors: &[f32]) -> Vec<f32> {
    if tensor.kind == TensorKind::Norm {
        return factors.to_vec();
    }
    let (rows, cols) = factors.split_at(tensor.rows);
    let mean = mean(rows);
    rows.iter()
        .flat_map(|row| cols.iter().map(move |col| if mean > 0.0 { (row / mean) * col } else { 0.0 * col }))
        .collect()
}

fn factor(tensor: &TensorSpec, v: &[f32]) -> Vec<f32> {
    if tensor.kind == TensorKind::Norm {
        return v.to_vec();
    }
    let rows = v.chunks(tensor.cols).map(mean);
    let cols = (0..tensor.cols).map(|col| mean(&v.iter().skip(col).step_by(tensor.cols).copied().collect::<Vec<_>>()));
    rows.chain(cols).collect()
}

fn check(manifest: &Manifest, base: &Base) {
    let (exec, inner) = (Exec::detect(2).unwrap(), &manifest.inner);
    let mut model = Model::new(&manifest.model, 2);
    let tensors: Vec<TensorSpec> = model.layout().tensors().to_vec();
    let of_adamw = |tensor: &TensorSpec| inner.optimizer == Optimizer::AdamW || tensor.kind != TensorKind::Matrix;
    let mut p = base.params.clone();
    let (mut m, mut grads) = (vec![0.0; p.len()], vec![0.0; p.len()]);
    let mut losses = vec![0.0; manifest.tokens_per_step() as usize];
    let mut factors = &base.outer.moments[..];
    let mut v: Vec<Vec<f32>> = Vec::new();
    for tensor in &tensors {
        let len = if tensor.kind == TensorKind::Norm { tensor.cols } else { tensor.rows + tensor.cols };
        let (mine, rest) = factors.split_at(if of_adamw(tensor) { len } else { 0 });
        v.push(if of_adamw(tensor) { span(tensor, mine) } else { Vec::new() });
        factors = rest;
    }

    let context = RoundContext { exec: &exec, manifest, run: RunId([6; 32]), round: 1 };
    let mut real = InnerLoop::new(context, base, 0, 1);
    let (steps, mut total) = (3u32, 0.0f64);
    for step in 0..steps {
        let tokens = tiny_unit(manifest, step);
        model.inner_gradients(&exec, &p, &tokens, &mut grads, &mut losses);
        let mut sum = 0.0f64;
        losses.iter().for_each(|&loss| sum += f64::from(loss));
        total += sum;
        let squares = tensors.iter().map(|tensor| reduce::sum_squares(&exec, &grads[tensor.range()]));
        let norm = squares.fold(0.0f32, |sum, square| sum + square).sqrt();
        let limit = float64(inner.clip_norm) as f32;
        assert!(norm > limit, "a gradient of norm {norm} is not limited");
        grads.iter_mut().for_each(|g| *g *= limit / norm);
        let lr = learning_rate(inner, u64::from(step + 1) * manifest.tokens_per_step());
        let bias2 = 1.0 - scalar64::pow(float64(inner.beta2), f64::from(step + 1));
        let bias2 = if base.outer.seeded { 1.0 } else { bias2 as f32 };
        for (tensor, v) in tensors.iter().zip(&mut v) {
            let (p, g, m) = (&mut p[tensor.range()], &grads[tensor.range()], &mut m[tensor.range()]);
            if of_adamw(tensor) {
                adamw(inner, lr, bias2, tensor.kind != TensorKind::Norm, p, g, [m, v]);
            } else {
                muon(inner, lr, tensor, p, g, m);
            }
        }
        let report = real.step(&tokens).unwrap();
        assert_eq!(report.loss.to_bits(), (sum / losses.len() as f64).to_bits());
        assert_eq!((report.lr.to_bits(), report.grad_norm.to_bits()), (lr.to_bits(), norm.to_bits()));
        assert!(real.params() == p, "parameters after step {step} with {:?}", inner.optimizer);
    }
    let result = real.finish();
    let adamw_tensors = tensors.iter().zip(&v).filter(|(tensor, _)| of_adamw(tensor));
    assert_eq!(result.moments, adamw_tensors.flat_map(|(tensor, v)| factor(tensor, v)).collect::<Vec<_>>());
    assert!(result.pseudo_gradient.iter().zip(base.params.iter().zip(&p)).all(|(got, (base, p))| *got == base - p));
    assert_eq!(result.loss.to_bits(), (total / (u64::from(steps) * manifest.tokens_per_step()) as f64).to_bits());
}

#[test]
fn an_inner_loop_is_that_of_the_definition() {
    for optimizer in [Optimizer::Muon, Optimizer::AdamW] {
        let mut manifest = tiny_manifest(optimizer);
        manifest.inner.clip_norm = F64Bits(0.1f64.to_bits());
        let mut base = Base::initial(&Exec::detect(1).unwrap(), &manifest);
        check(&manifest, &base);
        base.outer.seeded = true;
        base.outer.moments.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 11) as f32 * 1e-6);
        check(&manifest, &base);
    }
}
