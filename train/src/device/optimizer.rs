//! Clipping, AdamW and Muon on a device, as [`crate::inner`] does them.
//!
//! The gradient's norm never leaves the device before the step is over: it becomes a factor and a flag there. Every update of parameters
//! or of the optimiser's state obeys the flag, so a step that is skipped changes nothing.

use crate::inner::muon::{self, NORM_EPS, QUINTIC, Scalars};
use crate::moments::{MomentLayout, MomentPart};
use crate::params::{ParamLayout, TensorSpec};
use essaim_kernels::Layout;
use essaim_kernels::cuda::{Buffer, Device, DeviceError, View, ViewMut, ops, ops::SquaresPlan};
use essaim_kernels::ops::AdamwScalars;
use std::ops::Range;

/// The gradient's norm, what follows from it, and whether the step counts.
#[derive(Debug)]
pub(super) struct Gate {
    /// Sum of squares of each tensor.
    squares: Buffer<f32>,
    plan: SquaresPlan,
    /// 1 if the step counts, else 0.
    flag: Buffer<u32>,
}

impl Gate {
    /// A gate for gradients of `layout`.
    pub(super) fn new(device: &Device, layout: &ParamLayout) -> Result<Gate, DeviceError> {
        let ranges: Vec<_> = layout.tensors().iter().map(TensorSpec::range).collect();
        let plan = SquaresPlan::new(device, &ranges)?;
        Ok(Gate { squares: device.buffer(ranges.len())?, plan, flag: device.buffer(1)? })
    }

    /// Elements of four bytes that [`Gate::new`] allocates.
    pub(super) fn len(layout: &ParamLayout) -> usize {
        layout.tensors().len() + SquaresPlan::len(layout.tensors().iter().map(TensorSpec::len)) + 1
    }

    /// Measures the gradient, limits its norm to `norm_max`, and decides whether the step counts. `outcome` becomes the norm before
    /// that and the factor.
    pub(super) fn clip(
        &mut self,
        device: &Device,
        grads: &mut Buffer<f32>,
        losses: View<'_, f32>,
        norm_max: f32,
        mut outcome: ViewMut<'_, f32>,
    ) -> Result<(), DeviceError> {
        ops::sum_squares_each(device, &mut self.plan, grads.view(..), self.squares.view_mut(..))?;
        ops::clip_factor(device, self.squares.view(..), norm_max, outcome.reborrow())?;
        let (norm, factor) = outcome.as_view().split_at(1);
        ops::all_finite(device, losses, norm, self.flag.view_mut(..))?;
        // A factor of one changes no bit, so that small gradients may be multiplied too.
        ops::scale_by(device, grads.view_mut(..), factor)
    }

    /// The flag.
    pub(super) fn flag(&self) -> View<'_, u32> {
        self.flag.view(..)
    }
}

/// Neighbouring tensors of AdamW that are updated alike, as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    params: Range<usize>,
    full: Range<usize>,
    matrix: bool,
}

/// The tensors of `layout`, joined where they lie next to each other and both or neither are matrices. Element by element it is the same update.
pub(super) fn stretches(layout: &MomentLayout) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for MomentPart { params, full, matrix, .. } in layout.parts() {
        match stretches.last_mut() {
            Some(last) if last.matrix == *matrix && last.params.end == params.start && last.full.end == full.start => {
                (last.params.end, last.full.end) = (params.end, full.end);
            }
            _ => stretches.push(Stretch { params: params.clone(), full: full.clone(), matrix: *matrix }),
        }
    }
    stretches
}

/// What an update reads and changes, all of it on the device.
pub(super) struct State<'a> {
    pub(super) params: &'a mut Buffer<f32>,
    pub(super) grads: &'a Buffer<f32>,
    pub(super) momentum: &'a mut Buffer<f32>,
    pub(super) second: &'a mut Buffer<f32>,
}

/// AdamW, as [`crate::inner::adamw::update`].
pub(super) fn adamw(
    device: &Device,
    stretches: &[Stretch],
    scalars: &AdamwScalars,
    state: &mut State<'_>,
    flag: View<'_, u32>,
) -> Result<(), DeviceError> {
    for Stretch { params, full, matrix } in stretches {
        let weight_decay = if *matrix { scalars.weight_decay } else { 0.0 };
        ops::adamw_update_if(
            device,
            flag,
            state.params.view_mut(params.clone()),
            state.grads.view(params.clone()),
            state.momentum.view_mut(params.clone()),
            state.second.view_mut(full.clone()),
            &AdamwScalars { weight_decay, ..*scalars },
        )?;
    }
    Ok(())
}

/// Muon's buffers, for one matrix at a time.
#[derive(Debug)]
pub(super) struct MuonBuffers {
    x: Buffer<f32>,
    next: Buffer<f32>,
    gram: Buffer<f32>,
    square: Buffer<f32>,
    /// A sum of squares, and the inverse norm that follows.
    norm: Buffer<f32>,
    scratch: Buffer<f32>,
}

