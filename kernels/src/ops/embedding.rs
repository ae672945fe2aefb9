//! Token embeddings.

use crate::exec::Exec;
use crate::platform::Path;
use crate::reference;

fn check(ids: &[u32], table: usize, rows: usize) -> usize {
    assert_eq!(rows % ids.len(), 0, "{rows} elements for {} tokens", ids.len());
    let d = rows / ids.len();
    assert!(d > 0 && table.is_multiple_of(d), "a table of {table} elements has no rows of {d}");
    let vocab = table / d;
    assert!(ids.iter().all(|&id| (id as usize) < vocab), "a token id is outside the vocabulary of {vocab}");
    d
}

/// `out[t, ·] = table[ids[t], ·]`, with `table[vocab, d]` and `out[tokens, d]`; `d` follows from the lengths.
///
/// # Panics
/// When the lengths don't fit or an id is outside the table.
pub fn embedding_forward(exec: &Exec, ids: &[u32], table: &[f32], out: &mut [f32]) {
    if ids.is_empty() {
        return assert!(out.is_empty(), "output rows without tokens");
    }
    let d = check(ids, table.len(), out.len());
    if exec.path() == Path::Scalar {
        return reference::embedding::embedding_forward(ids, table, out);
    }
    let rows = exec.grain(ids.len(), d);
    exec.for_each_chunk(out, rows * d, |start, chunk| {
        for (&id, row) in ids[start / d..].iter().zip(chunk.chunks_exact_mut(d)) {
            row.copy_from_slice(&table[id as usize * d..][..d]);
        }
    });
}

/// `dtable[ids[t], ·] += dout[t, ·]`, tokens in increasing order, each addition rounded: continues each row's chain.
///
/// # Panics
/// When the lengths don't fit or an id is outside the table.
pub fn embedding_backward(exec: &Exec, ids: &[u32], dout: &[f32], dtable: &mut [f32]) {
    if ids.is_empty() {
        return assert!(dout.is_empty(), "gradient rows without tokens");
    }
    let d = check(ids, dtable.len(), dout.len());
    if exec.path() == Path::Scalar || exec.threads() == 1 || dout.len() < 1 << 16 {
        return reference::embedding::embedding_backward(ids, dout, dtable);
    }
    // Each task owns a range of the vocabulary and goes through all tokens. Frequent tokens have small ids in most
    // vocabularies, so there are many ranges to balance.
    let rows = (dtable.len() / d).div_ceil(exec.threads() * 8);
    exec.for_each_chunk(dtable, rows * d, |start, chunk| {
        let first = start / d;
        for (t, &id) in ids.iter().enumerate() {
            let Some(offset) = (id as usize).checked_sub(first).map(|row| row * d).filter(|&at| at < chunk.len())
            else {
                continue;
            };
            let target = &mut chunk[offset..offset + d];
            target.iter_mut().zip(&dout[t * d..][..d]).for_each(|(sum, &value)| *sum += value);
        }
    });
}
