// Matrix products, SEMANTICS.md §2: every output is one chain of fused multiply-adds over k in increasing order.
//
// A block computes a tile of TILE × TILE outputs with 256 threads, each of them G × G groups of UNIT × UNIT outputs in
// registers (TILE = 16 · UNIT · G). Slices of DEPTH in k (TILE · DEPTH = 1024: four elements a thread) pass through two
// buffers of shared memory, k-major, so that a thread reads its operands as float4; while one slice is multiplied, the
// next is on its way in registers. Rows and columns beyond the matrix repeat the last one: what they give is not
// stored, and nothing is checked in the loop. The last, partial slice is multiplied term by term: k is never padded.
#include "common.cuh"

namespace gemm {

static const u32 THREADS = 256;

// The slice of one operand. `ALONG_K`: k is contiguous in memory, else the rows (columns) of C are.
// `VECTOR`: it can be read in float4 (addresses and strides, and for !ALONG_K also the count, are multiples of 4).
template <int TILE, int DEPTH, bool ALONG_K, bool VECTOR>
struct Slice {
    static const int PITCH = TILE + 4;
    const float* at;
    u32 advance;
    u32 offset[4];
    Four held;

    // Where this thread's four elements lie: in `outer` (row or column of C), or first of four; and in k, first of four
    // or row.
    DEVICE u32 outer_of() { return ALONG_K ? threadIdx.x / (DEPTH / 4) : threadIdx.x % (TILE / 4) * 4; }
    DEVICE u32 k_of() { return ALONG_K ? threadIdx.x % (DEPTH / 4) * 4 : threadIdx.x / (TILE / 4); }

    __device__ __forceinline__ void start(const float* matrix, u32 stride, u32 first, u32 count) {
        const u32 outer = first + outer_of();
        if (ALONG_K) {
            at = matrix + static_cast<u64>(least(outer, count - 1)) * stride + k_of();
            advance = DEPTH;
        } else {
            at = matrix + static_cast<u64>(k_of()) * stride;
            advance = DEPTH * stride;
            if (VECTOR) {
                at += least(outer, count - 4);
            } else {
#pragma unroll
                for (u32 e = 0; e < 4; e++) offset[e] = least(outer + e, count - 1);
            }
        }
    }

    // Reads the next whole slice into registers.
    __device__ __forceinline__ void load() {
        if (VECTOR) {
            held = read_four(at);
        } else {
#pragma unroll
            for (u32 e = 0; e < 4; e++) held.at[e] = at[ALONG_K ? e : offset[e]];
        }
        at += advance;
    }

    // As load, of a slice with only `left` terms; what is absent is not read.
    __device__ __forceinline__ void load_part(u32 left) {
#pragma unroll
        for (u32 e = 0; e < 4; e++) {
            const bool present = k_of() + (ALONG_K ? e : 0) < left;
            held.at[e] = present ? at[ALONG_K || VECTOR ? e : offset[e]] : 0.0f;
        }
    }

    // From registers to shared memory, k-major.
    __device__ __forceinline__ void store(float* tile) const {
        if (ALONG_K) {
#pragma unroll
            for (u32 e = 0; e < 4; e++) tile[(k_of() + e) * PITCH + outer_of()] = held.at[e];
        } else {
            write_four(tile + k_of() * PITCH + outer_of(), held);
        }
    }
};

// Neighbours in a row of memory, as far apart as one access reads.
template <int UNIT>
DEVICE void read_unit(float values[UNIT], const float* from) {
    if (UNIT == 4) {
        const Four four = read_four(from);
#pragma unroll
        for (int e = 0; e < UNIT; e++) values[e] = four.at[e];
    } else {
        const float2 two = *reinterpret_cast<const float2*>(from);
        values[0] = two.x;
        values[1] = two.y;
    }
}

template <int UNIT>
DEVICE void write_unit(float* to, const float values[UNIT]) {
    if (UNIT == 4) {
        Four four;
#pragma unroll
        for (int e = 0; e < UNIT; e++) four.at[e] = values[e];
        write_four(to, four);
    } else {
        float2 two;
        two.x = values[0];
        two.y = values[1];
        *reinterpret_cast<float2*>(to) = two;
    }
}

// The tile of C in registers: G × G groups of UNIT × UNIT for each thread. A warp covers 4 · UNIT · G rows and 8 · UNIT
// · G columns, as 4 × 8 threads: their reads of shared memory have no bank conflict.
template <int UNIT, int G, bool VECTOR>
struct Outputs {
    static const int SIDE = UNIT * G;
    // From one group of a thread to its next.
    static const int ROW_STEP = 4 * UNIT;
    static const int COL_STEP = 8 * UNIT;
    float sum[SIDE][SIDE];

