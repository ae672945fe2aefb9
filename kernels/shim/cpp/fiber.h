// Stacks that a CPU thread can leave and come back to: one for each CUDA thread that waits.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

namespace shim {

// Leaves this stack, noting where in *from, and goes on where `to` was left.
extern "C" void essaim_shim_switch(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.hidden essaim_shim_switch
.globl essaim_shim_switch
.type essaim_shim_switch, @function
essaim_shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size essaim_shim_switch, . - essaim_shim_switch
)");

// The stack as essaim_shim_switch leaves it: six registers, then the address where `ret` goes; a function expects the stack 8 bytes off a
// multiple of 16.
inline void* prepare(char* top, void (*entry)()) {
    void** place = (void**)top - 2;
    place[0] = (void*)entry;
    for (int i = 1; i <= 6; i++) place[-i] = nullptr;
    return place - 6;
}
#elif defined(__aarch64__)
asm(R"(
.text
.hidden essaim_shim_switch
.globl essaim_shim_switch
.type essaim_shim_switch, %function
essaim_shim_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size essaim_shim_switch, . - essaim_shim_switch
)");

inline void* prepare(char* top, void (*entry)()) {
    void** place = (void**)(top - 160);
    for (int i = 0; i < 20; i++) place[i] = nullptr;
    place[11] = (void*)entry;
    return place;
}
#else
#error "the shim switches stacks on x86-64 and aarch64 only: write essaim_shim_switch for this machine"
#endif

struct Fiber {
    static constexpr size_t SIZE = 64 * 1024;
    static constexpr uint64_t MARK = 0x5afe57ac5afe57acull;

    char* stack;
    void* place;  // Where it was left.

    // A fiber that will start in `entry`, which never returns.
    static Fiber* make(void (*entry)()) {
        Fiber* fiber = (Fiber*)malloc(sizeof(Fiber));
        void* memory = mmap(nullptr, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (!fiber || memory == MAP_FAILED) abort();
        fiber->stack = (char*)memory;
        *(uint64_t*)fiber->stack = MARK;
        fiber->restart(entry);
        return fiber;
    }
    void restart(void (*entry)()) { place = prepare(stack + SIZE, entry); }
    bool overflowed() const { return *(uint64_t*)stack != MARK; }
    void discard() {
        munmap(stack, SIZE);
        free(this);
    }
};

}  // namespace shim
