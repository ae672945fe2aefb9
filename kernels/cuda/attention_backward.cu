// Attention, backward: dq with queries as rows, then dk and dv with keys as rows.
#include "attention.cuh"

namespace attention {

struct BackwardShared {
    float4 stage[STAGE_FLOATS / 4];
    float4 tile[TILE * TILE_PITCH / 4];
    // Of each query of the tile: the row's maximum, the inverse of its sum, and dot(dout, out).
    float largest[TILE];
    float inverse[TILE];
    float mean[TILE];
};

// Fetches what belongs to the queries from `first` on; it is there after the next barrier.
DEVICE void stage_queries(BackwardShared& shared, const float* stats, const float* means, const Shape& shape, u64 batch,
                          u32 head, u32 first) {
    if (threadIdx.x >= TILE) return;
    const u64 row = least(first + threadIdx.x, shape.seq - 1);
    const float* from = stats + ((batch * shape.heads + head) * shape.seq + row) * 2;
    shared.largest[threadIdx.x] = from[0];
    shared.inverse[threadIdx.x] = from[1];
    shared.mean[threadIdx.x] = means[(batch * shape.seq + row) * shape.heads + head];
}

DEVICE float probability(const BackwardShared& shared, float s, float scale, u32 query) {
    return f_mul(exact_exp(f_sub(f_mul(s, scale), shared.largest[query])), shared.inverse[query]);
}

DEVICE float score_gradient(const BackwardShared& shared, float p, float dp, float scale, u32 query) {
    return f_mul(f_mul(p, f_sub(dp, shared.mean[query])), scale);
}

// dq: rows are queries, as in the forward pass.
template <int CW>
DEVICE void attention_backward_queries(const float* __restrict__ q, const float* __restrict__ k,
                                       const float* __restrict__ v, const float* __restrict__ dout,
                                       const float* __restrict__ stats, const float* __restrict__ means,
                                       float* __restrict__ dq, const Shape& shape) {
    __shared__ BackwardShared shared;
    float* const stage = reinterpret_cast<float*>(shared.stage);
    float* const tile = reinterpret_cast<float*>(shared.tile);
    const Place place = query_place(shape, 16 * CW);
    const u32 kv_head = place.head / (shape.heads / shape.kv_heads);
    const Rows queries = rows_of(q, place.batch, shape.seq, shape.heads, place.head, shape.head_dim);
    const Rows gradients = rows_of(dout, place.batch, shape.seq, shape.heads, place.head, shape.head_dim);
    const Rows keys = rows_of(k, place.batch, shape.seq, shape.kv_heads, kv_head, shape.head_dim);
    const Rows values = rows_of(v, place.batch, shape.seq, shape.kv_heads, kv_head, shape.head_dim);
    stage_queries(shared, stats, means, shape, place.batch, place.head, place.first);
    float sum[4][CW];
    clear<CW>(sum);
#pragma unroll 1
    for (u32 key = 0; key <= place.first; key += TILE) {
        float s[4][4], dp[4][4];
        product<2>(s, stage, queries, place.first, keys, key, shape.seq, shape.head_dim, shape.vector);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) s[r][c] = probability(shared, s[r][c], shape.scale, row_of(r));
        product<2>(dp, stage, gradients, place.first, values, key, shape.seq, shape.head_dim, shape.vector);
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int c = 0; c < 4; c++) s[r][c] = score_gradient(shared, s[r][c], dp[r][c], shape.scale, row_of(r));
        store_tile(tile, s);
        accumulate<CW>(sum, tile, stage, keys, key, shape.seq, place.column, shape.head_dim, shape.vector,
                       key < place.first, keys_present(place.first, key));
    }
    store_rows<CW>(dq + head_offset(place.batch, shape.seq, shape.heads, place.head, shape.head_dim), queries.stride,
                   sum, place.first, shape.seq, place.column, shape.head_dim);
}

// For the tile of queries from `query` on and the keys from `key` on: which queries see each of this thread's keys.
DEVICE Present queries_present(u32 key, u32 query, u32 seq) {
    Present present;
    present.low = static_cast<int>(key + row_of(0)) - static_cast<int>(query);
    present.low_step = 4;
    present.high = static_cast<int>(seq - query);
    present.high_step = 0;
    return present;
}

