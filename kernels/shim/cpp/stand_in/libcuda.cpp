// A stand-in for NVIDIA's driver library: the functions that kernels/src/cuda/nvidia calls, under their names, on one device whose kernels run on this CPU.
//
// As lazy and as strict as NVIDIA's words allow: nothing queued is done before somebody waits, so what a copy reads must still be there then; every call
// wants the living context to be current on its thread; and after a failure that sticks, calls in that context go on failing. Calls are noted, failures
// made on demand (`stand_in_…`, or ESSAIM_STAND_IN_FAIL=FUNCTION:NUMBER:CODE:KIND for a whole program).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "../interface.h"

// As in runtime.cpp and access.h.
struct Grid {
    shim::Index grid, block;
    uint32_t order;
    uint64_t seed;
    shim::Site skipped;
};

struct Report {
    char text[256];
};

extern "C" {
// The linker gives it to programs only. Checked kernels ask for it, of which there are none here.
char __executable_start;

const shim::Kernel* essaim_shim_kernels_plain(uint32_t* count);
void essaim_shim_run_block(shim::Invoke invoke, const uint64_t* args, const Grid* grid, uint64_t block, const void* watch, Report* report);
}

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201 };
enum { INVALID_HANDLE = 400, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700 };

// How long a failure lasts.
enum Kind { ONCE = 0, CONTEXT = 1, PROCESS = 2 };

struct Failure {
    std::string function;
    int number;  // The how many-th call from now on fails; 1 is the next.
    int code;
    int kind;
};

struct Context {
    int sticky;
};

struct Module {
    std::string text;
};

struct Stream {
    std::vector<std::function<int()>> queue;
};

struct State {
    std::recursive_mutex mutex;
    std::vector<Failure> failures;
    std::string log;
    bool started = false;
    int sticky = SUCCESS;  // Of the process.
    unsigned flags = 0;
    int retained = 0;
    Context* context = nullptr;
    size_t total = size_t(1) << 30, used = 0;
    std::map<uint64_t, size_t> buffers;
    std::map<char*, size_t> pinned;
    std::map<Module*, int> modules;
    std::map<Stream*, int> streams;
};

State& state() {
    static State* instance = new State;
    return *instance;
}

thread_local Context* current = nullptr;

typedef std::lock_guard<std::recursive_mutex> Lock;

// Notes a call; its planned failure, or 0.
int enter(const char* function, bool in_context) {
    State& s = state();
    s.log += function;
    s.log += '\n';
    if (s.sticky) return s.sticky;
    if (in_context && (!current || current != s.context)) return INVALID_CONTEXT;
    if (in_context && current->sticky) return current->sticky;
    for (size_t i = 0; i < s.failures.size(); i++) {
        if (s.failures[i].function != function || --s.failures[i].number > 0) continue;
        const Failure failure = s.failures[i];
        s.failures.erase(s.failures.begin() + long(i));
        if (failure.kind == PROCESS) s.sticky = failure.code;
        if (failure.kind == CONTEXT && s.context) s.context->sticky = failure.code;
        return failure.code;
    }
    return SUCCESS;
}

#define CALL(function, in_context)                       \
    State& s = state();                                  \
    const Lock lock(s.mutex);                            \
    if (int code = enter(#function, in_context)) return code

// Whether `len` bytes from there are of one buffer.
bool holds(uint64_t address, size_t len) {
    auto next = state().buffers.upper_bound(address);
    if (next == state().buffers.begin()) return false;
    --next;
    return address + len <= next->first + next->second;
}

const shim::Kernel* find(const char* name) {
    uint32_t count = 0;
    const shim::Kernel* kernels = essaim_shim_kernels_plain(&count);
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(kernels[i].name, name)) return kernels + i;
    return nullptr;
}

void drop_context() {
    State& s = state();
    for (auto& buffer : s.buffers) free(reinterpret_cast<void*>(buffer.first));
    for (auto& memory : s.pinned) free(memory.first);
    for (auto& module : s.modules) delete module.first;
    for (auto& stream : s.streams) delete stream.first;
    s.buffers.clear(), s.pinned.clear(), s.modules.clear(), s.streams.clear();
    s.used = 0;
    delete s.context;
    s.context = nullptr;
}

int run_kernel(const shim::Kernel* kernel, const std::vector<uint64_t>& args, const Grid& grid) {
    for (uint32_t i = 0; i < kernel->kinds_len; i++)
        if (kernel->kinds[i] == shim::ADDRESS && args[i] && !holds(args[i], 1)) return ILLEGAL_ADDRESS;
    const uint64_t blocks = uint64_t(grid.grid.x) * grid.grid.y * grid.grid.z;
    for (uint64_t block = 0; block < blocks; block++) {
        Report report = Report();
        essaim_shim_run_block(kernel->invoke, args.data(), &grid, block, nullptr, &report);
        if (report.text[0]) return ILLEGAL_ADDRESS;
    }
    return SUCCESS;
}

}  // namespace

