// What Rust sees: the kernels with their parameters, and how to run a block. Included after the kernels.
#pragma once

#include <type_traits>
#include <utility>

namespace shim {

// As in native.rs.
enum Kind : uint8_t { ADDRESS = 0, U32 = 1, U64 = 2, F32 = 3 };

template <class T>
constexpr Kind kind_of() {
    static_assert(std::is_pointer<T>::value || std::is_same<T, float>::value ||
                      (std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8)),
                  "a kernel's parameters are pointers, float, and integers of 32 or 64 bits");
    return std::is_pointer<T>::value ? ADDRESS : std::is_same<T, float>::value ? F32 : sizeof(T) == 4 ? U32 : U64;
}

// Each argument lies in the low bytes of its 64 bits.
template <class T>
T take(const uint64_t* arg) {
    T value;
    memcpy(&value, arg, sizeof(T));
    return value;
}

template <class F, F kernel>
struct Entry;

template <class... P, void (*kernel)(P...)>
struct Entry<void (*)(P...), kernel> {
    static constexpr uint32_t COUNT = sizeof...(P);
    static const uint8_t* kinds() {
        static const uint8_t list[COUNT + 1] = {kind_of<P>()..., 0};
        return list;
    }
    template <size_t... I>
    static void call(const uint64_t* args, std::index_sequence<I...>) {
        kernel(take<P>(args + I)...);
    }
    static void invoke(const uint64_t* args) { call(args, std::index_sequence_for<P...>()); }
};

struct Kernel {
    const char* name;
    const uint8_t* kinds;
    uint32_t kinds_len;
    Invoke invoke;
};

template <class F, F kernel>
Kernel describe(const char* name) {
    using E = Entry<F, kernel>;
    return Kernel{name, E::kinds(), E::COUNT, E::invoke};
}
#define SHIM_KERNEL(name) shim::describe<decltype(&name), &name>(#name)

struct Grid {
    Index grid, block;
    uint32_t order;
    uint64_t seed;
};

// Runs the block of that number, x fastest. `line` is set where a thread waits for others in vain.
inline uint32_t run_block(Invoke invoke, const uint64_t* args, const Grid* grid, uint64_t block, uint32_t* line) {
    own_worker = &worker();
    here.grid_dim = grid->grid;
    here.block_dim = grid->block;
    here.block.x = (unsigned)(block % grid->grid.x);
    here.block.y = (unsigned)(block / grid->grid.x % grid->grid.y);
    here.block.z = (unsigned)(block / grid->grid.x / grid->grid.y);
    return own_worker->run(invoke, args, (Order)grid->order, grid->seed + block, line);
}

}  // namespace shim