// dk and dv: rows are keys; one chain over the heads of the group, and within each over the queries.
template <int CW>
DEVICE void attention_backward_keys(const float* __restrict__ q, const float* __restrict__ k,
                                    const float* __restrict__ v, const float* __restrict__ dout,
                                    const float* __restrict__ stats, const float* __restrict__ means,
                                    float* __restrict__ dk, float* __restrict__ dv, const Shape& shape) {
    __shared__ BackwardShared shared;
    float* const stage = reinterpret_cast<float*>(shared.stage);
    float* const tile = reinterpret_cast<float*>(shared.tile);
    // The first keys are seen by most queries: they start first.
    const u32 tiles = (shape.seq + TILE - 1) / TILE, group = shape.heads / shape.kv_heads;
    const u32 first = blockIdx.x % tiles * TILE, kv_head = blockIdx.x / tiles % shape.kv_heads,
              column = blockIdx.y * (16 * CW);
    const u64 batch = blockIdx.x / tiles / shape.kv_heads;
    const Rows keys = rows_of(k, batch, shape.seq, shape.kv_heads, kv_head, shape.head_dim);
    const Rows values = rows_of(v, batch, shape.seq, shape.kv_heads, kv_head, shape.head_dim);
    float sum_k[4][CW], sum_v[4][CW];
    clear<CW>(sum_k);
    clear<CW>(sum_v);
#pragma unroll 1
    for (u32 head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const Rows queries = rows_of(q, batch, shape.seq, shape.heads, head, shape.head_dim);
        const Rows gradients = rows_of(dout, batch, shape.seq, shape.heads, head, shape.head_dim);
#pragma unroll 1
        for (u32 query = first; query < shape.seq; query += TILE) {
            const bool all = query > first && query + TILE <= shape.seq;
            const Present present = queries_present(first, query, shape.seq);
            float s[4][4];
            // The tile before has been read by all: the product passes a barrier first.
            product<1>(s, stage, keys, first, queries, query, shape.seq, shape.head_dim, shape.vector);
            stage_queries(shared, stats, means, shape, batch, head, query);
            __syncthreads();
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) s[r][c] = probability(shared, s[r][c], shape.scale, column_of(c));
            store_tile(tile, s);
            product<1>(s, stage, values, first, gradients, query, shape.seq, shape.head_dim, shape.vector);
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    // This thread's own probabilities, kept there rather than in registers.
                    const float p = tile[row_of(r) * TILE_PITCH + column_of(c)];
                    s[r][c] = score_gradient(shared, p, s[r][c], shape.scale, column_of(c));
                }
            accumulate<CW>(sum_v, tile, stage, gradients, query, shape.seq, column, shape.head_dim, shape.vector, all,
                           present);
            __syncthreads();
            store_tile(tile, s);
            accumulate<CW>(sum_k, tile, stage, queries, query, shape.seq, column, shape.head_dim, shape.vector, all,
                           present);
        }
    }
    const u64 offset = head_offset(batch, shape.seq, shape.kv_heads, kv_head, shape.head_dim);
    store_rows<CW>(dk + offset, keys.stride, sum_k, first, shape.seq, column, shape.head_dim);
    store_rows<CW>(dv + offset, keys.stride, sum_v, first, shape.seq, column, shape.head_dim);
}

// By how many of the head's elements a block computes.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    essaim_attention_backward_queries_32(const float* q, const float* k, const float* v, const float* dout,
                                         const float* stats, const float* means, float* dq, ATTENTION_SIZES) {
    attention_backward_queries<2>(q, k, v, dout, stats, means, dq, ATTENTION_SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    essaim_attention_backward_keys_32(const float* q, const float* k, const float* v, const float* dout,
                                      const float* stats, const float* means, float* dk, float* dv, ATTENTION_SIZES) {
    attention_backward_keys<2>(q, k, v, dout, stats, means, dk, dv, ATTENTION_SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    essaim_attention_backward_queries_64(const float* q, const float* k, const float* v, const float* dout,
                                         const float* stats, const float* means, float* dq, ATTENTION_SIZES) {
    attention_backward_queries<4>(q, k, v, dout, stats, means, dq, ATTENTION_SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    essaim_attention_backward_keys_64(const float* q, const float* k, const float* v, const float* dout,
                                      const float* stats, const float* means, float* dk, float* dv, ATTENTION_SIZES) {
    attention_backward_keys<4>(q, k, v, dout, stats, means, dk, dv, ATTENTION_SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    essaim_attention_backward_queries_128(const float* q, const float* k, const float* v, const float* dout,
                                          const float* stats, const float* means, float* dq, ATTENTION_SIZES) {
    attention_backward_queries<8>(q, k, v, dout, stats, means, dq, ATTENTION_SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    essaim_attention_backward_keys_128(const float* q, const float* k, const float* v, const float* dout,
                                       const float* stats, const float* means, float* dk, float* dv, ATTENTION_SIZES) {
    attention_backward_keys<8>(q, k, v, dout, stats, means, dk, dv, ATTENTION_SHAPE);
}

}  // namespace attention
