// What kernels call, and what Rust calls to run a block.

#include "block.h"

namespace shim {

__thread Here here;
static __thread Worker* own_worker;

// As in native.rs.
struct Grid {
    Index grid, block;
    uint32_t order;
    uint64_t seed;
    Site skipped;  // A barrier that does nothing; line 0 for none.
};

void Worker::start() { own_worker->loop(); }

void barrier(Site site) { own_worker->barrier(site); }

uint32_t exchange(uint32_t bits, unsigned from, bool fence, Site site) {
    return own_worker->exchange(bits, from, fence, site);
}

void shared(const char* name, void* start, size_t bytes, uint64_t* seen) {
    if (*seen == here.serial) return;
    *seen = here.serial;
    for (size_t i = 0; i + 4 <= bytes; i += 4) memcpy((char*)start + i, &UNDEFINED, 4);
    if (own_worker->access.active()) own_worker->access.declare(name, start, bytes);
}

static Worker& worker() {
    static thread_local Worker instance;
    return instance;
}

static void note(const void* address, size_t len, bool writes) {
    if (own_worker && own_worker->access.active()) own_worker->note((uint64_t)address, len, writes);
}

}  // namespace shim

extern "C" {

// Runs the block of that number, x fastest. `watch` is null for kernels that do not report. What went wrong is in the report.
void essaim_shim_run_block(shim::Invoke invoke, const uint64_t* args, const shim::Grid* grid, uint64_t block,
                           const shim::Watch* watch, shim::Report* report) {
    using namespace shim;
    own_worker = &worker();
    here.grid_dim = grid->grid;
    here.block_dim = grid->block;
    here.block.x = (unsigned)(block % grid->grid.x);
    here.block.y = (unsigned)(block / grid->grid.x % grid->grid.y);
    here.block.z = (unsigned)(block / grid->grid.x / grid->grid.y);
    here.serial++;
    own_worker->access.begin(watch, report);
    if (watch) own_worker->access.begin_block();
    Site site = Site();
    Ending ending = own_worker->run(invoke, args, (Order)grid->order, grid->seed + block, grid->skipped, &site);
    own_worker->access.end();
    if (report->text[0] || ending == DONE) return;
    if (ending == OVERFLOWED)
        snprintf(report->text, sizeof(report->text), "a thread's local variables take more than its stack");
    else
        snprintf(report->text, sizeof(report->text), "not all threads of a block reach %s:%u", site.file, site.line);
}

// What -fsanitize=thread has the compiler call.
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
#define SHIM_NOTE(size)                                                                    \
    void __tsan_read##size(void* address) { shim::note(address, size, false); }            \
    void __tsan_write##size(void* address) { shim::note(address, size, true); }            \
    void __tsan_unaligned_read##size(void* address) { shim::note(address, size, false); }  \
    void __tsan_unaligned_write##size(void* address) { shim::note(address, size, true); }
SHIM_NOTE(1)
SHIM_NOTE(2)
SHIM_NOTE(4)
SHIM_NOTE(8)
SHIM_NOTE(16)
#undef SHIM_NOTE
void __tsan_read_range(void* address, unsigned long len) { shim::note(address, len, false); }
void __tsan_write_range(void* address, unsigned long len) { shim::note(address, len, true); }
// Clang has these called in the place of the usual ones.
void* __tsan_memcpy(void* to, const void* from, unsigned long len) {
    shim::note(from, len, false);
    shim::note(to, len, true);
    return memcpy(to, from, len);
}
void* __tsan_memmove(void* to, const void* from, unsigned long len) {
    shim::note(from, len, false);
    shim::note(to, len, true);
    return memmove(to, from, len);
}
void* __tsan_memset(void* to, int value, unsigned long len) {
    shim::note(to, len, true);
    return memset(to, value, len);
}
}
