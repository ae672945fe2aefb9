// The fixed order of sums, SEMANTICS.md §4: 32 strided lanes in each block of 4096 elements, one tree over lanes, one
// over blocks.
//
// A warp is a block's 32 lanes. Trees read their leaves from shared memory, so each thread can have the result.
#pragma once
#include "common.cuh"

static const u32 LANES = 32;
static const u32 SUM_BLOCK = 4096;
// Levels that the tree over the blocks of a row can have: rows of up to 2^32 elements.
static const u32 LEVELS = 21;

// Lane i takes lane i + 16, then i + 8, 4, 2, 1. `lanes`: 32 floats, aligned to 16 bytes.
DEVICE float lane_tree(const float* lanes) {
    float sum[16];
#pragma unroll
    for (int quad = 0; quad < 4; quad++) {
        const Four low = read_four(lanes + 4 * quad), high = read_four(lanes + 16 + 4 * quad);
#pragma unroll
        for (int e = 0; e < 4; e++) sum[4 * quad + e] = f_add(low.at[e], high.at[e]);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] = f_add(sum[i], sum[i + 8]);
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] = f_add(sum[i], sum[i + 4]);
    return f_add(f_add(sum[0], sum[2]), f_add(sum[1], sum[3]));
}

// The tree over `count` blocks, by all threads of the block: twice their number at most. The result is values[0], for
// all to read.
DEVICE void block_tree(float* values, u32 count) {
    while (count > 1) {
        const u32 half = (count + 1) / 2, i = threadIdx.x;
        float sum = 0.0f;
        __syncthreads();
        if (i < half) sum = 2 * i + 1 < count ? f_add(values[2 * i], values[2 * i + 1]) : values[2 * i];
        __syncthreads();
        if (i < half) values[i] = sum;
        count = half;
    }
    __syncthreads();
}

// The same tree fed one block after the other: `stack[level]` holds a finished subtree of 2^level blocks where bit
// `level` of `count` is set.
DEVICE void push_block(float* stack, u32 stride, u32 count, float sum) {
    u32 level = 0;
    for (; count >> level & 1; level++) sum = f_add(stack[level * stride], sum);
    stack[level * stride] = sum;
}

// What the tree over `count` pushed blocks comes to: an odd last one rises unchanged. +0 for none.
DEVICE float finish_blocks(const float* stack, u32 stride, u32 count) {
    if (count == 0) return 0.0f;
    u32 level = 0;
    while (!(count >> level & 1)) level++;
    float sum = stack[level * stride];
    for (level++; count >> level; level++)
        if (count >> level & 1) sum = f_add(stack[level * stride], sum);
    return sum;
}

// What a lane does with element i.
struct SumTerm {
    const float* x;
    __device__ __forceinline__ float operator()(u64 i, float lane) const { return f_add(lane, x[i]); }
};
struct SquareTerm {
    const float* x;
    __device__ __forceinline__ float operator()(u64 i, float lane) const { return f_fma(x[i], x[i], lane); }
};
// Squares rounded before they are added.
struct RoundedSquareTerm {
    const float* x;
    __device__ __forceinline__ float operator()(u64 i, float lane) const { return f_add(lane, f_mul(x[i], x[i])); }
};
struct DotTerm {
    const float* x;
    const float* y;
    __device__ __forceinline__ float operator()(u64 i, float lane) const { return f_fma(x[i], y[i], lane); }
};

// One lane's part of the elements first … last of a block: those at first + lane + 32 t.
template <class Term>
DEVICE float lane_fold(const Term& term, u64 first, u64 last) {
    float lane = 0.0f;
#pragma unroll 8
    for (u64 i = first + threadIdx.x % LANES; i < last; i += LANES) lane = term(i, lane);
    return lane;
}

static const u32 ROW_WARPS = 8;

// Shared memory for `row_fold`.
struct RowSums {
    float4 lanes[ROW_WARPS][LANES / 4];
    float stack[ROW_WARPS][LEVELS];
};

// The sum over a row of `cols` elements, folded by `term` (of index within the row), for each warp of a block of
// ROW_WARPS warps. All threads of the block must call it with the same `cols`; a warp without a row says so by
// `present`. Each thread gets its warp's sum, canonical if NaN.
template <class Term>
DEVICE float row_fold(RowSums& shared, const Term& term, u64 cols, bool present) {
    const u32 warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    float* lanes = reinterpret_cast<float*>(shared.lanes[warp]);
    const u32 blocks = static_cast<u32>((cols + SUM_BLOCK - 1) / SUM_BLOCK);
    float sum = 0.0f;
    for (u32 block = 0; block < blocks; block++) {
        const u64 first = static_cast<u64>(block) * SUM_BLOCK;
        const float value = present ? lane_fold(term, first, least(first + SUM_BLOCK, cols)) : 0.0f;
        __syncthreads();
        lanes[lane] = value;
        __syncthreads();
        sum = lane_tree(lanes);
        if (blocks > 1 && lane == 0) push_block(shared.stack[warp], 1, block, sum);
    }
    if (blocks > 1) {
        __syncthreads();
        sum = finish_blocks(shared.stack[warp], 1, blocks);
    }
    // The next call's first barrier comes after its loads, which leave shared memory alone.
    return canonical(sum);
}