    DEVICE u32 row_of(int i) {
        return threadIdx.x / 64 * (ROW_STEP * G) + i / UNIT * ROW_STEP + threadIdx.x % 32 / 8 * UNIT + i % UNIT;
    }
    DEVICE u32 col_of(int group) {
        return threadIdx.x / 32 % 2 * (COL_STEP * G) + group * COL_STEP + threadIdx.x % 8 * UNIT;
    }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < SIDE; i++)
#pragma unroll
            for (int j = 0; j < SIDE; j++) sum[i][j] = 0.0f;
    }

    // Starts the chains from C.
    __device__ __forceinline__ void load(const float* c, u32 stride, u32 row, u32 col, u32 m, u32 n) {
#pragma unroll
        for (int i = 0; i < SIDE; i++) {
            const u32 at_row = row + row_of(i);
#pragma unroll
            for (int g = 0; g < G; g++) {
                const u32 at_col = col + col_of(g);
                const float* from = c + static_cast<u64>(at_row) * stride + at_col;
                if (at_row >= m) continue;
                if (VECTOR && at_col < n) {
                    read_unit<UNIT>(sum[i] + UNIT * g, from);
                } else {
#pragma unroll
                    for (int e = 0; e < UNIT; e++)
                        if (at_col + e < n) sum[i][UNIT * g + e] = from[e];
                }
            }
        }
    }

    __device__ __forceinline__ void store(float* c, u32 stride, u32 row, u32 col, u32 m, u32 n) const {
#pragma unroll
        for (int i = 0; i < SIDE; i++) {
            const u32 at_row = row + row_of(i);
#pragma unroll
            for (int g = 0; g < G; g++) {
                const u32 at_col = col + col_of(g);
                float* to = c + static_cast<u64>(at_row) * stride + at_col;
                if (at_row >= m) continue;
                if (VECTOR && at_col < n) {
                    write_unit<UNIT>(to, sum[i] + UNIT * g);
                } else {
#pragma unroll
                    for (int e = 0; e < UNIT; e++)
                        if (at_col + e < n) to[e] = sum[i][UNIT * g + e];
                }
            }
        }
    }

    // One term of every chain.
    __device__ __forceinline__ void step(const float a[SIDE], const float b[SIDE]) {
#pragma unroll
        for (int i = 0; i < SIDE; i++)
#pragma unroll
            for (int j = 0; j < SIDE; j++) sum[i][j] = f_fma(a[i], b[j], sum[i][j]);
    }
};

// This thread's operands of one term, from rows (columns) that are `STEP` apart.
template <int UNIT, int G, int STEP>
DEVICE void fragment(float values[UNIT * G], const float* from) {
#pragma unroll
    for (int g = 0; g < G; g++) read_unit<UNIT>(values + UNIT * g, from + g * STEP);
}

