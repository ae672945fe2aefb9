// Operations on single elements.

extern "C" __global__ void essaim_fill(float* target, float value, unsigned long long n) {
    unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) target[i] = value;
}

extern "C" __global__ void essaim_copy(const float* source, float* target, unsigned long long n) {
    unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) target[i] = source[i];
}
