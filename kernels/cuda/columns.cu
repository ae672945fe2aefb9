// One chain down each column of a matrix: gradients of norm weights (SEMANTICS.md §6), sums of columns (§4) and their
// means.
//
// A chain cannot be split, so a column is one thread's work and its latency the bound: 32 columns a block, whose eight
// warps fetch the next 64 rows while the first warp adds up the 64 before.
#include "common.cuh"

namespace columns {

static const u32 COLUMNS = 32;
static const u32 STAGE = 64;
static const u32 WARPS = 8;
static const u32 THREADS = COLUMNS * WARPS;
static const u32 EACH = STAGE / WARPS;

// A term has up to two factors, made where it is fetched; `fold` continues the chain.
struct NormWeight {
    const float* x;
    const float* rstd;
    const float* dy;
    typedef float Sum;
    __device__ __forceinline__ float2 fetch(u64 row, u64 at) const {
        float2 term;
        term.x = dy[at];
        term.y = f_mul(x[at], rstd[row]);
        return term;
    }
    __device__ __forceinline__ float fold(float2 term, float sum) const { return f_fma(term.x, term.y, sum); }
};
struct ColumnSum {
    const float* x;
    typedef float Sum;
    __device__ __forceinline__ float2 fetch(u64, u64 at) const {
        float2 term;
        term.x = x[at];
        term.y = 0.0f;
        return term;
    }
    __device__ __forceinline__ float fold(float2 term, float sum) const { return f_add(sum, term.x); }
};
struct ColumnSquares {
    const float* x;
    typedef float Sum;
    __device__ __forceinline__ float2 fetch(u64, u64 at) const {
        float2 term;
        term.x = f_mul(x[at], x[at]);
        term.y = 0.0f;
        return term;
    }
    __device__ __forceinline__ float fold(float2 term, float sum) const { return f_add(sum, term.x); }
};
struct ColumnMean {
    const float* x;
    typedef double Sum;
    __device__ __forceinline__ float2 fetch(u64, u64 at) const {
        float2 term;
        term.x = x[at];
        term.y = 0.0f;
        return term;
    }
    __device__ __forceinline__ double fold(float2 term, double sum) const { return sum + static_cast<double>(term.x); }
};

// The chain down column blockIdx.x · 32 + lane, continued from `sum`; its value is right in the first warp.
template <class Term>
DEVICE typename Term::Sum column_chain(const Term& term, u64 rows, u32 cols, typename Term::Sum sum) {
    __shared__ float2 stage[2][STAGE][COLUMNS];
    const u32 lane = threadIdx.x % COLUMNS, warp = threadIdx.x / COLUMNS;
    const u64 col = static_cast<u64>(blockIdx.x) * COLUMNS + lane;
    float2 held[EACH];
    u32 buffer = 0;
    for (u64 first = 0; first < rows + STAGE; first += STAGE) {
        if (col < cols) {
#pragma unroll
            for (u32 e = 0; e < EACH; e++) {
                const u64 row = first + e * WARPS + warp;
                if (row < rows) held[e] = term.fetch(row, row * cols + col);
            }
        }
        // What the turn before has staged. It is in the other buffer, so the fetches need not wait for it.
        if (first > 0 && warp == 0) {
            const u32 count = static_cast<u32>(least(rows - (first - STAGE), static_cast<u64>(STAGE)));
#pragma unroll 8
            for (u32 row = 0; row < count; row++) sum = term.fold(stage[buffer ^ 1][row][lane], sum);
        }
#pragma unroll
        for (u32 e = 0; e < EACH; e++) {
            if (first + e * WARPS + warp < rows) stage[buffer][e * WARPS + warp][lane] = held[e];
        }
        __syncthreads();
        buffer ^= 1;
    }
    return sum;
}

DEVICE u64 column() { return static_cast<u64>(blockIdx.x) * COLUMNS + threadIdx.x; }
DEVICE bool has_column(u32 cols) { return threadIdx.x < COLUMNS && column() < cols; }

extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_rmsnorm_backward_weight(const float* x, const float* rstd, const float* dy, float* dw, u64 rows, u32 cols) {
    const NormWeight term = {x, rstd, dy};
    const float sum = column_chain(term, rows, cols, has_column(cols) ? dw[column()] : 0.0f);
    if (has_column(cols)) dw[column()] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) essaim_col_sums(const float* x, float* out, u64 rows, u32 cols) {
    const ColumnSum term = {x};
    const float sum = column_chain(term, rows, cols, 0.0f);
    if (has_column(cols)) out[column()] = canonical(sum);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_col_sum_squares(const float* x, float* out, u64 rows, u32 cols) {
    const ColumnSquares term = {x};
    const float sum = column_chain(term, rows, cols, 0.0f);
    if (has_column(cols)) out[column()] = canonical(sum);
}

// Means in binary64, rounded once: for factored second moments.
extern "C" __global__ void __launch_bounds__(THREADS) essaim_col_means(const float* x, float* out, u64 rows, u32 cols) {
    const ColumnMean term = {x};
    const double sum = column_chain(term, rows, cols, 0.0);
    if (has_column(cols)) out[column()] = static_cast<float>(sum / static_cast<double>(rows));
}

}  // namespace columns
