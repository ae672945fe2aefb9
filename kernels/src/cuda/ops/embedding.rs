//! Token embeddings.

use super::launch::{THREADS, blocks_y, launch, long, size};
use crate::cuda::{Device, DeviceError, View, ViewMut};

/// Columns and rows of a table.
fn check(ids: usize, table: usize, rows: usize) -> (usize, usize) {
    assert_eq!(rows % ids, 0, "{rows} elements for {ids} tokens");
    let d = rows / ids;
    assert!(d > 0 && table.is_multiple_of(d), "a table of {table} elements has no rows of {d}");
    (d, table / d)
}

/// `out[t, ·] = table[ids[t], ·]`, with `table[vocab, d]` and `out[tokens, d]`; `d` follows from the lengths. A token outside the
/// table gives a row of NaN.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn embedding_forward(
    device: &Device,
    ids: View<'_, u32>,
    table: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    if ids.is_empty() {
        assert!(out.is_empty(), "output rows without tokens");
        return Ok(());
    }
    let (d, vocab) = check(ids.len(), table.len(), out.len());
    let args = [ids.arg(), table.arg(), out.arg(), size(d), long(vocab)];
    launch(device, "essaim_embedding_forward", (ids.len(), blocks_y(d, THREADS)), THREADS, &args)
}

/// Elements of `scratch` that [`embedding_backward`] takes for `tokens`.
pub fn embedding_scratch_len(tokens: usize) -> usize {
    2 * tokens
}

/// `dtable[ids[t], ·] += dout[t, ·]`, tokens in increasing order, each addition rounded: continues each row's chain. A token outside
/// the table is passed over.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn embedding_backward(
    device: &Device,
    ids: View<'_, u32>,
    dout: View<'_, f32>,
    mut dtable: ViewMut<'_, f32>,
    scratch: ViewMut<'_, u32>,
) -> Result<(), DeviceError> {
    let tokens = ids.len();
    if tokens == 0 {
        assert!(dout.is_empty(), "gradient rows without tokens");
        return Ok(());
    }
    let (d, vocab) = check(tokens, dtable.len(), dout.len());
    assert!(scratch.len() >= embedding_scratch_len(tokens), "scratch of {} for {tokens} tokens", scratch.len());
    let (mut next, rest) = scratch.split_at(tokens);
    let mut first = rest.range(..tokens);
    let args = [ids.arg(), size(tokens), next.arg(), first.arg()];
    launch(device, "essaim_embedding_links", (tokens.div_ceil(THREADS), 1), THREADS, &args)?;
    let args = [ids.arg(), next.arg(), first.arg(), dout.arg(), dtable.arg(), size(d), long(vocab)];
    launch(device, "essaim_embedding_backward", (tokens, d.div_ceil(THREADS)), THREADS, &args)
}
