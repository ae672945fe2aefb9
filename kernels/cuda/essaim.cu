// All kernels, as one module. `build_ptx.py` compiles this file, and so does the shim's build.

#include "attention_backward.cu"
#include "attention_forward.cu"
#include "columns.cu"
#include "elementwise.cu"
#include "embedding.cu"
#include "gemm.cu"
#include "loss.cu"
#include "norm.cu"
#include "reduce.cu"
#include "rope.cu"
