//! Second moments, factored: what makes the inner optimiser's state public.
//!
//! The inner optimiser starts fresh each round, so that anybody can replay a contribution; but AdamW without its second moments loses a
//! good part of what a round gains. So an update carries the second moments that the member ended with, as the means of the rows and of the
//! columns of each matrix (the whole of each vector), the record commits to the members' weighted mean, and the next round starts from the
//! matrix of rank one that they span.

use crate::params::{ParamLayout, TensorKind};
use essaim_kernels::Exec;
use essaim_protocol::manifest::Optimizer;
use std::ops::Range;

/// One tensor whose second moments are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MomentPart {
    /// Where the tensor lies among the parameters.
    pub params: Range<usize>,
    /// Where its full second moments lie among those of all such tensors.
    pub full: Range<usize>,
    /// Where its factored second moments begin.
    pub factored: usize,
    /// Rows of a matrix; a vector has one.
    pub rows: usize,
    /// Columns of a matrix; the length of a vector.
    pub cols: usize,
    /// Whether it is a matrix: then `rows` means of rows are followed by `cols` means of columns; else all `cols` values stand.
    pub matrix: bool,
}

/// Which tensors have second moments, and where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MomentLayout {
    parts: Vec<MomentPart>,
    full: usize,
    factored: usize,
}

impl MomentLayout {
    /// The tensors that AdamW updates: all of them, or with Muon the embedding, the head and the norms.
    pub fn new(layout: &ParamLayout, optimizer: Optimizer) -> MomentLayout {
        let mut moments = MomentLayout { parts: Vec::new(), full: 0, factored: 0 };
        for tensor in layout.tensors() {
            if optimizer == Optimizer::Muon && tensor.kind == TensorKind::Matrix {
                continue;
            }
            let (len, rows, cols) = (tensor.len(), tensor.rows, tensor.cols);
            let matrix = tensor.kind != TensorKind::Norm;
            moments.parts.push(MomentPart {
                params: tensor.range(),
                full: moments.full..moments.full + len,
                factored: moments.factored,
                rows,
                cols,
                matrix,
            });
            moments.full += len;
            moments.factored += if matrix { rows + cols } else { cols };
        }
        moments
    }

    /// The tensors, in the order of the parameters.
    pub fn parts(&self) -> &[MomentPart] {
        &self.parts
    }

    /// How many second moments there are in full.
    pub fn full(&self) -> usize {
        self.full
    }

    /// How many there are factored.
    pub fn factored(&self) -> usize {
        self.factored
    }

    /// Lengths of the pieces that are quantised with a scale of their own: rows and columns of each matrix, each vector.
    pub fn sections(&self) -> Vec<usize> {
        let lengths = |part: &MomentPart| if part.matrix { vec![part.rows, part.cols] } else { vec![part.cols] };
        self.parts.iter().flat_map(lengths).collect()
    }

    /// Factors `full` (`[full]`) into `factored` (`[factored]`).
    ///
    /// A mean is a float64 sum in increasing order of the other index, divided by the count, rounded once to float32.
    ///
    /// # Panics
    /// When a length is not that of the layout.
    pub fn factor(&self, exec: &Exec, full: &[f32], factored: &mut [f32]) {
        assert!(full.len() == self.full && factored.len() == self.factored, "second moments of another model");
        for part in &self.parts {
            let values = &full[part.full.clone()];
            let out = &mut factored[part.factored..];
            if !part.matrix {
                out[..part.cols].copy_from_slice(values);
                continue;
            }
            let (rows, out) = out.split_at_mut(part.rows);
            exec.for_each_chunk(rows, TASK_MEANS, |start, chunk| {
                let values = values[start * part.cols..].chunks_exact(part.cols);
                chunk.iter_mut().zip(values).for_each(|(mean, row)| *mean = mean_of(row.iter().copied(), part.cols));
            });
            exec.for_each_chunk(&mut out[..part.cols], TASK_MEANS, |start, chunk| {
                let mut sums = [0.0f64; TASK_MEANS];
                for row in values.chunks_exact(part.cols) {
                    let row = &row[start..start + chunk.len()];
                    sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
                }
                chunk.iter_mut().zip(sums).for_each(|(mean, sum)| *mean = (sum / part.rows as f64) as f32);
            });
        }
    }

