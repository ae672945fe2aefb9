// Causal attention with grouped keys and values, SEMANTICS.md §8.
//
// The exact order forbids rescaling: a row's maximum, then its sum of exponentials, then its outputs. So the forward pass goes over the keys three
// times and computes the scores anew each time: no score ever leaves the multiprocessor, and memory does not grow with seq².
// The backward pass has maxima and sums from the forward pass, and computes the probabilities from them.
//
// A block has 256 threads and a tile of 64 rows (queries; in the last kernel keys) by 64 others. Products over the head's elements pass 32 of them at
// a time through shared memory, [row][element]; a tile of probabilities stays there, [row][other], and is multiplied with rows of values. Masked
// pairs are computed and not used: in a tile on the diagonal each term is taken or left, never multiplied by zero.
#include "math.cuh"
#include "reduce.cuh"

namespace attention {

static const u32 THREADS = 256;
static const u32 TILE = 64;
// Elements of a head in shared memory at a time, and the distances of rows there: 8 threads next to each other read 8 rows without a bank conflict.
static const u32 DEPTH = 32;
static const u32 DEPTH_PITCH = 36;
static const u32 TILE_PITCH = 68;
static const u32 STAGE_FLOATS = 2 * TILE * DEPTH_PITCH;

// Rows of one head in a tensor [batch, seq, heads, head_dim]: row i starts at `base + i * stride`.
struct Rows {
    const float* base;
    u32 stride;
};

DEVICE u64 head_offset(u64 batch, u32 seq, u32 heads, u32 head, u32 head_dim) { return (batch * seq * heads + head) * head_dim; }

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
        write_four(stage + row * DEPTH_PITCH + quad, row_four(rows, least(first + row, seq - 1), x + quad, head_dim, vector));
}

// sum[r][c] = the chain over the head's elements of row row_of(r) of `left` and row column_of(c) of `right`.
template <int UNROLL>
DEVICE void product(float sum[4][4], float* stage, const Rows& left, u32 left_first, const Rows& right, u32 right_first, u32 seq, u32 head_dim,
                    bool vector) {
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

// Which terms of the chains of this thread's rows are present, of p from 0 to 63: low + r · low_step ≤ p < high + r · high_step.
struct Present {
    int low;
    int low_step;
    int high;
    int high_step;
};

// Continues sum[r][c] over p = start … start + count - 1; row p - start of `stage` holds the values.
template <int CW, bool ALL>
DEVICE void accumulate_staged(float sum[4][CW], const float* mine, const float* stage, u32 start, u32 count, const Present& present) {
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
                if (ALL || (present.low + r * present.low_step <= term && term < present.high + r * present.high_step)) {
#pragma unroll
                    for (int c = 0; c < CW; c++) sum[r][c] = f_fma(a[r].at[e], b[c], sum[r][c]);
                }
            }
        }
    }
}

// Continues sum[r][c] over p = 0 … 63 with (tile[row_of(r)][p], rows[first + p][column + value_column_of(c)]): all of them, or those present.
template <int CW>
DEVICE void accumulate(float sum[4][CW], const float* tile, float* stage, const Rows& rows, u32 first, u32 seq, u32 column, u32 head_dim,
                       bool vector, bool all, const Present& present) {
    const u32 WIDTH = 16 * CW, AT_ONCE = CW <= 4 ? 64 : 32;
    const float* const mine = tile + row_of(0) * TILE_PITCH;
#pragma unroll 1
    for (u32 start = 0; start < TILE; start += AT_ONCE) {
        __syncthreads();
#pragma unroll
        for (u32 i = threadIdx.x; i < AT_ONCE * WIDTH / 4; i += THREADS) {
            const u32 row = i / (WIDTH / 4), x = i % (WIDTH / 4) * 4;
            write_four(stage + row * WIDTH + x, row_four(rows, least(first + start + row, seq - 1), column + x, head_dim, vector));
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

// Levels of the tree over a row's blocks of 4096 keys: for up to 2^19 keys.
static const u32 ROW_LEVELS = 8;

struct ForwardShared {
    float4 stage[STAGE_FLOATS / 4];
    float4 tile[TILE * TILE_PITCH / 4];
    float stack[ROW_LEVELS][TILE];
    float largest[TILE];
    float inverse[TILE];
};

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

template <int CW>
DEVICE void attention_forward(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, float* __restrict__ out,
                              float* __restrict__ stats, const Shape& shape) {
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
                accumulate<CW>(sum, tile, stage, values, key, shape.seq, place.column, shape.head_dim, shape.vector, key < place.first,
                               keys_present(place.first, key));
            }
        }
        if (pass == MAXIMA) store_maxima(shared, largest);
    }
    if (threadIdx.x < TILE && place.first + threadIdx.x < shape.seq && place.column == 0) {
        float* row = stats + ((place.batch * shape.heads + place.head) * shape.seq + place.first + threadIdx.x) * 2;
        row[0] = shared.largest[threadIdx.x];
        row[1] = shared.inverse[threadIdx.x];
    }
    store_rows<CW>(out + head_offset(place.batch, shape.seq, shape.heads, place.head, shape.head_dim), queries.stride, sum, place.first,
                   shape.seq, place.column, shape.head_dim);
}

