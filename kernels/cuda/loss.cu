// Cross entropy over the vocabulary, SEMANTICS.md §10. A block takes a row; each of its warps the 32 lanes of one block
// of 4096 at a time.
#include "math.cuh"
#include "reduce.cuh"

namespace loss {

static const u32 THREADS = 512;
static const u32 WARPS = THREADS / LANES;
// Rows of up to 2^21 logits.
static const u32 BLOCKS = 512;

struct LossShared {
    float4 lanes[WARPS][LANES / 4];
    float blocks[BLOCKS];
    float largest[THREADS];
};

// The row maximum of SEMANTICS.md §4.
DEVICE float row_maximum(LossShared& shared, const float* row, u32 vocab) {
    float largest = -infinity();
#pragma unroll 4
    for (u32 j = threadIdx.x; j < vocab; j += blockDim.x) largest = row[j] > largest ? row[j] : largest;
    shared.largest[threadIdx.x] = largest;
    __syncthreads();
    for (u32 count = blockDim.x; count > 1;) {
        const u32 half = (count + 1) / 2;
        if (threadIdx.x + half < count) {
            const float other = shared.largest[threadIdx.x + half];
            if (other > shared.largest[threadIdx.x]) shared.largest[threadIdx.x] = other;
        }
        __syncthreads();
        count = half;
    }
    return f_add(shared.largest[0], 0.0f);
}

struct ExpTerm {
    const float* row;
    float largest;
    __device__ __forceinline__ float operator()(u64 j, float lane) const {
        return f_add(lane, exact_exp(f_sub(row[j], largest)));
    }
};

// The sum of exp(row - largest), for all threads.
DEVICE float row_exponentials(LossShared& shared, const float* row, float largest, u32 vocab) {
    const u32 warp = threadIdx.x / LANES, lane = threadIdx.x % LANES, warps = blockDim.x / LANES;
    const u32 blocks = (vocab + SUM_BLOCK - 1) / SUM_BLOCK;
    const ExpTerm term = {row, largest};
    float* lanes = reinterpret_cast<float*>(shared.lanes[warp]);
    for (u32 turn = 0; turn < blocks; turn += warps) {
        const u32 block = turn + warp, first = block * SUM_BLOCK;
        const float value = block < blocks ? lane_fold(term, first, least(first + SUM_BLOCK, vocab)) : 0.0f;
        __syncthreads();
        lanes[lane] = value;
        __syncthreads();
        const float sum = lane_tree(lanes);
        if (lane == 0 && block < blocks) shared.blocks[block] = sum;
    }
    block_tree(shared.blocks, blocks);
    return canonical(shared.blocks[0]);
}

// losses[blockIdx.x]; with a gradient, logits[blockIdx.x, ·] = (p - [target]) · grad_scale. A target outside the
// vocabulary, which the host has refused, gives NaN.
template <bool GRADIENT>
DEVICE void cross_entropy(float* logits, const u32* targets, float* losses, float grad_scale, u32 vocab) {
    __shared__ LossShared shared;
    float* row = logits + static_cast<u64>(blockIdx.x) * vocab;
    const u32 target = targets[blockIdx.x];
    const float largest = row_maximum(shared, row, vocab);
    const float sum = row_exponentials(shared, row, largest, vocab);
    if (threadIdx.x == 0) {
        const float of_target = target < vocab ? row[target] : canonical_nan();
        losses[blockIdx.x] = canonical(f_sub(exact_log(sum), f_sub(of_target, largest)));
    }
    if (!GRADIENT) return;
    __syncthreads();
    const float inverse = f_div(1.0f, sum);
#pragma unroll 4
    for (u32 j = threadIdx.x; j < vocab; j += blockDim.x) {
        const float probability = f_mul(exact_exp(f_sub(row[j], largest)), inverse);
        row[j] = f_mul(j == target ? f_sub(probability, 1.0f) : probability, grad_scale);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_cross_entropy_losses(const float* logits, const u32* targets, float* losses, u32 vocab) {
    cross_entropy<false>(const_cast<float*>(logits), targets, losses, 0.0f, vocab);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_cross_entropy_forward_backward(float* logits, const u32* targets, float* losses, float grad_scale,
                                          u32 vocab) {
    cross_entropy<true>(logits, targets, losses, grad_scale, vocab);
}

}  // namespace loss
