//! The matrices of a fastText model, dense or quantised.

use super::model_file::{ModelError, ModelFile};

/// Centroids of a product quantiser.
const CENTROIDS: usize = 256;
/// Values in a matrix at most: 16 GiB.
const VALUES_MAX: usize = 1 << 32;

/// Rows of float32.
#[derive(Debug)]
pub(super) enum Matrix {
    /// As they are.
    Dense { columns: usize, values: Vec<f32> },
    /// As codes of parts, and of their norms.
    Quantised { rows: usize, quantiser: Quantiser, codes: Vec<u8>, norms: Option<Vec<f32>> },
}

/// Parts of `part` values, the last one of `last`.
#[derive(Debug)]
pub(super) struct Quantiser {
    columns: usize,
    parts: usize,
    part: usize,
    last: usize,
    centroids: Vec<f32>,
}

impl Quantiser {
    fn read(file: &mut ModelFile) -> Result<Quantiser, ModelError> {
        let [columns, parts, part, last] = file.ints()?;
        let count = |value: i32| file.count(i64::from(value), 1 << 16);
        let (columns, parts, part, last) = (count(columns)?, count(parts)?, count(part)?, count(last)?);
        if parts == 0 || last > part || (parts - 1) * part + last != columns {
            return Err(file.malformed(&format!("{parts} parts of {part}, the last of {last}, in {columns} columns")));
        }
        let centroids = file.floats(columns * CENTROIDS)?;
        Ok(Quantiser { columns, parts, part, last, centroids })
    }

    fn centroid(&self, part: usize, code: u8) -> &[f32] {
        let length = if part + 1 == self.parts { self.last } else { self.part };
        let start = part * CENTROIDS * self.part + code as usize * length;
        &self.centroids[start..start + length]
    }
}

impl Matrix {
    /// Reads a matrix.
    pub(super) fn read(file: &mut ModelFile, quantised: bool) -> Result<Matrix, ModelError> {
        let with_norms = quantised && file.byte()? != 0;
        let (rows, columns) = (file.long()?, file.long()?);
        let (rows, columns) = (file.count(rows, VALUES_MAX)?, file.count(columns, 1 << 16)?);
        let Some(values) = rows.checked_mul(columns).filter(|&values| values <= VALUES_MAX) else {
            return Err(file.malformed(&format!("a matrix of {rows} rows and {columns} columns")));
        };
        if !quantised {
            return Ok(Matrix::Dense { columns, values: file.floats(values)? });
        }
        let length = i64::from(file.int()?);
        let length = file.count(length, VALUES_MAX)?;
        let codes = file.bytes(length)?;
        let quantiser = Quantiser::read(file)?;
        if quantiser.columns != columns || rows.checked_mul(quantiser.parts) != Some(length) {
            return Err(file.malformed(&format!("{length} codes for {rows} rows of {} parts", quantiser.parts)));
        }
        let norms = match with_norms {
            true => {
                let codes = file.bytes(rows)?;
                let norms = Quantiser::read(file)?;
                if norms.columns != 1 {
                    return Err(file.malformed("norms of more than one value"));
                }
                Some(codes.iter().map(|&code| norms.centroid(0, code)[0]).collect())
            }
            false => None,
        };
        Ok(Matrix::Quantised { rows, quantiser, codes, norms })
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Matrix::Dense { columns, values } => values.len().checked_div(*columns).unwrap_or(0),
            Matrix::Quantised { rows, .. } => *rows,
        }
    }

    pub(super) fn columns(&self) -> usize {
        match self {
            Matrix::Dense { columns, .. } => *columns,
            Matrix::Quantised { quantiser, .. } => quantiser.columns,
        }
    }

    /// Adds a row to a vector.
    pub(super) fn add_row(&self, row: usize, sum: &mut [f32]) {
        match self {
            Matrix::Dense { columns, values } => {
                let values = &values[row * columns..][..*columns];
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            Matrix::Quantised { quantiser, codes, norms, .. } => {
                let norm = norms.as_ref().map_or(1.0, |norms| norms[row]);
                let codes = &codes[row * quantiser.parts..][..quantiser.parts];
                for ((part, &code), sum) in codes.iter().enumerate().zip(sum.chunks_mut(quantiser.part)) {
                    let values = quantiser.centroid(part, code);
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += norm * value);
                }
            }
        }
    }

    /// The product of a row and a vector, summed from left to right.
    pub(super) fn dot(&self, row: usize, vector: &[f32]) -> f32 {
        match self {
            Matrix::Dense { columns, values } => {
                let values = &values[row * columns..][..*columns];
                values.iter().zip(vector).fold(0.0, |sum, (value, x)| sum + value * x)
            }
            Matrix::Quantised { quantiser, codes, norms, .. } => {
                let codes = &codes[row * quantiser.parts..][..quantiser.parts];
                let mut sum = 0.0;
                for ((part, &code), vector) in codes.iter().enumerate().zip(vector.chunks(quantiser.part)) {
                    let values = quantiser.centroid(part, code);
                    sum = values.iter().zip(vector).fold(sum, |sum, (value, x)| sum + value * x);
                }
                sum * norms.as_ref().map_or(1.0, |norms| norms[row])
            }
        }
    }
}
