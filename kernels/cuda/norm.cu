// RMS norm, SEMANTICS.md §6. A warp takes a row. The chains of the weights' gradient are in columns.cu.
#include "reduce.cuh"

namespace rms_norm {

static const u32 THREADS = ROW_WARPS * LANES;

// rstd[rows], y[rows, cols]
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_rmsnorm_forward(const float* __restrict__ x, const float* __restrict__ w, float eps, float* __restrict__ y,
                           float* __restrict__ rstd, u64 rows, u32 cols) {
    __shared__ RowSums shared;
    const u64 row = static_cast<u64>(blockIdx.x) * ROW_WARPS + threadIdx.x / LANES;
    const bool present = row < rows;
    const u64 start = present ? row * cols : 0;
    const SquareTerm term = {x + start};
    const float squares = row_fold(shared, term, cols, present);
    if (!present) return;
    const float scale = f_div(1.0f, f_sqrt(f_add(f_div(squares, static_cast<float>(cols)), eps)));
    if (threadIdx.x % LANES == 0) rstd[row] = scale;
#pragma unroll 4
    for (u32 j = threadIdx.x % LANES; j < cols; j += LANES) y[start + j] = f_mul(f_mul(x[start + j], scale), w[j]);
}

struct NormTerm {
    const float* x;
    const float* w;
    const float* dy;
    float scale;
    __device__ __forceinline__ float operator()(u64 j, float lane) const {
        return f_fma(f_mul(dy[j], w[j]), f_mul(x[j], scale), lane);
    }
};

// dx[rows, cols], stored or added to.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_rmsnorm_backward(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ rstd,
                            const float* __restrict__ dy, float* __restrict__ dx, u64 rows, u32 cols, u32 accumulate) {
    __shared__ RowSums shared;
    const u64 row = static_cast<u64>(blockIdx.x) * ROW_WARPS + threadIdx.x / LANES;
    const bool present = row < rows;
    const u64 start = present ? row * cols : 0;
    const float scale = present ? rstd[row] : 0.0f;
    const NormTerm term = {x + start, w, dy + start, scale};
    const float mean = f_div(row_fold(shared, term, cols, present), static_cast<float>(cols));
    if (!present) return;
#pragma unroll 4
    for (u32 j = threadIdx.x % LANES; j < cols; j += LANES) {
        const float normed = f_mul(x[start + j], scale);
        const float value = f_mul(scale, f_fma(-normed, mean, f_mul(dy[start + j], w[j])));
        dx[start + j] = accumulate ? f_add(dx[start + j], value) : value;
    }
}

}  // namespace rms_norm
