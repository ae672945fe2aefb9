//! Cross entropy of a block of rows.

use super::isa::simd_fn;
use super::rows;
use crate::math::{canonical, log_with};

simd_fn! {
    fn cross_entropy_losses<I>(vocab: usize, logits: &[f32], targets: &[u32], losses: &mut [f32]) {
        let stride = logits.len() / losses.len();
        for ((row, &target), loss) in logits.chunks_exact(stride).zip(targets).zip(losses) {
            let row = &row[..vocab];
            let max = rows::max::<I>(row);
            let sum = rows::sum_of_exp::<I>(row, max);
            *loss = canonical(log_with::<I>(sum) - (row[target as usize] - max));
        }
    }
}

simd_fn! {
    fn cross_entropy_forward_backward<I>(vocab: usize, logits: &mut [f32], targets: &[u32], losses: &mut [f32], grad_scale: f32) {
        let stride = logits.len() / losses.len();
        for ((row, &target), loss) in logits.chunks_exact_mut(stride).zip(targets).zip(losses) {
            let row = &mut row[..vocab];
            let max = rows::max::<I>(row);
            let margin = row[target as usize] - max;
            let sum = rows::exp_and_sum::<I>(row, max);
            *loss = canonical(log_with::<I>(sum) - margin);
            let inverse = 1.0 / sum;
            let of_target = (row[target as usize] * inverse - 1.0) * grad_scale;
            for value in row.iter_mut() {
                *value = (*value * inverse) * grad_scale;
            }
            row[target as usize] = of_target;
        }
    }
}
