//! What every operator of one pass on a device needs to know, and the operators in the model's own terms.

use super::clock::Clock;
use crate::config::ModelShape;
use crate::model::{Direction, Matrix, Operator};
use essaim_kernels::cuda::{Device, DeviceError, View, ViewMut, ops};
use essaim_kernels::ops::{AttentionShape, LinearShape, RopeShape};

/// Queued, or why not.
pub(super) type Done = Result<(), DeviceError>;

/// One pass over `batch` sequences of `seq` tokens, and the operators in the model's own terms.
pub(super) struct Pass<'a> {
    pub(super) device: &'a Device,
    pub(super) clock: &'a Clock,
    pub(super) shape: &'a ModelShape,
    pub(super) cos: View<'a, f32>,
    pub(super) sin: View<'a, f32>,
    pub(super) batch: usize,
    pub(super) seq: usize,
}

impl Pass<'_> {
    pub(super) fn tokens(&self) -> usize {
        self.batch * self.seq
    }

    pub(super) fn attention_shape(&self) -> AttentionShape {
        let ModelShape { heads, kv_heads, head_dim, .. } = *self.shape;
        AttentionShape { batch: self.batch, seq: self.seq, heads, kv_heads, head_dim }
    }

    /// Queues `operator`.
    pub(super) fn timed(&self, operator: Operator, work: impl FnOnce() -> Done) -> Done {
        self.clock.time(self.device, operator, work)
    }

    fn linear_shape(&self, x: usize, y: usize) -> LinearShape {
        let tokens = self.tokens();
        LinearShape { tokens, inputs: x / tokens, outputs: y / tokens }
    }

    /// `y[tokens, outputs] = x[tokens, inputs] · w[outputs, inputs]ᵀ`.
    pub(super) fn linear(&self, matrix: Matrix, x: View<'_, f32>, w: View<'_, f32>, y: ViewMut<'_, f32>) -> Done {
        let shape = self.linear_shape(x.len(), y.len());
        self.timed(Operator::Product(matrix, Direction::Forward), || ops::linear_forward(self.device, shape, x, w, y))
    }

    /// `dw += dyᵀ · x`, and `dx = dy · w`, which is added to `dx` when it says so.
    pub(super) fn linear_backward(
        &self,
        matrix: Matrix,
        dy: View<'_, f32>,
        x: View<'_, f32>,
        w: View<'_, f32>,
        dw: ViewMut<'_, f32>,
        (dx, accumulate): (ViewMut<'_, f32>, bool),
    ) -> Done {
        let shape = self.linear_shape(x.len(), dy.len());
        let of = |direction| Operator::Product(matrix, direction);
        self.timed(of(Direction::Weight), || ops::linear_backward_weight(self.device, shape, dy, x, dw))?;
        self.timed(of(Direction::Input), || ops::linear_backward_input(self.device, shape, dy, w, dx, accumulate))
    }

    /// Rotates queries and keys by their positions; `inverse`, their gradients back.
    pub(super) fn rotate(&self, q: ViewMut<'_, f32>, k: ViewMut<'_, f32>, inverse: bool) -> Done {
        let (seq, head_dim) = (self.seq, self.shape.head_dim);
        let rotate = if inverse { ops::rope_backward } else { ops::rope_forward };
        self.timed(Operator::Rotary, || {
            rotate(self.device, RopeShape { seq, heads: self.shape.heads, head_dim }, q, self.cos, self.sin)?;
            rotate(self.device, RopeShape { seq, heads: self.shape.kv_heads, head_dim }, k, self.cos, self.sin)
        })
    }

    pub(super) fn norm(
        &self,
        x: View<'_, f32>,
        gains: View<'_, f32>,
        y: ViewMut<'_, f32>,
        rstd: ViewMut<'_, f32>,
    ) -> Done {
        let eps = self.shape.norm_eps;
        self.timed(Operator::Norm, || ops::rmsnorm_forward(self.device, x, gains, eps, y, rstd))
    }

    /// `dx` is overwritten, or added to when `accumulate`; `dw` continues its chains.
    pub(super) fn norm_backward(
        &self,
        (x, gains, rstd): (View<'_, f32>, View<'_, f32>, View<'_, f32>),
        dy: View<'_, f32>,
        dx: ViewMut<'_, f32>,
        accumulate: bool,
        dw: ViewMut<'_, f32>,
    ) -> Done {
        self.timed(Operator::Norm, || ops::rmsnorm_backward(self.device, x, gains, rstd, dy, dx, accumulate, dw))
    }

    /// `out = stream + branch`, booked with the norms, as on the CPU.
    pub(super) fn add(&self, stream: View<'_, f32>, branch: View<'_, f32>, out: ViewMut<'_, f32>) -> Done {
        self.timed(Operator::Norm, || ops::add(self.device, stream, branch, out))
    }
}
