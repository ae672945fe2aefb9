// Token embeddings, SEMANTICS.md §5.
//
// The gradient of a table's row is one sequence of additions over the tokens of that id, in order, without atomics: a
// first kernel links each token to the next of the same id; a second gives each id's first token the whole chain.
#include "common.cuh"

namespace embedding {

static const u32 THREADS = 256;
static const u32 STAGE = 1024;
static const u32 NONE = 0xffffffffu;

// out[tokens, d]. An id outside the table, which the host has refused, gives a row of NaN.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_embedding_forward(const u32* __restrict__ ids, const float* __restrict__ table, float* __restrict__ out,
                             u32 d, u64 vocab) {
    const u64 id = ids[blockIdx.x];
    const float* from = table + id * d;
    float* to = out + static_cast<u64>(blockIdx.x) * d;
    for (u32 j = blockIdx.y * THREADS + threadIdx.x; j < d; j += gridDim.y * THREADS)
        to[j] = id < vocab ? from[j] : canonical_nan();
}

// next[t] = the next token with the id of t, or NONE; first[t] = whether no token before t has it. Each block passes
// over all ids.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_embedding_links(const u32* __restrict__ ids, u32 tokens, u32* __restrict__ next, u32* __restrict__ first) {
    __shared__ u32 stage[STAGE];
    const u32 t = blockIdx.x * THREADS + threadIdx.x;
    const u32 id = t < tokens ? ids[t] : 0;
    u32 after = NONE;
    bool before = false;
    for (u32 start = 0; start < tokens; start += STAGE) {
        const u32 held = least(tokens - start, static_cast<u32>(STAGE));
        __syncthreads();
        for (u32 i = threadIdx.x; i < held; i += THREADS) stage[i] = ids[start + i];
        __syncthreads();
        if (start + held <= blockIdx.x * THREADS) {
            // All before the block's tokens.
#pragma unroll 8
            for (u32 i = 0; i < held; i++) before = before || stage[i] == id;
        } else {
#pragma unroll 8
            for (u32 i = 0; i < held; i++) {
                const bool same = stage[i] == id;
                before = before || (same && start + i < t);
                after = least(after, same && start + i > t ? start + i : NONE);
            }
        }
    }
    if (t >= tokens) return;
    next[t] = after;
    first[t] = before ? 0 : 1;
}

static const u32 CHASE = 8;

// dtable[id, ·] continues its chain: blockIdx.x is a token, and only an id's first has work; blockIdx.y cuts the
// columns.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_embedding_backward(const u32* __restrict__ ids, const u32* __restrict__ next, const u32* __restrict__ first,
                              const float* __restrict__ dout, float* __restrict__ dtable, u32 d, u64 vocab) {
    const u32 j = blockIdx.y * THREADS + threadIdx.x;
    const u64 id = ids[blockIdx.x];
    if (j >= d || first[blockIdx.x] == 0 || id >= vocab) return;
    float sum = dtable[id * d + j];
    u32 token = blockIdx.x;
    while (token != NONE) {
        // First where the rows are, then the rows, then the additions: so the rows are fetched at once.
        float rows[CHASE];
        u32 count = 0;
#pragma unroll
        for (u32 e = 0; e < CHASE; e++) {
            rows[e] = 0.0f;
            if (token != NONE) {
                rows[e] = dout[static_cast<u64>(token) * d + j];
                token = next[token];
                count = e + 1;
            }
        }
#pragma unroll
        for (u32 e = 0; e < CHASE; e++)
            if (e < count) sum = f_add(sum, rows[e]);
    }
    dtable[id * d + j] = sum;
}

}  // namespace embedding
