// All kernels, as one module. `build_ptx.py` compiles this file, and so does the shim's build.

#include "elementwise.cu"
