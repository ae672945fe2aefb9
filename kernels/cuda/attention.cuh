// Causal attention with grouped keys and values, SEMANTICS.md §8.
//
// The exact order forbids rescaling: a row's maximum, then its sum of exponentials, then its outputs. So the forward
// pass goes over the keys three times and computes the scores anew each time: no score ever leaves the multiprocessor,
// and memory does not grow with seq². The backward pass has maxima and sums from the forward pass, and computes the
// probabilities from them.
//
// A block has 256 threads and a tile of 64 rows (queries; in the last kernel keys) by 64 others. Products over the
// head's elements pass 32 of them at a time through shared memory, [row][element]; a tile of probabilities stays there,
// [row][other], and is multiplied with rows of values. Masked pairs are computed and not used: in a tile on the
// diagonal each term is taken or left, never multiplied by zero.
#pragma once
#include "math.cuh"
#include "reduce.cuh"

namespace attention {

static const u32 THREADS = 256;
static const u32 TILE = 64;
// Elements of a head in shared memory at a time, and the distances of rows there: 8 threads next to each other read 8
// rows without a bank conflict.
static const u32 DEPTH = 32;
static const u32 DEPTH_PITCH = 36;
static const u32 TILE_PITCH = 68;
static const u32 STAGE_FLOATS = 2 * TILE * DEPTH_PITCH;

// Rows of one head in a tensor [batch, seq, heads, head_dim]: row i starts at `base + i * stride`.
struct Rows {
    const float* base;
    u32 stride;
};

DEVICE u64 head_offset(u64 batch, u32 seq, u32 heads, u32 head, u32 head_dim) {
    return (batch * seq * heads + head) * head_dim;
}

DEVICE Rows rows_of(const float* tensor, u64 batch, u32 seq, u32 heads, u32 head, u32 head_dim) {
    Rows rows;
    rows.base = tensor + head_offset(batch, seq, heads, head, head_dim);
    rows.stride = heads * head_dim;
    return rows;
}

// A thread's 4 × 4 of a 64 × 64 tile: rows row_of(0 … 3) and columns column_of(0 … 3). A warp has 4 × 8 threads.
DEVICE u32 row_of(u32 r) { return threadIdx.x / 64 * 16 + threadIdx.x % 32 / 8 + 4 * r; }
DEVICE u32 column_of(u32 c) { return threadIdx.x / 32 % 2 * 32 + threadIdx.x % 8 + 8 * c; }
// The same rows, and CW columns of a tile [64, 16 · CW]: runs of four (or all of two).
template <int CW>
DEVICE u32 value_column_of(u32 c) {
    const u32 run = CW < 4 ? CW : 4;
    return threadIdx.x / 32 % 2 * (8 * CW) + c / run * 32 + threadIdx.x % 8 * run + c % run;
}

// Four elements of a row from x on; those beyond head_dim are others, and their terms are not taken.
DEVICE Four row_four(const Rows& rows, u32 row, u32 x, u32 head_dim, bool vector) {
    const float* from = rows.base + static_cast<u64>(row) * rows.stride;
    if (vector) return read_four(from + least(x, head_dim - 4));
    Four four;
#pragma unroll
    for (u32 e = 0; e < 4; e++) four.at[e] = from[least(x + e, head_dim - 1)];
    return four;
}

// Rows first … first + 63 (beyond the last: the last again), elements x … x + 31, to `stage`.
DEVICE void stage_rows(float* stage, const Rows& rows, u32 first, u32 seq, u32 x, u32 head_dim, bool vector) {
    const u32 quad = threadIdx.x % 8 * 4;
#pragma unroll
    for (u32 row = threadIdx.x / 8; row < TILE; row += THREADS / 8)
        write_four(stage + row * DEPTH_PITCH + quad,
                   row_four(rows, least(first + row, seq - 1), x + quad, head_dim, vector));
}

// sum[r][c] = the chain over the head's elements of row row_of(r) of `left` and row column_of(c) of `right`.
template <int UNROLL>
DEVICE void product(float sum[4][4], float* stage, const Rows& left, u32 left_first, const Rows& right, u32 right_first,
                    u32 seq, u32 head_dim, bool vector) {
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) sum[r][c] = 0.0f;
    float* const stage_right = stage + TILE * DEPTH_PITCH;
    const float* const my_left = stage + row_of(0) * DEPTH_PITCH;
    const float* const my_right = stage_right + column_of(0) * DEPTH_PITCH;
#pragma unroll 1
    for (u32 x = 0; x < head_dim; x += DEPTH) {
        __syncthreads();
        stage_rows(stage, left, left_first, seq, x, head_dim, vector);
        stage_rows(stage_right, right, right_first, seq, x, head_dim, vector);
        __syncthreads();
        const u32 depth = least(head_dim - x, static_cast<u32>(DEPTH));
#pragma unroll UNROLL
        for (u32 p = 0; p + 4 <= depth; p += 4) {
            Four a[4], b[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                a[i] = read_four(my_left + 4 * i * DEPTH_PITCH + p);
                b[i] = read_four(my_right + 8 * i * DEPTH_PITCH + p);
            }
#pragma unroll
            for (int e = 0; e < 4; e++)
#pragma unroll
                for (int r = 0; r < 4; r++)
#pragma unroll
                    for (int c = 0; c < 4; c++) sum[r][c] = f_fma(a[r].at[e], b[c].at[e], sum[r][c]);
        }
#pragma unroll 1
        for (u32 p = depth & ~3u; p < depth; p++) {
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    sum[r][c] = f_fma(my_left[4 * r * DEPTH_PITCH + p], my_right[8 * c * DEPTH_PITCH + p], sum[r][c]);
        }
    }
}