struct BackwardShared {
    float4 stage[STAGE_FLOATS / 4];
    float4 tile[TILE * TILE_PITCH / 4];
    // Of each query of the tile: the row's maximum, the inverse of its sum, and dot(dout, out).
    float largest[TILE];
    float inverse[TILE];
    float mean[TILE];
};

// Fetches what belongs to the queries from `first` on; it is there after the next barrier.
DEVICE void stage_queries(BackwardShared& shared, const float* stats, const float* means, const Shape& shape, u64 batch, u32 head, u32 first) {
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
DEVICE void attention_backward_queries(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                                       const float* __restrict__ dout, const float* __restrict__ stats, const float* __restrict__ means,
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
        accumulate<CW>(sum, tile, stage, keys, key, shape.seq, place.column, shape.head_dim, shape.vector, key < place.first,
                       keys_present(place.first, key));
    }
    store_rows<CW>(dq + head_offset(place.batch, shape.seq, shape.heads, place.head, shape.head_dim), queries.stride, sum, place.first,
                   shape.seq, place.column, shape.head_dim);
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
DEVICE void attention_backward_keys(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v,
                                    const float* __restrict__ dout, const float* __restrict__ stats, const float* __restrict__ means,
                                    float* __restrict__ dk, float* __restrict__ dv, const Shape& shape) {
    __shared__ BackwardShared shared;
    float* const stage = reinterpret_cast<float*>(shared.stage);
    float* const tile = reinterpret_cast<float*>(shared.tile);
    // The first keys are seen by most queries: they start first.
    const u32 tiles = (shape.seq + TILE - 1) / TILE, group = shape.heads / shape.kv_heads;
    const u32 first = blockIdx.x % tiles * TILE, kv_head = blockIdx.x / tiles % shape.kv_heads, column = blockIdx.y * (16 * CW);
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
            accumulate<CW>(sum_v, tile, stage, gradients, query, shape.seq, column, shape.head_dim, shape.vector, all, present);
            __syncthreads();
            store_tile(tile, s);
            accumulate<CW>(sum_k, tile, stage, queries, query, shape.seq, column, shape.head_dim, shape.vector, all, present);
        }
    }
    const u64 offset = head_offset(batch, shape.seq, shape.kv_heads, kv_head, shape.head_dim);
    store_rows<CW>(dk + offset, keys.stride, sum_k, first, shape.seq, column, shape.head_dim);
    store_rows<CW>(dv + offset, keys.stride, sum_v, first, shape.seq, column, shape.head_dim);
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

#define SIZES u32 seq, u32 heads, u32 kv_heads, u32 head_dim, float scale, u32 vector
#define SHAPE shape_of(seq, heads, kv_heads, head_dim, scale, vector)

// By how many of the head's elements a block computes.
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_attention_forward_32(const float* q, const float* k, const float* v,
                                                                                 float* out, float* stats, SIZES) {
    attention_forward<2>(q, k, v, out, stats, SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_attention_backward_queries_32(
    const float* q, const float* k, const float* v, const float* dout, const float* stats, const float* means, float* dq, SIZES) {
    attention_backward_queries<2>(q, k, v, dout, stats, means, dq, SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_attention_backward_keys_32(
    const float* q, const float* k, const float* v, const float* dout, const float* stats, const float* means, float* dk, float* dv, SIZES) {
    attention_backward_keys<2>(q, k, v, dout, stats, means, dk, dv, SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_attention_forward_64(const float* q, const float* k, const float* v,
                                                                                 float* out, float* stats, SIZES) {
    attention_forward<4>(q, k, v, out, stats, SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_attention_backward_queries_64(
    const float* q, const float* k, const float* v, const float* dout, const float* stats, const float* means, float* dq, SIZES) {
    attention_backward_queries<4>(q, k, v, dout, stats, means, dq, SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 2) essaim_attention_backward_keys_64(
    const float* q, const float* k, const float* v, const float* dout, const float* stats, const float* means, float* dk, float* dv, SIZES) {
    attention_backward_keys<4>(q, k, v, dout, stats, means, dk, dv, SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 1) essaim_attention_forward_128(const float* q, const float* k, const float* v,
                                                                                 float* out, float* stats, SIZES) {
    attention_forward<8>(q, k, v, out, stats, SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 1) essaim_attention_backward_queries_128(
    const float* q, const float* k, const float* v, const float* dout, const float* stats, const float* means, float* dq, SIZES) {
    attention_backward_queries<8>(q, k, v, dout, stats, means, dq, SHAPE);
}
extern "C" __global__ void __launch_bounds__(THREADS, 1) essaim_attention_backward_keys_128(
    const float* q, const float* k, const float* v, const float* dout, const float* stats, const float* means, float* dk, float* dv, SIZES) {
    attention_backward_keys<8>(q, k, v, dout, stats, means, dk, dv, SHAPE);
}

#undef SIZES
#undef SHAPE

}  // namespace attention
