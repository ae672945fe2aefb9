// What the compiled kernels and the runtime share. The kernels are compiled twice (as they are, and with every access to memory reported), the
// runtime once.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace shim {

struct Index {
    unsigned x, y, z;
};

// What a kernel sees as threadIdx and so on.
struct Here {
    Index thread, block, block_dim, grid_dim;
    unsigned linear;  // The thread's number in its block: x fastest.
    uint64_t serial;  // The block's number since the CPU thread began.
};
// Quick to reach in a program; a library that is loaded later (SHIM_LIBRARY) must look for it.
#ifdef SHIM_LIBRARY
extern __thread Here here;
#else
extern __thread Here here __attribute__((tls_model("initial-exec")));
#endif

// A line of a CUDA source.
struct Site {
    const char* file;
    unsigned line;
};

// The calling thread waits for all of its block.
void barrier(Site site);

// Gives `bits` to the warp and takes those of the thread `from`, a lane (its own if there is no such lane). Orders memory if `fence`.
uint32_t exchange(uint32_t bits, unsigned from, bool fence, Site site);

// Tells of an array in shared memory, and makes it undefined if it is new to the block.
void shared(const char* name, void* start, size_t bytes, uint64_t* seen);

// Runs a kernel for the thread that `here` is; each argument lies in the low bytes of its 64 bits.
typedef void (*Invoke)(const uint64_t* args);

// As in native.rs.
enum Kind : uint8_t { ADDRESS = 0, U32 = 1, U64 = 2, F32 = 3 };

// As in native.rs.
struct Kernel {
    const char* name;
    const uint8_t* kinds;
    uint32_t kinds_len;
    Invoke invoke;
};

}  // namespace shim