DEVICE void store_tile(float* tile, const float values[4][4]) {
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) tile[row_of(r) * TILE_PITCH + column_of(c)] = values[r][c];
}

// This thread's CW columns of a row of values in shared memory.
template <int CW>
DEVICE void read_values(float values[CW], const float* row) {
    if (CW == 2) {
        const float2 two = *reinterpret_cast<const float2*>(row + value_column_of<CW>(0));
        values[0] = two.x;
        values[1] = two.y;
    } else {
#pragma unroll
        for (int c = 0; c < CW; c += 4) {
            const Four four = read_four(row + value_column_of<CW>(c));
#pragma unroll
            for (int e = 0; e < 4; e++) values[c + e] = four.at[e];
        }
    }
}

// Which terms of the chains of this thread's rows are present, of p from 0 to 63: low + r · low_step ≤ p < high + r ·
// high_step.
struct Present {
    int low;
    int low_step;
    int high;
    int high_step;
};

// Continues sum[r][c] over p = start … start + count - 1; row p - start of `stage` holds the values.
template <int CW, bool ALL>
DEVICE void accumulate_staged(float sum[4][CW], const float* mine, const float* stage, u32 start, u32 count,
                              const Present& present) {
#pragma unroll 1
    for (u32 p = 0; p < count; p += 4) {
        Four a[4];
#pragma unroll
        for (int r = 0; r < 4; r++) a[r] = read_four(mine + 4 * r * TILE_PITCH + start + p);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float b[CW];
            read_values<CW>(b, stage + (p + e) * (16 * CW));
            const int term = static_cast<int>(start + p) + e;
#pragma unroll
            for (int r = 0; r < 4; r++) {
                if (ALL ||
                    (present.low + r * present.low_step <= term && term < present.high + r * present.high_step)) {
#pragma unroll
                    for (int c = 0; c < CW; c++) sum[r][c] = f_fma(a[r].at[e], b[c], sum[r][c]);
                }
            }
        }
    }
}

// Continues sum[r][c] over p = 0 … 63 with (tile[row_of(r)][p], rows[first + p][column + value_column_of(c)]): all of
// them, or those present.
template <int CW>
DEVICE void accumulate(float sum[4][CW], const float* tile, float* stage, const Rows& rows, u32 first, u32 seq,
                       u32 column, u32 head_dim, bool vector, bool all, const Present& present) {
    const u32 WIDTH = 16 * CW, AT_ONCE = CW <= 4 ? 64 : 32;
    const float* const mine = tile + row_of(0) * TILE_PITCH;
#pragma unroll 1
    for (u32 start = 0; start < TILE; start += AT_ONCE) {
        __syncthreads();
#pragma unroll
        for (u32 i = threadIdx.x; i < AT_ONCE * WIDTH / 4; i += THREADS) {
            const u32 row = i / (WIDTH / 4), x = i % (WIDTH / 4) * 4;
            write_four(stage + row * WIDTH + x,
                       row_four(rows, least(first + start + row, seq - 1), column + x, head_dim, vector));
        }
        __syncthreads();
        if (all) {
            accumulate_staged<CW, true>(sum, mine, stage, start, AT_ONCE, present);
        } else {
            accumulate_staged<CW, false>(sum, mine, stage, start, AT_ONCE, present);
        }
    }
}

template <int CW>
DEVICE void clear(float sum[4][CW]) {
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < CW; c++) sum[r][c] = 0.0f;
}

// Writes rows first + row_of(r), columns column + value_column_of(c), of one head that begins at `base`.
template <int CW>
DEVICE void store_rows(float* base, u32 stride, const float sum[4][CW], u32 first, u32 seq, u32 column, u32 head_dim) {
#pragma unroll
    for (int r = 0; r < 4; r++) {
        const u32 row = first + row_of(r);
#pragma unroll
        for (int c = 0; c < CW; c++) {
            const u32 x = column + value_column_of<CW>(c);
            if (row < seq && x < head_dim) base[static_cast<u64>(row) * stride + x] = sum[r][c];
        }
    }
}

// The sizes of the attention, as the kernels get them.
struct Shape {
    u32 seq;
    u32 heads;
    u32 kv_heads;
    u32 head_dim;
    float scale;
    bool vector;
};

// A block's own tile and head.
struct Place {
    u32 first;
    u64 batch;
    u32 head;
    u32 column;
};

// For the tile of keys from `key` on and the queries from `query` on: which keys each of this thread's queries sees.
DEVICE Present keys_present(u32 query, u32 key) {
    Present present;
    present.low = 0;
    present.low_step = 0;
    present.high = static_cast<int>(query + row_of(0) - key) + 1;
    present.high_step = 4;
    return present;
}

DEVICE Place query_place(const Shape& shape, u32 width) {
    // The last queries see most keys: they start first.
    const u32 tiles = (shape.seq + TILE - 1) / TILE;
    Place place;
    place.first = (tiles - 1 - blockIdx.x % tiles) * TILE;
    place.batch = blockIdx.x / tiles / shape.heads;
    place.head = blockIdx.x / tiles % shape.heads;
    place.column = blockIdx.y * width;
    return place;
}

DEVICE Shape shape_of(u32 seq, u32 heads, u32 kv_heads, u32 head_dim, float scale, u32 vector) {
    Shape shape;
    shape.seq = seq;
    shape.heads = heads;
    shape.kv_heads = kv_heads;
    shape.head_dim = head_dim;
    shape.scale = scale;
    shape.vector = vector != 0;
    return shape;
}

#define ATTENTION_SIZES u32 seq, u32 heads, u32 kv_heads, u32 head_dim, float scale, u32 vector
#define ATTENTION_SHAPE shape_of(seq, heads, kv_heads, head_dim, scale, vector)

}  // namespace attention
