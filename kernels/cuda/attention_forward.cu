// Attention, forward: three passes over the keys, of which the last computes the outputs.
#include "attention.cuh"

namespace attention {

// Levels of the tree over a row's blocks of 4096 keys: for up to 2^19 keys.
static const u32 ROW_LEVELS = 8;

struct ForwardShared {
    float4 stage[STAGE_FLOATS / 4];
    float4 tile[TILE * TILE_PITCH / 4];
    float stack[ROW_LEVELS][TILE];
    float largest[TILE];
    float inverse[TILE];
};

// Turns a thread's scores into the row maxima of the block, in shared.largest after the next barrier.
DEVICE void store_maxima(ForwardShared& shared, const float largest[4]) {
    float* slots = reinterpret_cast<float*>(shared.tile);
    const u32 slot = threadIdx.x / 32 % 2 * 8 + threadIdx.x % 8;
#pragma unroll
    for (int r = 0; r < 4; r++) slots[row_of(r) * 17 + slot] = largest[r];
    __syncthreads();
    if (threadIdx.x >= TILE) return;
    float row = -infinity();
    for (u32 i = 0; i < 16; i++) {
        const float value = slots[threadIdx.x * 17 + i];
        row = value > row ? value : row;
    }
    shared.largest[threadIdx.x] = f_add(row, 0.0f);
}

// What the forward pass does with the scores, one pass over the keys after the other.
enum Pass { MAXIMA, SUMS, OUTPUTS };

DEVICE void take_maxima(float largest[4], const float s[4][4], const Shape& shape, const Place& place, u32 key) {
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            const float score = f_mul(s[r][c], shape.scale);
            if (key + column_of(c) <= place.first + row_of(r) && score > largest[r]) largest[r] = score;
        }
}

// Adds a tile of exponentials to the lanes: a thread has 8 lanes of one row.
DEVICE void take_sums(ForwardShared& shared, float lanes[8], u32 key, u32 last_key) {
    const float* tile = reinterpret_cast<const float*>(shared.tile);
    float* stage = reinterpret_cast<float*>(shared.stage);
    const u32 row = threadIdx.x / 4, group = threadIdx.x % 4 * 8;
    __syncthreads();
#pragma unroll
    for (u32 half = 0; half < TILE; half += LANES)
#pragma unroll
        for (u32 i = 0; i < 8; i += 4) {
            const Four four = read_four(tile + row * TILE_PITCH + half + group + i);
#pragma unroll
            for (u32 e = 0; e < 4; e++) lanes[i + e] = f_add(lanes[i + e], four.at[e]);
        }
    if ((key + TILE) % SUM_BLOCK != 0 && key != last_key) return;
        // The end of a block of 4096, or of the row.
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        stage[row * DEPTH_PITCH + group + i] = lanes[i];
        lanes[i] = 0.0f;
    }
    __syncthreads();
    if (threadIdx.x >= TILE) return;
    const u32 block = key / SUM_BLOCK;
    float* stack = &shared.stack[0][threadIdx.x];
    push_block(stack, TILE, block, lane_tree(stage + threadIdx.x * DEPTH_PITCH));
    if (key == last_key) shared.inverse[threadIdx.x] = f_div(1.0f, canonical(finish_blocks(stack, TILE, block + 1)));
}

template <int CW>
DEVICE void attention_forward(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                              float* __restrict__ out, float* __restrict__ stats, const Shape& shape) {
    __shared__ ForwardShared shared;
    float* const stage = reinterpret_cast<float*>(shared.stage);
    float* const tile = reinterpret_cast<float*>(shared.tile);
    const Place place = query_place(shape, 16 * CW);
    const u32 kv_head = place.head / (shape.heads / shape.kv_heads);
    const Rows queries = rows_of(q, place.batch, shape.seq, shape.heads, place.head, shape.head_dim);
    const Rows keys = rows_of(k, place.batch, shape.seq, shape.kv_heads, kv_head, shape.head_dim);
    const Rows values = rows_of(v, place.batch, shape.seq, shape.kv_heads, kv_head, shape.head_dim);
    float largest[4], lanes[8], sum[4][CW];
    clear<CW>(sum);
#pragma unroll
    for (int i = 0; i < 4; i++) largest[i] = -infinity();
#pragma unroll
    for (int i = 0; i < 8; i++) lanes[i] = 0.0f;
#pragma unroll 1
    for (int pass = MAXIMA; pass <= OUTPUTS; pass++) {
#pragma unroll 1
        for (u32 key = 0; key <= place.first; key += TILE) {
            float s[4][4];
            product<2>(s, stage, queries, place.first, keys, key, shape.seq, shape.head_dim, shape.vector);
            if (pass == MAXIMA) {
                take_maxima(largest, s, shape, place, key);
                continue;
            }
#pragma unroll
            for (int r = 0; r < 4; r++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const float e = exact_exp(f_sub(f_mul(s[r][c], shape.scale), shared.largest[row_of(r)]));
                    const bool present = key + column_of(c) <= place.first + row_of(r);
                    // Adding +0 to a lane is the same as leaving it, since lanes are never -0.
                    s[r][c] = pass == SUMS ? present ? e : 0.0f : f_mul(e, shared.inverse[row_of(r)]);
                }
            store_tile(tile, s);
            if (pass == SUMS) {
                take_sums(shared, lanes, key, place.first);
            } else {
                accumulate<CW>(sum, tile, stage, values, key, shape.seq, place.column, shape.head_dim, shape.vector,
                               key < place.first, keys_present(place.first, key));
            }
        }
        if (pass == MAXIMA) store_maxima(shared, largest);
    }
    if (threadIdx.x < TILE && place.first + threadIdx.x < shape.seq && place.column == 0) {
        float* row = stats + ((place.batch * shape.heads + place.head) * shape.seq + place.first + threadIdx.x) * 2;
        row[0] = shared.largest[threadIdx.x];
        row[1] = shared.inverse[threadIdx.x];
    }
    store_rows<CW>(out + head_offset(place.batch, shape.seq, shape.heads, place.head, shape.head_dim), queries.stride,
                   sum, place.first, shape.seq, place.column, shape.head_dim);
}

// By how many of the head's elements a block computes.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    essaim_attention_forward_32(const float* q, const float* k, const float* v, float* out, float* stats,
                                ATTENTION_SIZES) {
    attention_forward<2>(q, k, v, out, stats, ATTENTION_SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    essaim_attention_forward_64(const float* q, const float* k, const float* v, float* out, float* stats,
                                ATTENTION_SIZES) {
    attention_forward<4>(q, k, v, out, stats, ATTENTION_SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    essaim_attention_forward_128(const float* q, const float* k, const float* v, float* out, float* stats,
                                 ATTENTION_SIZES) {
    attention_forward<8>(q, k, v, out, stats, ATTENTION_SHAPE);
}

}  // namespace attention
