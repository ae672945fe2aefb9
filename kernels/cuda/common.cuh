// What every kernel uses: arithmetic with the rounding spelled out, and access to four elements at a time.
//
// Only a small part of CUDA C++ is used (no shuffles, no atomics, static shared memory, C++14), so that the same
// sources also compile as C++ for the CPU and are executed in tests.
#pragma once

typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__

// Each rounds once, to nearest even, and is never fused with a neighbour.
DEVICE float f_add(float a, float b) { return __fadd_rn(a, b); }
DEVICE float f_sub(float a, float b) { return __fsub_rn(a, b); }
DEVICE float f_mul(float a, float b) { return __fmul_rn(a, b); }
DEVICE float f_div(float a, float b) { return __fdiv_rn(a, b); }
DEVICE float f_sqrt(float a) { return __fsqrt_rn(a); }
DEVICE float f_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }

DEVICE float canonical_nan() { return __uint_as_float(0x7fc00000u); }
DEVICE float infinity() { return __uint_as_float(0x7f800000u); }
DEVICE float canonical(float x) { return x != x ? canonical_nan() : x; }
DEVICE bool finite(float x) { return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u; }

DEVICE u32 least(u32 a, u32 b) { return a < b ? a : b; }
DEVICE u64 least(u64 a, u64 b) { return a < b ? a : b; }

// Whether a pointer can be read four floats at a time.
DEVICE bool aligned(const float* p) { return (reinterpret_cast<u64>(p) & 15) == 0; }

// Four elements in registers.
struct Four {
    float at[4];
};

DEVICE Four read_four(const float* p) {
    const float4 value = *reinterpret_cast<const float4*>(p);
    Four four;
    four.at[0] = value.x;
    four.at[1] = value.y;
    four.at[2] = value.z;
    four.at[3] = value.w;
    return four;
}

DEVICE void write_four(float* p, const Four& four) {
    float4 value;
    value.x = four.at[0];
    value.y = four.at[1];
    value.z = four.at[2];
    value.w = four.at[3];
    *reinterpret_cast<float4*>(p) = value;
}

// Elements i … i + 3 of p[n]; those beyond n are 0 and must not be used.
DEVICE Four load_four(const float* p, u64 i, u64 n) {
    if (i + 4 <= n && aligned(p)) return read_four(p + i);
    Four four;
#pragma unroll
    for (int e = 0; e < 4; e++) four.at[e] = i + e < n ? p[i + e] : 0.0f;
    return four;
}

DEVICE void store_four(float* p, u64 i, u64 n, const Four& four) {
    if (i + 4 <= n && aligned(p)) return write_four(p + i, four);
#pragma unroll
    for (int e = 0; e < 4; e++)
        if (i + e < n) p[i + e] = four.at[e];
}

// The first of the four elements that are this thread's.
DEVICE u64 first_of_four() { return (static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x) * 4; }
