// The kernels with their parameters. Included after the kernels, in their unnamed namespace.
#pragma once

using ::shim::Kind;

template <class T>
constexpr Kind kind_of() {
    static_assert(std::is_pointer<T>::value || std::is_same<T, float>::value ||
                      (std::is_integral<T>::value && (sizeof(T) == 4 || sizeof(T) == 8)),
                  "a kernel's parameters are pointers, float, and integers of 32 or 64 bits");
    return std::is_pointer<T>::value ? ::shim::ADDRESS
           : std::is_same<T, float>::value ? ::shim::F32
           : sizeof(T) == 4               ? ::shim::U32
                                          : ::shim::U64;
}

// Reading the arguments is no access of the kernel's.
#define SHIM_UNREPORTED __attribute__((no_sanitize("thread")))

template <class T>
SHIM_UNREPORTED T take(const uint64_t* arg) {
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
    SHIM_UNREPORTED static void call(const uint64_t* args, std::index_sequence<I...>) {
        kernel(take<P>(args + I)...);
    }
    SHIM_UNREPORTED static void invoke(const uint64_t* args) { call(args, std::index_sequence_for<P...>()); }
};

template <class F, F kernel>
::shim::Kernel describe(const char* name) {
    using E = Entry<F, kernel>;
    return ::shim::Kernel{name, E::kinds(), E::COUNT, E::invoke};
}
#define SHIM_KERNEL(name) describe<decltype(&name), &name>(#name)