template <int UNIT, int G, int DEPTH, bool A_ALONG_K, bool B_ALONG_K, bool VECTOR>
DEVICE void gemm_tile(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, u32 m, u32 n,
                      u32 k, u32 lda, u32 ldb, u32 ldc, u32 accumulate) {
    const int TILE = 16 * UNIT * G, PITCH = TILE + 4;
    const u32 BUFFER = DEPTH * PITCH;
    __shared__ float4 shared_a[2 * BUFFER / 4];
    __shared__ float4 shared_b[2 * BUFFER / 4];
    float* const tile_a = reinterpret_cast<float*>(shared_a);
    float* const tile_b = reinterpret_cast<float*>(shared_b);

    // Blocks go down eight tiles before they go to the next column, so that those in flight share rows and columns in
    // the L2 cache.
    const u32 tiles_m = (m + TILE - 1) / TILE, tiles_n = (n + TILE - 1) / TILE;
    const u32 band = blockIdx.x / (8 * tiles_n), within = blockIdx.x % (8 * tiles_n);
    const u32 band_rows = least(tiles_m - 8 * band, 8u);
    const u32 row = (8 * band + within % band_rows) * TILE, col = within / band_rows * TILE;
    // They wait for the end in shared memory: in the loop every register counts.
    __shared__ u32 corner[2];
    if (threadIdx.x == 0) {
        corner[0] = row;
        corner[1] = col;
    }

    Slice<TILE, DEPTH, A_ALONG_K, VECTOR> slice_a;
    Slice<TILE, DEPTH, B_ALONG_K, VECTOR> slice_b;
    slice_a.start(a, lda, row, m);
    slice_b.start(b, ldb, col, n);
    typedef Outputs<UNIT, G, VECTOR> Tile;
    const int SIDE = Tile::SIDE, ROWS = Tile::ROW_STEP, COLS = Tile::COL_STEP;
    Tile outputs;
    outputs.clear();
    if (accumulate) outputs.load(c, ldc, row, col, m, n);

    const u32 slices = k / DEPTH, left = k % DEPTH;
    const float* const mine_a = tile_a + outputs.row_of(0);
    const float* const mine_b = tile_b + outputs.col_of(0);
    if (slices > 0) {
        slice_a.load();
        slice_b.load();
        slice_a.store(tile_a);
        slice_b.store(tile_b);
    }
    __syncthreads();
    for (u32 slice = 0; slice < slices; slice++) {
        const bool more = slice + 1 < slices;
        if (more) {
            slice_a.load();
            slice_b.load();
        }
        const float* from_a = mine_a + (slice & 1) * BUFFER;
        const float* from_b = mine_b + (slice & 1) * BUFFER;
        float x[2][SIDE], y[2][SIDE];
        fragment<UNIT, G, ROWS>(x[0], from_a);
        fragment<UNIT, G, COLS>(y[0], from_b);
#pragma unroll
        for (int p = 0; p < DEPTH; p++) {
            if (p + 1 < DEPTH) {
                fragment<UNIT, G, ROWS>(x[(p + 1) & 1], from_a + (p + 1) * PITCH);
                fragment<UNIT, G, COLS>(y[(p + 1) & 1], from_b + (p + 1) * PITCH);
            }
            outputs.step(x[p & 1], y[p & 1]);
        }
        // The other buffer was read last before the barrier that ended the previous turn.
        if (more) {
            slice_a.store(tile_a + ((slice + 1) & 1) * BUFFER);
            slice_b.store(tile_b + ((slice + 1) & 1) * BUFFER);
        }
        __syncthreads();
    }
    if (left > 0) {
        slice_a.load_part(left);
        slice_b.load_part(left);
        slice_a.store(tile_a);
        slice_b.store(tile_b);
        __syncthreads();
#pragma unroll 1
        for (u32 p = 0; p < left; p++) {
            float x[SIDE], y[SIDE];
            fragment<UNIT, G, ROWS>(x, mine_a + p * PITCH);
            fragment<UNIT, G, COLS>(y, mine_b + p * PITCH);
            outputs.step(x, y);
        }
    }
    outputs.store(c, ldc, corner[0], corner[1], m, n);
}

#define PARAMETERS \
    const float *a, const float *b, float *c, u32 m, u32 n, u32 k, u32 lda, u32 ldb, u32 ldc, u32 accumulate
#define ARGUMENTS a, b, c, m, n, k, lda, ldb, ldc, accumulate

// Large tiles.
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_gemm_nn_large(PARAMETERS) {
    gemm_tile<4, 2, 8, true, false, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_gemm_nt_large(PARAMETERS) {
    gemm_tile<4, 2, 8, true, true, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_gemm_tn_large(PARAMETERS) {
    gemm_tile<4, 2, 8, false, false, true>(ARGUMENTS);
}

// Small tiles.
extern "C" __global__ void __launch_bounds__(THREADS, 3) essaim_gemm_nn_small(PARAMETERS) {
    gemm_tile<4, 1, 16, true, false, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(THREADS, 3) essaim_gemm_nt_small(PARAMETERS) {
    gemm_tile<4, 1, 16, true, true, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(THREADS, 3) essaim_gemm_tn_small(PARAMETERS) {
    gemm_tile<4, 1, 16, false, false, true>(ARGUMENTS);
}

// Tiles of 32 × 32, for products with few outputs: a chain cannot be split, so these alone give work to a whole device.
extern "C" __global__ void __launch_bounds__(THREADS, 4) essaim_gemm_nn_tiny(PARAMETERS) {
    gemm_tile<2, 1, 32, true, false, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(THREADS, 4) essaim_gemm_nt_tiny(PARAMETERS) {
    gemm_tile<2, 1, 32, true, true, true>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(THREADS, 4) essaim_gemm_tn_tiny(PARAMETERS) {
    gemm_tile<2, 1, 32, false, false, true>(ARGUMENTS);
}

// Small tiles, for sizes and strides that are no multiples of four.
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_gemm_nn_any(PARAMETERS) {
    gemm_tile<4, 1, 16, true, false, false>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_gemm_nt_any(PARAMETERS) {
    gemm_tile<4, 1, 16, true, true, false>(ARGUMENTS);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_gemm_tn_any(PARAMETERS) {
    gemm_tile<4, 1, 16, false, false, false>(ARGUMENTS);
}

#undef PARAMETERS
#undef ARGUMENTS

}  // namespace gemm
