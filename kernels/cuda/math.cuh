// Elementary functions, SEMANTICS.md §3: the same polynomials, in the same order, as the CPU's.
#pragma once
#include "common.cuh"

#define LN2_HIGH __uint_as_float(0x3f317218u)
#define LN2_LOW __uint_as_float(0xb102e308u)

DEVICE float exact_exp(float x) {
    const float magic = 12582912.0f;
    float clamped = x > 89.5f ? 89.5f : x;
    clamped = clamped < -105.0f ? -105.0f : clamped;
    const float shifted = f_fma(clamped, __uint_as_float(0x3fb8aa3bu), magic);
    const float n = f_sub(shifted, magic);
    const int integer = static_cast<int>(__float_as_uint(shifted) - __float_as_uint(magic));
    float r = f_fma(n, -LN2_HIGH, clamped);
    r = f_fma(n, -LN2_LOW, r);
    float p = __uint_as_float(0x3ab563a7u);
    p = f_fma(p, r, __uint_as_float(0x3c091ef0u));
    p = f_fma(p, r, __uint_as_float(0x3d2aac2cu));
    p = f_fma(p, r, __uint_as_float(0x3e2aaa46u));
    p = f_fma(p, r, __uint_as_float(0x3efffffeu));
    const float y = f_add(f_fma(p, f_mul(r, r), r), 1.0f);
    // Unsigned: for a NaN the integer is meaningless and must not overflow.
    const int half = integer >> 1;
    const float scale_a = __uint_as_float((static_cast<u32>(half) + 127u) << 23);
    const float scale_b = __uint_as_float((static_cast<u32>(integer) - static_cast<u32>(half) + 127u) << 23);
    return canonical(f_mul(f_mul(y, scale_a), scale_b));
}

DEVICE float exact_log(float x) {
    const bool subnormal = x < __uint_as_float(0x00800000u);
    const float scaled = subnormal ? f_mul(x, 8388608.0f) : x;
    const u32 offset = __float_as_uint(scaled) - 0x3f3504f3u;
    const u32 exponent_bits = offset & 0xff800000u;
    const float exponent = f_sub(static_cast<float>(static_cast<int>(exponent_bits) >> 23), subnormal ? 23.0f : 0.0f);
    const float f = f_sub(__uint_as_float(__float_as_uint(scaled) - exponent_bits), 1.0f);
    float p = __uint_as_float(0xbd9c76f5u);
    p = f_fma(p, f, __uint_as_float(0x3e02cdd2u));
    p = f_fma(p, f, __uint_as_float(0xbe06c99eu));
    p = f_fma(p, f, __uint_as_float(0x3e116aadu));
    p = f_fma(p, f, __uint_as_float(0xbe2a38c9u));
    p = f_fma(p, f, __uint_as_float(0x3e4cd01bu));
    p = f_fma(p, f, __uint_as_float(0xbe800114u));
    p = f_fma(p, f, __uint_as_float(0x3eaaaaaau));
    const float square = f_mul(f, f);
    float tail = f_fma(exponent, LN2_LOW, f_mul(f_mul(square, f), p));
    tail = f_fma(square, -0.5f, tail);
    float result = f_fma(exponent, LN2_HIGH, f_add(f, tail));
    if (x == infinity()) result = infinity();
    if (x == 0.0f) result = -infinity();
    return x < 0.0f || x != x ? canonical_nan() : result;
}

DEVICE float exact_rsqrt(float x) { return canonical(f_div(1.0f, f_sqrt(x))); }

DEVICE float exact_sigmoid(float x) { return canonical(f_div(1.0f, f_add(1.0f, exact_exp(-x)))); }

DEVICE float exact_silu(float x) { return canonical(f_mul(x, exact_sigmoid(x))); }
