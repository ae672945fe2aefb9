// Kernels for the tests of the shim itself.

// Reverses each block's part of x through shared memory: a barrier that every thread reaches.
extern "C" __global__ void shim_test_reverse(float* x, unsigned n) {
    __shared__ float tile[256];
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) tile[threadIdx.x] = x[i];
    __syncthreads();
    unsigned first = blockIdx.x * blockDim.x;
    unsigned count = n - first < blockDim.x ? n - first : blockDim.x;
    if (i < n) x[i] = tile[count - 1 - threadIdx.x];
}

// A prefix sum that needs both of its barriers in every round.
extern "C" __global__ void shim_test_scan(unsigned* x) {
    __shared__ unsigned sums[1024];
    sums[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    for (unsigned step = 1; step < blockDim.x; step *= 2) {
        unsigned left = threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
        __syncthreads();
        sums[threadIdx.x] += left;
        __syncthreads();
    }
    x[threadIdx.x] = sums[threadIdx.x];
}

// The same with the barrier after the reads missing.
extern "C" __global__ void shim_test_racy_scan(unsigned* x) {
    __shared__ unsigned sums[1024];
    sums[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    for (unsigned step = 1; step < blockDim.x; step *= 2) {
        unsigned left = threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
        sums[threadIdx.x] += left;
        __syncthreads();
    }
    x[threadIdx.x] = sums[threadIdx.x];
}

// Sums of warps, by both kinds of shuffle.
extern "C" __global__ void shim_test_warp(const float* x, float* down, float* across) {
    float value = x[threadIdx.x];
    float sum = value;
    for (unsigned w = 16; w > 0; w /= 2) sum = __fadd_rn(sum, __shfl_down_sync(0xffffffffu, sum, w));
    if (threadIdx.x % 32 == 0) down[threadIdx.x / 32] = sum;
    for (unsigned w = 1; w < 32; w *= 2) value = __fadd_rn(value, __shfl_xor_sync(0xffffffffu, value, w));
    across[threadIdx.x] = value;
}

// Half of the threads never reach the barrier.
extern "C" __global__ void shim_test_diverged(float* x) {
    if (threadIdx.x % 2 == 0) return;
    __syncthreads();
    x[threadIdx.x] = 1.0f;
}

// The halves wait at two different barriers.
extern "C" __global__ void shim_test_two_barriers(float* x) {
    if (threadIdx.x % 2 == 0) {
        x[0] = 0.0f;
        __syncthreads();
    } else {
        __syncthreads();
    }
}

// Writes one element beyond the n of x.
extern "C" __global__ void shim_test_beyond(float* x, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) x[i] = 2.0f;
}

// Shared memory that nobody wrote.
extern "C" __global__ void shim_test_unwritten(float* x) {
    __shared__ float tile[64];
    float value = tile[threadIdx.x];
    __syncthreads();
    tile[threadIdx.x] = 3.0f;
    x[blockIdx.x * blockDim.x + threadIdx.x] = value;
}

// Every kind of parameter and every index.
extern "C" __global__ void shim_test_indices(unsigned* out, unsigned a, unsigned long long b, float c) {
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    out[block * threads + thread] = block * 1000 + thread + a + (unsigned)(b >> 32) + __float_as_uint(c);
}

// Reads one element beyond the n of x.
extern "C" __global__ void shim_test_reads_beyond(const float* x, float* y, unsigned n) {
    unsigned i = threadIdx.x;
    if (i < n) y[i] = x[i + 1];
}

// Every block writes the first element.
extern "C" __global__ void shim_test_all_write(float* x) { x[blockIdx.x > 0 ? 0 : threadIdx.x] = 1.0f; }

// Neighbours in a warp exchange through shared memory, with and without the warp's barrier.
extern "C" __global__ void shim_test_warp_barrier(float* x, unsigned wait) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    if (wait) __syncwarp();
    x[threadIdx.x] = tile[threadIdx.x ^ 1];
}