    /// Spans full second moments (`[full]`) from factored ones (`[factored]`): `v[i, j] = (row[i] / mean) * col[j]`, where `mean` is that of
    /// the rows' means, and 0 where `mean` is 0.
    ///
    /// # Panics
    /// When a length is not that of the layout.
    pub fn span(&self, exec: &Exec, factored: &[f32], full: &mut [f32]) {
        assert!(full.len() == self.full && factored.len() == self.factored, "second moments of another model");
        for part in &self.parts {
            let values = &mut full[part.full.clone()];
            let factors = &factored[part.factored..];
            if !part.matrix {
                values.copy_from_slice(&factors[..part.cols]);
                continue;
            }
            let (rows, factors) = factors.split_at(part.rows);
            let cols = &factors[..part.cols];
            let mean = mean_of(rows.iter().copied(), part.rows);
            let rows_per_task = TASK_VALUES.div_ceil(part.cols);
            exec.for_each_chunk(values, rows_per_task * part.cols, |start, chunk| {
                for (row, out) in rows[start / part.cols..].iter().zip(chunk.chunks_exact_mut(part.cols)) {
                    let factor = if mean > 0.0 { row / mean } else { 0.0 };
                    out.iter_mut().zip(cols).for_each(|(out, col)| *out = factor * col);
                }
            });
        }
    }
}

/// Means that one task computes.
const TASK_MEANS: usize = 64;
/// Second moments that one task spans.
const TASK_VALUES: usize = 1 << 16;

/// The mean of `count` values: a float64 sum in order, divided, rounded once.
pub(crate) fn mean_of(values: impl Iterator<Item = f32>, count: usize) -> f32 {
    (values.fold(0.0f64, |sum, value| sum + f64::from(value)) / count as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selfcheck::tiny_manifest;
    use essaim_kernels::Path;

    fn layout(optimizer: Optimizer) -> MomentLayout {
        MomentLayout::new(&ParamLayout::new(&tiny_manifest(optimizer).model), optimizer)
    }

    #[test]
    fn muon_keeps_only_what_adamw_updates() {
        let model = tiny_manifest(Optimizer::Muon).model;
        let [vocab, d, layers] = [model.vocab_size, model.d_model, model.layers].map(|value| value as usize);
        let moments = layout(Optimizer::Muon);
        let matrices = if model.tied { 1 } else { 2 };
        assert_eq!(moments.factored(), matrices * (vocab + d) + (2 * layers + 1) * d);
        assert_eq!(moments.sections().iter().sum::<usize>(), moments.factored());
        assert_eq!(layout(Optimizer::AdamW).full() as u64, model.parameter_count());
    }

    #[test]
    fn a_matrix_of_rank_one_comes_back() {
        let moments = layout(Optimizer::AdamW);
        let exec = Exec::new(Path::Scalar, 1).unwrap();
        let mut full = vec![0.0; moments.full()];
        for part in moments.parts() {
            for (index, value) in full[part.full.clone()].iter_mut().enumerate() {
                // Powers of two, so that every product and quotient is exact.
                *value = f32::exp2(((index / part.cols) % 2) as f32) * f32::exp2((index % part.cols % 2) as f32);
            }
        }
        let mut factored = vec![0.0; moments.factored()];
        moments.factor(&exec, &full, &mut factored);
        let mut back = vec![f32::NAN; moments.full()];
        moments.span(&exec, &factored, &mut back);
        for (back, full) in back.iter().zip(&full) {
            assert!((back / full - 1.0).abs() < 1e-6, "{full} came back as {back}");
        }
    }

    #[test]
    fn no_thread_count_changes_a_bit() {
        let moments = layout(Optimizer::AdamW);
        let full: Vec<f32> = (0..moments.full()).map(|i| ((i * 7919) % 1009) as f32 * 1e-7).collect();
        let run = |threads| {
            let exec = Exec::new(Path::detect(), threads).unwrap();
            let mut factored = vec![0.0; moments.factored()];
            moments.factor(&exec, &full, &mut factored);
            let mut back = vec![0.0; moments.full()];
            moments.span(&exec, &factored, &mut back);
            (factored, back)
        };
        assert!(run(1) == run(2) && run(1) == run(3));
    }

    #[test]
    fn zero_moments_span_zeros() {
        let moments = layout(Optimizer::Muon);
        let exec = Exec::new(Path::Scalar, 1).unwrap();
        let mut full = vec![f32::NAN; moments.full()];
        moments.span(&exec, &vec![0.0; moments.factored()], &mut full);
        assert!(full.iter().all(|&value| value == 0.0));
    }
}