extern "C" {

// For tests: what was called since the last time, a name a line. Good until the next call.
const char* stand_in_take_log() {
    static std::string taken;
    const Lock lock(state().mutex);
    taken.swap(state().log);
    state().log.clear();
    return taken.c_str();
}

// For tests: makes a call fail.
void stand_in_fail(const char* function, int number, int code, int kind) {
    const Lock lock(state().mutex);
    state().failures.push_back(Failure{function, number, code, kind});
}

// For tests: bytes of device and of page-locked memory, then users of the primary context, modules, streams, and the context's flags.
void stand_in_counts(uint64_t counts[6]) {
    State& s = state();
    const Lock lock(s.mutex);
    size_t pinned = 0;
    for (auto& memory : s.pinned) pinned += memory.second;
    const uint64_t values[6] = {s.used, pinned, uint64_t(s.retained), s.modules.size(), s.streams.size(), s.flags};
    memcpy(counts, values, sizeof(values));
}

// For tests: ends what a failure of the process left, as a new process would.
void stand_in_restart() {
    const Lock lock(state().mutex);
    state().sticky = SUCCESS;
    state().failures.clear();
}

int cuInit(unsigned) {
    CALL(cuInit, false);
    const char* wanted = getenv("ESSAIM_STAND_IN_FAIL");
    char function[64];
    int number, code_, kind;
    if (!s.started && wanted && sscanf(wanted, "%63[^:]:%d:%d:%d", function, &number, &code_, &kind) == 4)
        s.failures.push_back(Failure{function, number, code_, kind});
    s.started = true;
    return SUCCESS;
}

int cuDriverGetVersion(int* version) {
    CALL(cuDriverGetVersion, false);
    *version = 12040;
    return SUCCESS;
}

static const char* word_of(int code, bool name) {
    switch (code) {
    case OUT_OF_MEMORY: return name ? "CUDA_ERROR_OUT_OF_MEMORY" : "out of memory";
    case ILLEGAL_ADDRESS: return name ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "an illegal memory access was encountered";
    case 719: return name ? "CUDA_ERROR_LAUNCH_FAILED" : "unspecified launch failure";
    case 218: return name ? "CUDA_ERROR_INVALID_PTX" : "a PTX JIT compilation failed";
    default: return nullptr;
    }
}

int cuGetErrorName(int code, const char** text) {
    *text = word_of(code, true);
    return *text ? SUCCESS : INVALID_VALUE;
}

int cuGetErrorString(int code, const char** text) {
    *text = word_of(code, false);
    return *text ? SUCCESS : INVALID_VALUE;
}

int cuDeviceGetCount(int* count) {
    CALL(cuDeviceGetCount, false);
    *count = 1;
    return SUCCESS;
}

int cuDeviceGet(int* device, int ordinal) {
    CALL(cuDeviceGet, false);
    *device = 7;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetName(char* name, int len, int device) {
    CALL(cuDeviceGetName, false);
    snprintf(name, size_t(len), "A stand-in");
    return device == 7 ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
    CALL(cuDeviceGetAttribute, false);
    if (device != 7) return INVALID_DEVICE;
    switch (attribute) {
    case 13: *value = 1500000; return SUCCESS;
    case 16: *value = 3; return SUCCESS;
    case 75: *value = 8; return SUCCESS;
    case 76: *value = 6; return SUCCESS;
    default: return INVALID_VALUE;
    }
}

int cuDeviceTotalMem_v2(size_t* bytes, int device) {
    CALL(cuDeviceTotalMem_v2, false);
    *bytes = s.total;
    return device == 7 ? SUCCESS : INVALID_DEVICE;
}

int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    CALL(cuDevicePrimaryCtxSetFlags_v2, false);
    s.flags = flags;
    return device == 7 ? SUCCESS : INVALID_DEVICE;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
    CALL(cuDevicePrimaryCtxRetain, false);
    if (device != 7) return INVALID_DEVICE;
    if (s.retained++ == 0) s.context = new Context();
    *context = s.context;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    State& s = state();
    const Lock lock(s.mutex);
    // A failure of the process does not keep what was had.
    const int code = enter("cuDevicePrimaryCtxRelease_v2", false);
    if (device != 7 || s.retained == 0) return INVALID_CONTEXT;
    if (--s.retained == 0) drop_context();
    return code;
}

int cuCtxSetCurrent(void* context) {
    CALL(cuCtxSetCurrent, false);
    if (context && context != s.context) return INVALID_CONTEXT;
    current = static_cast<Context*>(context);
    return SUCCESS;
}

int cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
    CALL(cuMemGetInfo_v2, true);
    *free_bytes = s.total - s.used;
    *total = s.total;
    return SUCCESS;
}

int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    CALL(cuMemAlloc_v2, true);
    if (bytes == 0) return INVALID_VALUE;
    void* memory = nullptr;
    if (bytes > s.total - s.used || posix_memalign(&memory, 256, bytes)) return OUT_OF_MEMORY;
    memset(memory, 0xff, bytes);
    *address = reinterpret_cast<uint64_t>(memory);
    s.buffers[*address] = bytes;
    s.used += bytes;
    return SUCCESS;
}

