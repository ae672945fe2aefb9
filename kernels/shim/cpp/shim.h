// The part of CUDA C++ that the kernels use, for a C++ compiler. Included inside an unnamed namespace, for the kernels are compiled twice.
#pragma once

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __constant__ static const
// One block runs on a CPU thread at a time, so its shared memory is that thread's.
#define __shared__ static thread_local

#define threadIdx (::shim::here.thread)
#define blockIdx (::shim::here.block)
#define blockDim (::shim::here.block_dim)
#define gridDim (::shim::here.grid_dim)
#define warpSize 32

// The build puts this after every declaration of shared memory.
#define SHIM_SHARED(name)                                             \
    do {                                                              \
        static __thread uint64_t shim_seen;                           \
        ::shim::shared(#name, (void*)&name, sizeof(name), &shim_seen); \
    } while (0)

#define __syncthreads() ::shim::barrier(::shim::Site{__FILE__, __LINE__})
#define __syncwarp() ((void)::shim::exchange(0, 0, true, ::shim::Site{__FILE__, __LINE__}))

namespace shuffle {
inline uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline uint32_t to_bits(uint32_t value) { return value; }
inline uint32_t to_bits(int value) { return (uint32_t)value; }
inline void from_bits(uint32_t bits, float* value) { memcpy(value, &bits, 4); }
inline void from_bits(uint32_t bits, uint32_t* value) { *value = bits; }
inline void from_bits(uint32_t bits, int* value) { *value = (int)bits; }

// Full warps only: the mask must be 0xffffffff, which `full` turns into a compile-time matter.
template <unsigned mask>
struct Full {
    static_assert(mask == 0xffffffffu, "the shim knows shuffles of whole warps only");
    template <class T>
    static T exchange(T value, unsigned from, ::shim::Site site) {
        T result;
        from_bits(::shim::exchange(to_bits(value), from, false, site), &result);
        return result;
    }
};
inline unsigned lane() { return ::shim::here.linear % 32; }
}  // namespace shuffle

#define __shfl_sync(mask, value, source) shuffle::Full<mask>::exchange(value, (source), (::shim::Site{__FILE__, __LINE__}))
#define __shfl_xor_sync(mask, value, bits) shuffle::Full<mask>::exchange(value, shuffle::lane() ^ (bits), (::shim::Site{__FILE__, __LINE__}))
#define __shfl_down_sync(mask, value, delta) shuffle::Full<mask>::exchange(value, shuffle::lane() + (delta), (::shim::Site{__FILE__, __LINE__}))

static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }

static inline unsigned __float_as_uint(float value) { return shuffle::to_bits(value); }
static inline int __float_as_int(float value) { return (int)shuffle::to_bits(value); }
static inline float __uint_as_float(unsigned bits) {
    float value;
    shuffle::from_bits(bits, &value);
    return value;
}
static inline float __int_as_float(int bits) { return __uint_as_float((unsigned)bits); }

template <class T>
static inline T __ldg(const T* address) {
    return *address;
}

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return float2{x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return uint2{x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }

#define SHIM_LEAST(T)                                         \
    static inline T min(T a, T b) { return b < a ? b : a; }   \
    static inline T max(T a, T b) { return a < b ? b : a; }
SHIM_LEAST(int)
SHIM_LEAST(unsigned)
SHIM_LEAST(unsigned long)
SHIM_LEAST(unsigned long long)
#undef SHIM_LEAST
