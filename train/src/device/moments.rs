//! Second moments on a device, as [`MomentLayout::span`] and [`MomentLayout::factor`] make and reduce them.

use crate::moments::{MomentLayout, MomentPart, mean_of};
use essaim_kernels::cuda::{Buffer, Device, DeviceError, ops};

/// The factors of all second moments, and of each matrix the mean that its span divides by.
#[derive(Debug)]
pub(super) struct Factors {
    factored: Buffer<f32>,
    means: Buffer<f32>,
}

impl Factors {
    /// Room for the factors of `layout`.
    pub(super) fn new(device: &Device, layout: &MomentLayout) -> Result<Factors, DeviceError> {
        Ok(Factors { factored: device.buffer(layout.factored())?, means: device.buffer(layout.parts().len())? })
    }

    /// Elements that [`Factors::new`] allocates.
    pub(super) fn len(layout: &MomentLayout) -> usize {
        layout.factored() + layout.parts().len()
    }

    /// Spans the second moments in `full` from `factored`.
    pub(super) fn span(
        &mut self,
        device: &Device,
        layout: &MomentLayout,
        factored: &[f32],
        full: &mut Buffer<f32>,
    ) -> Result<(), DeviceError> {
        let mean = |part: &MomentPart| {
            let rows = factored[part.factored..][..part.rows].iter().copied();
            if part.matrix { mean_of(rows, part.rows) } else { 0.0 }
        };
        self.means.upload(&layout.parts().iter().map(mean).collect::<Vec<_>>())?;
        self.factored.upload(factored)?;
        for (index, part) in layout.parts().iter().enumerate() {
            let (values, factors) = (full.view_mut(part.full.clone()), self.factored.view(part.factored..));
            if part.matrix {
                let (rows, cols) = factors.range(..part.rows + part.cols).split_at(part.rows);
                ops::span(device, rows, cols, self.means.view(index..=index), values)?;
            } else {
                ops::copy(device, factors.range(..part.cols), values)?;
            }
        }
        Ok(())
    }

    /// The factors of the second moments in `full`.
    pub(super) fn factor(
        &mut self,
        device: &Device,
        layout: &MomentLayout,
        full: &Buffer<f32>,
    ) -> Result<Vec<f32>, DeviceError> {
        for part in layout.parts() {
            let (values, factors) = (full.view(part.full.clone()), self.factored.view_mut(part.factored..));
            if part.matrix {
                let (rows, cols) = factors.range(..part.rows + part.cols).split_at(part.rows);
                ops::row_means(device, values, rows)?;
                ops::col_means(device, values, cols)?;
            } else {
                ops::copy(device, values, factors.range(..part.cols))?;
            }
        }
        let mut factored = vec![0.0; layout.factored()];
        self.factored.download(&mut factored)?;
        Ok(factored)
    }
}