impl MuonBuffers {
    /// Buffers for the matrices of a model.
    pub(super) fn new(device: &Device, layout: &ParamLayout) -> Result<MuonBuffers, DeviceError> {
        let (len, small, scratch) = muon_lens(layout);
        Ok(MuonBuffers {
            x: device.buffer(len)?,
            next: device.buffer(len)?,
            gram: device.buffer(small)?,
            square: device.buffer(small)?,
            norm: device.buffer(2)?,
            scratch: device.buffer(scratch)?,
        })
    }

    /// Elements that [`MuonBuffers::new`] allocates.
    pub(super) fn len(layout: &ParamLayout) -> usize {
        let (len, small, scratch) = muon_lens(layout);
        2 * len + 2 * small + 2 + scratch
    }

    /// Updates every hidden matrix, as [`muon::Buffers::update`].
    pub(super) fn update(
        &mut self,
        device: &Device,
        layout: &ParamLayout,
        scalars: &Scalars,
        state: &mut State<'_>,
        flag: View<'_, u32>,
    ) -> Result<(), DeviceError> {
        for tensor in muon::matrices(layout) {
            let (shape, range) = ([tensor.rows, tensor.cols], tensor.range());
            let (mu, grads) = (scalars.momentum, state.grads.view(range.clone()));
            ops::axpby_if(device, flag, state.momentum.view_mut(range.clone()), 1.0, mu, grads)?;
            let momentum = state.momentum.view(range.clone());
            ops::scaled_sum(device, grads, mu, momentum, self.x.view_mut(..tensor.len()))?;
            self.orthogonalize(device, shape, scalars.iterations)?;
            let (params, x) = (state.params.view_mut(range), self.x.view(..tensor.len()));
            ops::axpby_if(device, flag, params, -scalars.rate(shape), scalars.decay, x)?;
        }
        Ok(())
    }

    /// As [`muon::Buffers`] makes the matrix in `x` nearly orthogonal.
    fn orthogonalize(&mut self, device: &Device, [rows, cols]: [usize; 2], iterations: u32) -> Result<(), DeviceError> {
        let (len, side) = (rows * cols, rows.min(cols));
        let [a, b, c] = QUINTIC;
        let (square, inverse) = self.norm.split_at_mut(1);
        let (mut square, mut inverse) = (square, inverse);
        ops::sum_squares(device, self.x.view(..len), square.reborrow(), self.scratch.view_mut(..))?;
        ops::inverse_norm(device, square.as_view(), NORM_EPS, inverse.reborrow())?;
        ops::scale_by(device, self.x.view_mut(..len), inverse.as_view())?;
        for _ in 0..iterations {
            let x = self.x.view(..len);
            let layout = if rows <= cols { Layout::NT } else { Layout::TN };
            let gram = self.gram.view_mut(..side * side);
            ops::gemm(device, layout, side, side, rows.max(cols), x, cols, x, cols, gram, side, false)?;
            let (gram, square) = (self.gram.view(..side * side), self.square.view_mut(..side * side));
            ops::gemm(device, Layout::NN, side, side, side, gram, side, gram, side, square, side, false)?;
            ops::axpby(device, self.square.view_mut(..side * side), b, c, gram)?;
            ops::scale_into(device, x, a, self.next.view_mut(..len))?;
            let square = self.square.view(..side * side);
            let (left, left_stride, right, right_stride) =
                if rows <= cols { (square, side, x, cols) } else { (x, cols, square, side) };
            let next = self.next.view_mut(..len);
            ops::gemm(device, Layout::NN, rows, cols, side, left, left_stride, right, right_stride, next, cols, true)?;
            std::mem::swap(&mut self.x, &mut self.next);
        }
        Ok(())
    }
}

/// Elements of the largest matrix, of the square of the largest shorter side, and of scratch.
fn muon_lens(layout: &ParamLayout) -> (usize, usize, usize) {
    let largest = |length: fn(&TensorSpec) -> usize| muon::matrices(layout).map(length).max().unwrap_or(0);
    (
        largest(TensorSpec::len),
        largest(|tensor| tensor.rows.min(tensor.cols).pow(2)),
        largest(|tensor| ops::sum_scratch_len(tensor.len())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selfcheck::tiny_manifest;
    use essaim_protocol::manifest::Optimizer;

    #[test]
    fn stretches_are_the_tensors_in_their_order() {
        for optimizer in [Optimizer::Muon, Optimizer::AdamW] {
            let moments = MomentLayout::new(&ParamLayout::new(&tiny_manifest(optimizer).model), optimizer);
            let stretches = stretches(&moments);
            let joined = optimizer == Optimizer::AdamW;
            assert_eq!(
                stretches.len() < moments.parts().len(),
                joined,
                "matrices lie side by side, norms between them"
            );
            let mut parts = moments.parts().iter();
            for Stretch { params, full, matrix } in stretches {
                let (mut at, mut at_full) = (params.start, full.start);
                while at < params.end {
                    let part = parts.next().unwrap();
                    assert_eq!((part.params.start, part.full.start, part.matrix), (at, at_full, matrix));
                    (at, at_full) = (part.params.end, part.full.end);
                }
                assert_eq!((at, at_full), (params.end, full.end));
            }
            assert_eq!(parts.next(), None);
        }
    }
}
