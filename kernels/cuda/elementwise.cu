// Element by element: each operation written is rounded once, SEMANTICS.md §9 and §11. A thread takes four neighbours.
//
// `go` may be null. Where it is not and holds 0, a kernel changes nothing: so a step whose norm or loss is not finite
// is skipped without asking the device before the rest is queued.
#include "math.cuh"

namespace elementwise {

static const u32 THREADS = 256;

DEVICE bool stopped(const u32* go) { return go != nullptr && *go == 0; }

struct AddAssign {
    static __device__ __forceinline__ float of(float y, float x, float, float) { return f_add(y, x); }
};
struct MulAssign {
    static __device__ __forceinline__ float of(float y, float x, float, float) { return f_mul(y, x); }
};
struct DivAssign {
    static __device__ __forceinline__ float of(float y, float x, float, float) { return f_div(y, x); }
};
struct ScaledAdd {
    static __device__ __forceinline__ float of(float y, float x, float a, float) { return f_add(y, f_mul(a, x)); }
};
struct Lerp {
    static __device__ __forceinline__ float of(float y, float x, float a, float) {
        return f_add(y, f_mul(a, f_sub(x, y)));
    }
};
struct Axpby {
    static __device__ __forceinline__ float of(float y, float x, float a, float b) {
        return f_add(f_mul(a, x), f_mul(b, y));
    }
};
struct Sub {
    static __device__ __forceinline__ float of(float x, float y, float, float) { return f_sub(x, y); }
};

// y[i] = of(y[i], x[i]).
template <class Operation>
DEVICE void in_place(float* __restrict__ y, const float* __restrict__ x, float a, float b, u64 n, const u32* go) {
    const u64 i = first_of_four();
    if (i >= n || stopped(go)) return;
    Four ys = load_four(y, i, n);
    const Four xs = load_four(x, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) ys.at[e] = Operation::of(ys.at[e], xs.at[e], a, b);
    store_four(y, i, n, ys);
}

// out[i] = of(x[i], y[i]).
template <class Operation>
DEVICE void pairwise(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ out, float a,
                     u64 n) {
    const u64 i = first_of_four();
    if (i >= n) return;
    Four xs = load_four(x, i, n);
    const Four ys = load_four(y, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) xs.at[e] = Operation::of(xs.at[e], ys.at[e], a, 0.0f);
    store_four(out, i, n, xs);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_add_assign(float* y, const float* x, u64 n, const u32* go) {
    in_place<AddAssign>(y, x, 0.0f, 0.0f, n, go);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_mul_assign(float* y, const float* x, u64 n, const u32* go) {
    in_place<MulAssign>(y, x, 0.0f, 0.0f, n, go);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_div_assign(float* y, const float* x, u64 n, const u32* go) {
    in_place<DivAssign>(y, x, 0.0f, 0.0f, n, go);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_scaled_add(float* y, float a, const float* x, u64 n, const u32* go) {
    in_place<ScaledAdd>(y, x, a, 0.0f, n, go);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_lerp(float* y, float w, const float* x, u64 n, const u32* go) {
    in_place<Lerp>(y, x, w, 0.0f, n, go);
}
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_axpby(float* y, float a, float b, const float* x, u64 n, const u32* go) {
    in_place<Axpby>(y, x, a, b, n, go);
}
extern "C" __global__ void __launch_bounds__(THREADS) essaim_add(const float* x, const float* y, float* out, u64 n) {
    pairwise<AddAssign>(x, y, out, 0.0f, n);
}
extern "C" __global__ void __launch_bounds__(THREADS) essaim_sub(const float* x, const float* y, float* out, u64 n) {
    pairwise<Sub>(x, y, out, 0.0f, n);
}
// out = x + a y.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_scaled_sum(const float* x, float a, const float* y, float* out, u64 n) {
    pairwise<ScaledAdd>(x, y, out, a, n);
}

// out = a x.
extern "C" __global__ void __launch_bounds__(THREADS) essaim_scale(const float* x, float a, float* out, u64 n) {
    const u64 i = first_of_four();
    if (i >= n) return;
    Four xs = load_four(x, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) xs.at[e] = f_mul(a, xs.at[e]);
    store_four(out, i, n, xs);
}

// x = factor x, the factor being a result of the device. A factor of 1 changes no bit, so then nothing is touched.
extern "C" __global__ void __launch_bounds__(THREADS) essaim_scale_by(float* x, const float* factor, u64 n) {
    const u64 i = first_of_four();
    const float a = *factor;
    if (i >= n || a == 1.0f) return;
    Four xs = load_four(x, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) xs.at[e] = f_mul(a, xs.at[e]);
    store_four(x, i, n, xs);
}

extern "C" __global__ void __launch_bounds__(THREADS) essaim_sqrt_assign(float* x, u64 n) {
    const u64 i = first_of_four();
    if (i >= n) return;
    Four xs = load_four(x, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) xs.at[e] = f_sqrt(xs.at[e]);
    store_four(x, i, n, xs);
}

extern "C" __global__ void __launch_bounds__(THREADS) essaim_copy(const float* x, float* out, u64 n) {
    const u64 i = first_of_four();
    if (i < n) store_four(out, i, n, load_four(x, i, n));
}

extern "C" __global__ void __launch_bounds__(THREADS) essaim_fill(float* out, float value, u64 n) {
    const u64 i = first_of_four();
    if (i >= n) return;
    Four values;
#pragma unroll
    for (int e = 0; e < 4; e++) values.at[e] = value;
    store_four(out, i, n, values);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_swiglu_forward(const float* __restrict__ gate, const float* __restrict__ up, float* __restrict__ out,
                          u64 n) {
    const u64 i = first_of_four();
    if (i >= n) return;
    Four gates = load_four(gate, i, n);
    const Four ups = load_four(up, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) gates.at[e] = f_mul(exact_silu(gates.at[e]), ups.at[e]);
    store_four(out, i, n, gates);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_swiglu_backward(const float* __restrict__ gate, const float* __restrict__ up, const float* __restrict__ dout,
                           float* __restrict__ dgate, float* __restrict__ dup, u64 n) {
    const u64 i = first_of_four();
    if (i >= n) return;
    const Four gates = load_four(gate, i, n), ups = load_four(up, i, n), douts = load_four(dout, i, n);
    Four dgates, dups;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float g = gates.at[e], d = douts.at[e], s = exact_sigmoid(g);
        dups.at[e] = f_mul(d, f_mul(g, s));
        dgates.at[e] = f_mul(f_mul(d, ups.at[e]), f_mul(s, f_fma(g, f_sub(1.0f, s), 1.0f)));
    }
    store_four(dgate, i, n, dgates);
    store_four(dup, i, n, dups);
}

// `complement` is 1 - beta, `decay` 1 - lr · weight_decay, `rate` lr / bias1: rounded by the caller.
extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_adamw_update(float* __restrict__ params, const float* __restrict__ grads, float* __restrict__ m,
                        float* __restrict__ v, float beta1, float complement1, float beta2, float complement2,
                        float bias2, float eps, float decay, float rate, u64 n, const u32* go) {
    const u64 i = first_of_four();
    if (i >= n || stopped(go)) return;
    Four ps = load_four(params, i, n), ms = load_four(m, i, n), vs = load_four(v, i, n);
    const Four gs = load_four(grads, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float g = gs.at[e];
        ms.at[e] = f_add(f_mul(beta1, ms.at[e]), f_mul(complement1, g));
        vs.at[e] = f_add(f_mul(beta2, vs.at[e]), f_mul(complement2, f_mul(g, g)));
        const float denominator = f_add(f_sqrt(f_div(vs.at[e], bias2)), eps);
        ps.at[e] = f_sub(f_mul(ps.at[e], decay), f_mul(rate, f_div(ms.at[e], denominator)));
    }
    store_four(params, i, n, ps);
    store_four(m, i, n, ms);
    store_four(v, i, n, vs);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    essaim_nesterov_update(float* __restrict__ params, const float* __restrict__ grads, float* __restrict__ momentum,
                           float lr, float mu, u64 n, const u32* go) {
    const u64 i = first_of_four();
    if (i >= n || stopped(go)) return;
    Four ps = load_four(params, i, n), bs = load_four(momentum, i, n);
    const Four gs = load_four(grads, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float g = gs.at[e], b = f_add(f_mul(mu, bs.at[e]), g);
        bs.at[e] = b;
        ps.at[e] = f_sub(ps.at[e], f_mul(lr, f_add(g, f_mul(mu, b))));
    }
    store_four(params, i, n, ps);
    store_four(momentum, i, n, bs);
}

// The elementary functions by themselves, for tests.
template <float (*function)(float)>
DEVICE void map(float* x, u64 n) {
    const u64 i = first_of_four();
    if (i >= n) return;
    Four xs = load_four(x, i, n);
#pragma unroll
    for (int e = 0; e < 4; e++) xs.at[e] = function(xs.at[e]);
    store_four(x, i, n, xs);
}
extern "C" __global__ void __launch_bounds__(THREADS) essaim_exp_slice(float* x, u64 n) { map<exact_exp>(x, n); }
extern "C" __global__ void __launch_bounds__(THREADS) essaim_log_slice(float* x, u64 n) { map<exact_log>(x, n); }
extern "C" __global__ void __launch_bounds__(THREADS) essaim_rsqrt_slice(float* x, u64 n) { map<exact_rsqrt>(x, n); }
extern "C" __global__ void __launch_bounds__(THREADS) essaim_sigmoid_slice(float* x, u64 n) {
    map<exact_sigmoid>(x, n);
}
extern "C" __global__ void __launch_bounds__(THREADS) essaim_silu_slice(float* x, u64 n) { map<exact_silu>(x, n); }

}  // namespace elementwise