int cuMemFree_v2(uint64_t address) {
    CALL(cuMemFree_v2, true);
    auto found = s.buffers.find(address);
    if (found == s.buffers.end()) return INVALID_VALUE;
    s.used -= found->second;
    free(reinterpret_cast<void*>(address));
    s.buffers.erase(found);
    return SUCCESS;
}

int cuMemAllocHost_v2(void** pointer, size_t bytes) {
    CALL(cuMemAllocHost_v2, true);
    *pointer = malloc(bytes);
    s.pinned[static_cast<char*>(*pointer)] = bytes;
    return SUCCESS;
}

int cuMemFreeHost(void* pointer) {
    CALL(cuMemFreeHost, true);
    if (!s.pinned.erase(static_cast<char*>(pointer))) return INVALID_VALUE;
    free(pointer);
    return SUCCESS;
}

int cuStreamCreate(void** stream, unsigned) {
    CALL(cuStreamCreate, true);
    Stream* made = new Stream;
    s.streams[made] = 1;
    *stream = made;
    return SUCCESS;
}

int cuStreamSynchronize(void* stream) {
    CALL(cuStreamSynchronize, true);
    Stream* of = static_cast<Stream*>(stream);
    if (!s.streams.count(of)) return INVALID_HANDLE;
    std::vector<std::function<int()>> queue;
    queue.swap(of->queue);
    for (auto& work : queue)
        if (int code = work()) return current->sticky = code;
    return SUCCESS;
}

int cuStreamDestroy_v2(void* stream) {
    CALL(cuStreamDestroy_v2, true);
    Stream* of = static_cast<Stream*>(stream);
    if (!s.streams.erase(of)) return INVALID_HANDLE;
    delete of;
    return SUCCESS;
}

static int queue(void* stream, std::function<int()> work) {
    Stream* of = static_cast<Stream*>(stream);
    if (!state().streams.count(of)) return INVALID_HANDLE;
    of->queue.push_back(std::move(work));
    return SUCCESS;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    CALL(cuMemcpyHtoDAsync_v2, true);
    return queue(stream, [=] {
        if (!holds(to, bytes)) return int(ILLEGAL_ADDRESS);
        memcpy(reinterpret_cast<void*>(to), from, bytes);
        return int(SUCCESS);
    });
}

int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    CALL(cuMemcpyDtoHAsync_v2, true);
    return queue(stream, [=] {
        if (!holds(from, bytes)) return int(ILLEGAL_ADDRESS);
        memcpy(to, reinterpret_cast<const void*>(from), bytes);
        return int(SUCCESS);
    });
}

int cuModuleLoadDataEx(void** module, const void* image, unsigned options_len, int* options, void** values) {
    State& s = state();
    const Lock lock(s.mutex);
    if (int code = enter("cuModuleLoadDataEx", true)) {
        const bool has_log = options_len == 2 && options[0] == 5 && options[1] == 6;
        if (has_log) snprintf(static_cast<char*>(values[0]), reinterpret_cast<size_t>(values[1]), "line 9:\n  no such instruction");
        return code;
    }
    Module* made = new Module{static_cast<const char*>(image)};
    s.modules[made] = 1;
    *module = made;
    return SUCCESS;
}

int cuModuleUnload(void* module) {
    CALL(cuModuleUnload, true);
    Module* of = static_cast<Module*>(module);
    if (!s.modules.erase(of)) return INVALID_HANDLE;
    delete of;
    return SUCCESS;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
    CALL(cuModuleGetFunction, true);
    Module* of = static_cast<Module*>(module);
    if (!s.modules.count(of)) return INVALID_HANDLE;
    const shim::Kernel* kernel = find(name);
    if (!kernel || of->text.find(std::string(".entry ") + name + "(") == std::string::npos) return NOT_FOUND;
    *function = const_cast<shim::Kernel*>(kernel);
    return SUCCESS;
}

int cuFuncGetAttribute(int* value, int attribute, void*) {
    CALL(cuFuncGetAttribute, true);
    *value = attribute == 4 ? 40 : attribute == 1 ? 1024 : 0;
    return SUCCESS;
}

int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                   unsigned shared_bytes, void* stream, void** params, void** extra) {
    CALL(cuLaunchKernel, true);
    const shim::Kernel* kernel = static_cast<const shim::Kernel*>(function);
    if (shared_bytes || extra || !grid_x || !grid_y || !grid_z || block_x * block_y * block_z > 1024) return INVALID_VALUE;
    std::vector<uint64_t> args;
    for (uint32_t i = 0; i < kernel->kinds_len; i++) {
        uint64_t value = 0;
        const bool wide = kernel->kinds[i] == shim::ADDRESS || kernel->kinds[i] == shim::U64;
        memcpy(&value, params[i], wide ? 8 : 4);
        args.push_back(value);
    }
    const Grid grid = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, 0, 0, {"", 0}};
    return queue(stream, [=] { return run_kernel(kernel, args, grid); });
}

}
