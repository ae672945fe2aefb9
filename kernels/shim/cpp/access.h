// Watches every access to memory of a checked kernel: whether it lies in a buffer, whether what is read was written, and whether another
// thread touches the same word without a barrier between. The compiler reports accesses by calling __tsan_read4 and so on, which it does
// for ThreadSanitizer; here they lead to this.
#pragma once

#include <stdio.h>
#include <string.h>

#include <map>
#include <vector>

#include "interface.h"

namespace shim {

// What holds of a word before it is written: a NaN.
static constexpr uint32_t UNDEFINED = 0xffd15ea5u;

// Who touched a word, and when. `launch` 0 is nobody.
struct Touch {
    uint32_t launch, block, interval;
    uint16_t thread, warp_interval;
};

// As in memory.rs. One for each four bytes.
struct Shadow {
    uint32_t written;
    Touch write, reads[2];
};

// As in native.rs.
struct Region {
    uint64_t start, len;
    Shadow* shadow;
};

// One launch of a checked kernel, on one CPU thread.
struct Watch {
    const Region* regions;
    uint64_t regions_len;
    uint32_t launch;
};

// What went wrong first, in words; empty while nothing did.
struct Report {
    char text[256];
};

struct SharedArray {
    const char* name;
    std::vector<Shadow> shadow;
    size_t bytes;
};

extern "C" char __executable_start, _end;

class Access {
public:
    void begin(const Watch* watch, Report* report) {
        watch_ = watch;
        report_ = report;
    }
    void end() { watch_ = nullptr; }
    bool active() const { return watch_ != nullptr; }

    void begin_block() {
        arrays_.clear();
        block_ = (here.block.z * here.grid_dim.y + here.block.y) * here.grid_dim.x + here.block.x;
        interval_ = 0;
        warp_intervals_.assign(1024 / 32, 0);
    }
    void barrier() { interval_++; }
    void warp_barrier(unsigned warp) { warp_intervals_[warp]++; }

    void declare(const char* name, void* start, size_t bytes) {
        SharedArray& array = arrays_[(uint64_t)start];
        array.name = name;
        array.bytes = bytes;
        array.shadow.assign((bytes + 3) / 4, Shadow());
    }

    // Notes an access, or reports that it must not be. `stack` is where the running thread keeps its local variables.
    bool allows(uint64_t address, uint64_t len, bool writes, const char* stack, size_t stack_len) {
        if (address - (uint64_t)stack < stack_len || address - (uint64_t)&here < sizeof(here)) return true;
        for (uint64_t at = address & ~3ull; at < address + len; at += 4) word(at, writes);
        return !report_->text[0];
    }

private:
    void word(uint64_t address, bool writes) {
        auto array = arrays_.upper_bound(address);
        if (array != arrays_.begin()) {
            --array;
            uint64_t offset = address - array->first;
            if (offset < array->second.bytes)
                return touch(array->second.shadow[offset / 4], writes, array->second.name, offset / 4);
        }
        const Region* region = find(address);
        if (region) {
            uint64_t offset = address - region->start;
            return touch(region->shadow[offset / 4], writes, "a buffer", offset / 4);
        }
        // Constants of the program.
        if (!writes && address >= (uint64_t)&__executable_start && address < (uint64_t)&_end) return;
        say("%s outside every buffer, at %#llx", writes ? "writes" : "reads", (unsigned long long)address);
    }

    const Region* find(uint64_t address) {
        if (last_ < watch_->regions_len) {
            const Region& region = watch_->regions[last_];
            if (address - region.start < region.len) return &region;
        }
        uint64_t low = 0, high = watch_->regions_len;
        while (low < high) {
            uint64_t middle = (low + high) / 2;
            const Region& region = watch_->regions[middle];
            if (address < region.start)
                high = middle;
            else if (address - region.start >= region.len)
                low = middle + 1;
            else {
                last_ = middle;
                return &region;
            }
        }
        return nullptr;
    }

    void touch(Shadow& shadow, bool writes, const char* name, uint64_t word) {
        Touch now = {watch_->launch, block_, interval_, (uint16_t)here.linear, warp_intervals_[here.linear / 32]};
        if (!writes && !shadow.written) return say("reads word %llu of %s, which nobody wrote", (unsigned long long)word, name);
        if (conflicts(shadow.write, now)) return race(shadow.write, true, now, writes, name, word);
        if (writes) {
            for (const Touch& read : shadow.reads)
                if (conflicts(read, now)) return race(read, false, now, true, name, word);
            shadow.written = 1;
            shadow.write = now;
        } else {
            // Two readers at odds with each other are enough: whoever writes is at odds with one of them.
            shadow.reads[conflicts(shadow.reads[0], now) ? 1 : 0] = now;
        }
    }

    // Whether two touches of one launch may happen in either order.
    static bool conflicts(const Touch& before, const Touch& now) {
        if (before.launch != now.launch) return false;
        if (before.block != now.block) return true;
        if (before.thread == now.thread || before.interval != now.interval) return false;
        return before.thread / 32 != now.thread / 32 || before.warp_interval == now.warp_interval;
    }

    void race(const Touch& before, bool wrote, const Touch& now, bool writes, const char* name, uint64_t word) {
        say("%s word %llu of %s, which thread %u of block %u %s without a barrier between", writes ? "writes" : "reads",
            (unsigned long long)word, name, before.thread, before.block, wrote ? "wrote" : "read");
    }

    template <class... T>
    void say(const char* format, T... values) {
        if (report_->text[0]) return;
        int len = snprintf(report_->text, sizeof(report_->text), "thread %u of block %u ", here.linear, block_);
        snprintf(report_->text + len, sizeof(report_->text) - len, format, values...);
    }

    const Watch* watch_ = nullptr;
    Report* report_ = nullptr;
    std::map<uint64_t, SharedArray> arrays_;
    std::vector<uint16_t> warp_intervals_;
    uint32_t block_ = 0, interval_ = 0;
    uint64_t last_ = 0;
};

}  // namespace shim
