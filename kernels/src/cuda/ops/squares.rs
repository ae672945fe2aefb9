//! Sums of squares of many tensors at once.

use super::launch::{THREADS, launch};
use super::reduce::{GROUP, PARTIAL_MAX, TREE_THREADS};
use crate::cuda::{Buffer, Device, DeviceError, View, ViewMut};
use std::ops::Range;

/// Which parts of a buffer are tensors, in the form that [`sum_squares_each`] takes; made once.
#[derive(Debug)]
pub struct SquaresPlan {
    /// Of each group of up to 8 · 4096 elements: where it begins, 64 bits, and how many they are.
    parts: Buffer<u32>,
    /// The first group of each tensor, and the number of all groups.
    firsts: Buffer<u32>,
    partial: Buffer<f32>,
    /// Where the last tensor ends.
    end: usize,
}

impl SquaresPlan {
    /// A plan for `tensors`, ranges of one buffer.
    ///
    /// # Errors
    /// When the device has no room, or fails.
    ///
    /// # Panics
    /// When a tensor is longer than 2³⁵ elements.
    pub fn new(device: &Device, tensors: &[Range<usize>]) -> Result<SquaresPlan, DeviceError> {
        let (mut parts, mut firsts) = (Vec::new(), vec![0]);
        for tensor in tensors {
            assert!(tensor.len().div_ceil(GROUP) <= PARTIAL_MAX, "a sum of {} elements", tensor.len());
            for start in tensor.clone().step_by(GROUP) {
                let len = GROUP.min(tensor.end - start);
                parts.extend([start as u32, (start as u64 >> 32) as u32, len as u32]);
            }
            firsts.push((parts.len() / 3) as u32);
        }
        let end = tensors.iter().map(|tensor| tensor.end).max().unwrap_or(0);
        let partial = device.buffer(parts.len() / 3)?;
        Ok(SquaresPlan { parts: device.buffer_from(&parts)?, firsts: device.buffer_from(&firsts)?, partial, end })
    }

    /// Elements of four bytes that a plan for tensors of these lengths allocates.
    pub fn len(tensors: impl Iterator<Item = usize>) -> usize {
        tensors.fold(1, |len, tensor| len + 1 + 4 * tensor.div_ceil(GROUP))
    }
}

/// `out[i] = Σ x²` over the plan's tensor `i` of `x`: for each the bits of [`super::sum_squares`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `x` ends before the last tensor does, or `out` is not as long as the plan.
pub fn sum_squares_each(
    device: &Device,
    plan: &mut SquaresPlan,
    x: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    let (tensors, groups) = (plan.firsts.len() - 1, plan.partial.len());
    assert!(x.len() >= plan.end, "{} elements, and tensors up to {}", x.len(), plan.end);
    assert_eq!(out.len(), tensors, "one sum for each tensor");
    let mut partial = plan.partial.view_mut(..);
    if groups > 0 {
        let args = [x.arg(), plan.parts.view(..).arg(), partial.arg()];
        launch(device, "essaim_sum_squares_parts", (groups, 1), THREADS, &args)?;
    }
    if tensors == 0 {
        return Ok(());
    }
    let args = [partial.arg(), plan.firsts.view(..).arg(), out.arg()];
    launch(device, "essaim_sum_trees", (tensors, 1), TREE_THREADS, &args)
}
