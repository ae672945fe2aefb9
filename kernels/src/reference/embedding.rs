//! Token embeddings.

/// `out[t, ·] = table[ids[t], ·]`.
pub(crate) fn embedding_forward(ids: &[u32], table: &[f32], out: &mut [f32]) {
    let d = out.len() / ids.len();
    for (&id, row) in ids.iter().zip(out.chunks_exact_mut(d)) {
        row.copy_from_slice(&table[id as usize * d..][..d]);
    }
}

/// `dtable[ids[t], ·] += dout[t, ·]`, tokens in increasing order.
pub(crate) fn embedding_backward(ids: &[u32], dout: &[f32], dtable: &mut [f32]) {
    let d = dout.len() / ids.len();
    for (&id, row) in ids.iter().zip(dout.chunks_exact(d)) {
        let target = &mut dtable[id as usize * d..][..d];
        target.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
    }
}
