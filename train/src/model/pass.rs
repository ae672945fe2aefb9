//! What every operator of one pass needs to know, and the operators in the model's own terms.

use super::profile::{Direction, Matrix, Operator, Profile};
use crate::config::ModelShape;
use essaim_kernels::{Exec, ops};

/// The rotary tables of every position, `[context, head_dim / 2]` each.
#[derive(Debug)]
pub(crate) struct Rotary {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotary {
    pub(crate) fn new(shape: &ModelShape) -> Rotary {
        let (cos, sin) = ops::rope_tables(shape.rope_theta, shape.head_dim, shape.context);
        Rotary { cos, sin }
    }
}

/// One pass over `batch` sequences of `seq` tokens.
pub(crate) struct Pass<'a> {
    pub(crate) exec: &'a Exec,
    pub(crate) shape: &'a ModelShape,
    pub(crate) rotary: &'a Rotary,
    pub(crate) profile: &'a mut Profile,
    pub(crate) batch: usize,
    pub(crate) seq: usize,
    /// Whether the chains of the matrices' gradients go on from an earlier micro-batch, else they start from +0.
    pub(crate) continued: bool,
}

impl Pass<'_> {
    pub(crate) fn tokens(&self) -> usize {
        self.batch * self.seq
    }

    pub(crate) fn attention_shape(&self) -> ops::AttentionShape {
        let ModelShape { heads, kv_heads, head_dim, .. } = *self.shape;
        ops::AttentionShape { batch: self.batch, seq: self.seq, heads, kv_heads, head_dim }
    }

    /// `y[tokens, outputs] = x[tokens, inputs] · w[outputs, inputs]ᵀ`, rows of x and y at the distance that their lengths give.
    pub(crate) fn linear(&mut self, matrix: Matrix, x: &[f32], w: &[f32], y: &mut [f32]) {
        let (exec, (shape, strides)) = (self.exec, self.linear_shape(matrix, x, y));
        let operator = Operator::Product(matrix, Direction::Forward);
        self.profile.time(operator, || ops::linear_forward_strided(exec, shape, strides, x, w, y));
    }

    /// `dw (+)= dyᵀ · x`, and `dx = dy · w`; the rows of x and dx lie equally far apart.
    pub(crate) fn linear_backward(
        &mut self,
        matrix: Matrix,
        dy: &[f32],
        x: &[f32],
        w: &[f32],
        dw: &mut [f32],
        dx: &mut [f32],
    ) {
        let (exec, continued) = (self.exec, self.continued);
        let (shape, strides) = self.linear_shape(matrix, x, dy);
        let products = [Direction::Weight, Direction::Input].map(|direction| Operator::Product(matrix, direction));
        self.profile.time_shared(products, || {
            let times = ops::linear_backward_strided(exec, shape, strides, dy, x, w, dw, dx, continued);
            [times.weight, times.input]
        });
    }

    fn linear_shape(&self, matrix: Matrix, x: &[f32], y: &[f32]) -> (ops::LinearShape, ops::LinearStrides) {
        let (tokens, (inputs, outputs)) = (self.tokens(), matrix.sizes(self.shape));
        let strides = ops::LinearStrides { x: self.stride(x), y: self.stride(y) };
        (ops::LinearShape { tokens, inputs, outputs }, strides)
    }

    /// The distance of the rows of a buffer with one for each token.
    pub(crate) fn stride(&self, buffer: &[f32]) -> usize {
        buffer.len() / self.tokens()
    }

    pub(crate) fn swiglu_shape(&self, gate_up: &[f32], activation: &[f32]) -> ops::SwigluShape {
        ops::SwigluShape { ffn: self.shape.ffn, gate_up: self.stride(gate_up), out: self.stride(activation) }
    }

    /// Rotates the queries and keys of `qkv` by their positions; `inverse`, their gradients back.
    pub(crate) fn rotate(&mut self, qkv: &mut [f32], inverse: bool) {
        let (exec, seq, head_dim, stride) = (self.exec, self.seq, self.shape.head_dim, self.stride(qkv));
        let table = seq * head_dim / 2;
        let (cos, sin) = (&self.rotary.cos[..table], &self.rotary.sin[..table]);
        let rotate = if inverse { ops::rope_backward_strided } else { ops::rope_forward_strided };
        let shape = ops::RopeShape { seq, heads: self.shape.heads + self.shape.kv_heads, head_dim };
        self.profile.time(Operator::Rotary, || rotate(exec, shape, stride, qkv, cos, sin));
    }

    pub(crate) fn norm(&mut self, x: &[f32], gains: &[f32], y: &mut [f32], rstd: &mut [f32]) {
        let (exec, eps) = (self.exec, self.shape.norm_eps);
        self.profile.time(Operator::Norm, || ops::rmsnorm_forward(exec, x, gains, eps, y, rstd));
    }

    /// `dx` is overwritten, or added to when `accumulate`; `dw` continues its chains.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn norm_backward(
        &mut self,
        x: &[f32],
        gains: &[f32],
        rstd: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        dw: &mut [f32],
    ) {
        let exec = self.exec;
        self.profile.time(Operator::Norm, || {
            ops::rmsnorm_backward(exec, x, gains, rstd, dy, dx, accumulate, dw);
        });
    }

    /// `next.stream = stream + branch`, and its norm.
    pub(crate) fn add_norm(&mut self, stream: &[f32], branch: &[f32], gains: &[f32], next: NormedStream<'_>) {
        let (exec, eps) = (self.exec, self.shape.norm_eps);
        let NormedStream { stream: sum, normed, rstd } = next;
        self.profile.time(Operator::Norm, || {
            ops::add_rmsnorm_forward(exec, stream, branch, gains, eps, sum, normed, rstd);
        });
    }
}

/// Where a stream and its norm are written.
pub(crate) struct NormedStream<'a> {
    /// `[tokens, d_model]`.
    pub(crate) stream: &'a mut [f32],
    /// The stream, normed `[tokens, d_model]`.
    pub(crate) normed: &'a mut [f32],
    /// Inverse root mean squares `[tokens]`.
    pub(crate) rstd: &'a mut [f32],
}
