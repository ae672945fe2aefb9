// Reductions, SEMANTICS.md §4, and the scalars of a step that depend on them.
#include "reduce.cuh"

namespace reduce {

static const u32 THREADS = ROW_WARPS * LANES;
static const u32 TREE_THREADS = 512;

// partial[blockIdx.x] = the tree over eight blocks of 4096 from element `group` on, one for each warp; `n` elements
// there are. Eight is a power of two, so this is a subtree of the tree over all blocks.
template <class Term>
DEVICE void sum_blocks(const Term& term, u64 group, u64 n, float* partial) {
    __shared__ float4 lanes[ROW_WARPS][LANES / 4];
    __shared__ float sums[ROW_WARPS];
    const u32 warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const u64 first = group + static_cast<u64>(warp) * SUM_BLOCK;
    float* mine = reinterpret_cast<float*>(lanes[warp]);
    mine[lane] = first < n ? lane_fold(term, first, least(first + SUM_BLOCK, n)) : 0.0f;
    __syncthreads();
    const float sum = lane_tree(mine);
    if (lane == 0) sums[warp] = sum;
    const u64 blocks = (n - group + SUM_BLOCK - 1) / SUM_BLOCK;
    block_tree(sums, static_cast<u32>(least(blocks, static_cast<u64>(ROW_WARPS))));
    if (threadIdx.x == 0) partial[blockIdx.x] = sums[0];
}

DEVICE u64 group_start() { return static_cast<u64>(blockIdx.x) * (ROW_WARPS * SUM_BLOCK); }

extern "C" __global__ void __launch_bounds__(THREADS) essaim_sum_blocks(const float* x, u64 n, float* partial) {
    const SumTerm term = {x};
    sum_blocks(term, group_start(), n, partial);
}
extern "C" __global__ void __launch_bounds__(THREADS) essaim_sum_squares_blocks(const float* x, u64 n, float* partial) {
    const SquareTerm term = {x};
    sum_blocks(term, group_start(), n, partial);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_dot_blocks(const float* __restrict__ x, const float* __restrict__ y, u64 n, float* partial) {
    const DotTerm term = {x, y};
    sum_blocks(term, group_start(), n, partial);
}

// The tree over partial[count], for up to 2^20 of them, by one block; right in its first thread.
DEVICE float tree_of(const float* partial, u32 count) {
    __shared__ float values[2 * TREE_THREADS];
    __shared__ float groups[2 * TREE_THREADS];
    const u32 width = 2 * TREE_THREADS;
    for (u32 first = 0; first < count; first += width) {
        const u32 held = least(count - first, width);
        for (u32 i = threadIdx.x; i < held; i += TREE_THREADS) values[i] = partial[first + i];
        block_tree(values, held);
        // Only this thread writes values[0] again.
        if (threadIdx.x == 0) groups[first / width] = values[0];
    }
    block_tree(groups, (count + width - 1) / width);
    return count > 0 && threadIdx.x == 0 ? canonical(groups[0]) : 0.0f;
}

extern "C" __global__ void __launch_bounds__(TREE_THREADS)
    essaim_sum_tree(const float* partial, u32 count, float* out) {
    const float sum = tree_of(partial, count);
    if (threadIdx.x == 0) out[0] = sum;
}

// Sums of squares of many tensors at once. parts[3 · blockIdx.x …] says where the block's elements begin, low half
// first, and how many they are.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_sum_squares_parts(const float* x, const u32* parts, float* partial) {
    const u32* part = parts + static_cast<u64>(blockIdx.x) * 3;
    const u64 start = part[0] | static_cast<u64>(part[1]) << 32, n = part[2];
    const SquareTerm term = {x + start};
    sum_blocks(term, 0, n, partial);
}

// out[blockIdx.x] = the tree over partial[firsts[blockIdx.x] … firsts[blockIdx.x + 1]).
extern "C" __global__ void __launch_bounds__(TREE_THREADS)
    essaim_sum_trees(const float* partial, const u32* firsts, float* out) {
    const u32 first = firsts[blockIdx.x];
    const float sum = tree_of(partial + first, firsts[blockIdx.x + 1] - first);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

template <class Term>
DEVICE void fold_rows(RowSums& shared, const Term& term, float* out, u64 rows, u64 row, u64 cols) {
    const float sum = row_fold(shared, term, cols, row < rows);
    if (row < rows && threadIdx.x % LANES == 0) out[row] = sum;
}

DEVICE u64 row_of_warp() { return static_cast<u64>(blockIdx.x) * ROW_WARPS + threadIdx.x / LANES; }

extern "C" __global__ void __launch_bounds__(THREADS) essaim_row_sums(const float* x, float* out, u64 rows, u64 cols) {
    __shared__ RowSums shared;
    const u64 row = row_of_warp();
    const SumTerm term = {x + row * cols};
    fold_rows(shared, term, out, rows, row, cols);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_row_sum_squares(const float* x, float* out, u64 rows, u64 cols) {
    __shared__ RowSums shared;
    const u64 row = row_of_warp();
    const RoundedSquareTerm term = {x + row * cols};
    fold_rows(shared, term, out, rows, row, cols);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_row_dots(const float* __restrict__ x, const float* __restrict__ y, float* out, u64 rows, u64 cols) {
    __shared__ RowSums shared;
    const u64 row = row_of_warp();
    const DotTerm term = {x + row * cols, y + row * cols};
    fold_rows(shared, term, out, rows, row, cols);
}

// Magnitudes order as their bits do, and a NaN is above every number.
DEVICE void store_largest(u32 largest, u32* out) {
    __shared__ u32 values[THREADS];
    values[threadIdx.x] = largest;
    __syncthreads();
    for (u32 width = THREADS / 2; width > 0; width /= 2) {
        if (threadIdx.x < width && values[threadIdx.x + width] > values[threadIdx.x])
            values[threadIdx.x] = values[threadIdx.x + width];
        __syncthreads();
    }
    if (threadIdx.x == 0) *out = values[0];
}

extern "C" __global__ void __launch_bounds__(THREADS) essaim_max_abs_blocks(const float* x, u64 n, u32* partial) {
    u32 largest = 0;
    for (u64 i = static_cast<u64>(blockIdx.x) * THREADS + threadIdx.x; i < n;
         i += static_cast<u64>(gridDim.x) * THREADS) {
        const u32 magnitude = __float_as_uint(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    store_largest(largest, partial + blockIdx.x);
}
extern "C" __global__ void __launch_bounds__(THREADS) essaim_max_abs(const u32* partial, u32 count, float* out) {
    u32 largest = 0;
    for (u32 i = threadIdx.x; i < count; i += THREADS) largest = partial[i] > largest ? partial[i] : largest;
    __shared__ u32 result;
    store_largest(largest, &result);
    if (threadIdx.x == 0) out[0] = canonical(__uint_as_float(result));
}

// out[0] = the root of the sum of squares[n], one after the other from +0; out[1] = max_norm / norm where the norm
// exceeds it, else 1.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_clip_factor(const float* squares, u32 n, float max_norm, float* out) {
    __shared__ float stage[THREADS];
    float sum = 0.0f;
    for (u32 first = 0; first < n; first += THREADS) {
        const u32 held = least(n - first, static_cast<u32>(THREADS));
        __syncthreads();
        if (threadIdx.x < held) stage[threadIdx.x] = squares[first + threadIdx.x];
        __syncthreads();
        if (threadIdx.x == 0)
            for (u32 i = 0; i < held; i++) sum = f_add(sum, stage[i]);
    }
    if (threadIdx.x > 0) return;
    const float norm = f_sqrt(sum);
    out[0] = norm;
    out[1] = norm > max_norm ? f_div(max_norm, norm) : 1.0f;
}

// out[0] = 1 / (sqrt(square) + eps).
extern "C" __global__ void __launch_bounds__(LANES) essaim_inverse_norm(const float* square, float eps, float* out) {
    if (threadIdx.x == 0) out[0] = f_div(1.0f, f_add(f_sqrt(square[0]), eps));
}

// go[0] = 1 if norm[0] and all of values[n] are finite, else 0. One block.
extern "C" __global__ void __launch_bounds__(TREE_THREADS)
    essaim_all_finite(const float* values, u64 n, const float* norm, u32* go) {
    __shared__ u32 broken[TREE_THREADS];
    u32 found = threadIdx.x == 0 && !finite(norm[0]) ? 1 : 0;
    for (u64 i = threadIdx.x; i < n; i += TREE_THREADS)
        if (!finite(values[i])) found = 1;
    broken[threadIdx.x] = found;
    __syncthreads();
    if (threadIdx.x > 0) return;
#pragma unroll 8
    for (u32 i = 1; i < TREE_THREADS; i++) found |= broken[i];
    go[0] = found ? 0 : 1;
}

// Means of rows in binary64, each one chain over the columns, rounded once: for factored second moments. 32 rows a
// block; its warps read 64 columns at a time, row by row, and the first warp adds them.
static const u32 MEAN_ROWS = 32;
static const u32 MEAN_COLS = 64;
extern "C" __global__ void __launch_bounds__(THREADS) essaim_row_means(const float* x, float* out, u64 rows, u64 cols) {
    __shared__ float stage[MEAN_ROWS][MEAN_COLS + 1];
    const u64 first_row = static_cast<u64>(blockIdx.x) * MEAN_ROWS;
    double sum = 0.0;
    for (u64 first = 0; first < cols; first += MEAN_COLS) {
        __syncthreads();
        for (u32 i = threadIdx.x; i < MEAN_ROWS * MEAN_COLS; i += THREADS) {
            const u64 row = first_row + i / MEAN_COLS, col = first + i % MEAN_COLS;
            if (row < rows && col < cols) stage[i / MEAN_COLS][i % MEAN_COLS] = x[row * cols + col];
        }
        __syncthreads();
        if (threadIdx.x < MEAN_ROWS && first_row + threadIdx.x < rows) {
            const u32 count = static_cast<u32>(least(cols - first, static_cast<u64>(MEAN_COLS)));
            for (u32 i = 0; i < count; i++) sum = sum + static_cast<double>(stage[threadIdx.x][i]);
        }
    }
    if (threadIdx.x < MEAN_ROWS && first_row + threadIdx.x < rows)
        out[first_row + threadIdx.x] = static_cast<float>(sum / static_cast<double>(cols));
}

// out[rows, cols] = (row[i] / mean) · col[j], 0 · col[j] where the mean is not positive. A block takes a piece of one
// row.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_span(const float* __restrict__ row, const float* __restrict__ col, const float* __restrict__ mean,
                float* __restrict__ out, u64 rows, u32 cols) {
    const u64 i = blockIdx.x;
    const float factor = mean[0] > 0.0f ? f_div(row[i], mean[0]) : 0.0f;
    for (u32 j = blockIdx.y * THREADS + threadIdx.x; j < cols; j += gridDim.y * THREADS)
        out[i * cols + j] = f_mul(factor, col[j]);
}

}  // namespace reduce
