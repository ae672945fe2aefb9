// Rotary positions, SEMANTICS.md §7. A thread takes a pair of one row; blockIdx.y cuts rows that are wider than a
// block.
#include "common.cuh"

namespace rope {

static const u32 THREADS = 256;

// x[rows, heads, 2 · half], tables [seq, half]; `inverse` rotates back.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_rope(float* __restrict__ x, const float* __restrict__ cos, const float* __restrict__ sin, u32 seq, u32 heads,
                u32 half, u32 inverse) {
    const u32 pair = blockIdx.y * blockDim.x + threadIdx.x;
    if (pair >= heads * half) return;
    const u64 row = blockIdx.x;
    const u32 head = pair / half, i = pair % half;
    float* at = x + (row * heads + head) * (2 * half) + i;
    const u64 angle = (row % seq) * half + i;
    const float a = at[0], b = at[half], c = cos[angle];
    const float s = inverse ? -sin[angle] : sin[angle];
    at[0] = f_fma(a, c, -f_mul(b, s));
    at[half] = f_fma(b, c, f_mul(a, s));
}

}  // namespace rope
