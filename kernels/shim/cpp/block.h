// Runs the threads of one block, one after the other on this CPU thread. A thread runs until it ends or waits for others;
// a thread that never waits costs a function call. Everything here belongs to one CPU thread.
#pragma once

#include <string.h>

#include <vector>

#include "access.h"
#include "fiber.h"
#include "interface.h"

namespace shim {

// In which order the threads run between two barriers. A missing barrier shows in at least one of them.
enum Order : uint32_t { FORWARD = 0, BACKWARD = 1, SHUFFLED = 2 };

// How a block ended: all threads did, or some wait for others in vain, or one took more stack than there is.
enum Ending { DONE, WAITING, OVERFLOWED };

enum class State : unsigned char { New, Ready, AtBarrier, InWarp, Ended };

struct Thread {
    Fiber* fiber;
    Index index;
    Site site;  // Where it waits.
    State state;
};

static constexpr unsigned WARP = 32;

class Worker {
public:
    ~Worker() {
        for (Fiber* fiber : all_) fiber->discard();
    }

    // Watches the memory that kernels touch.
    Access access;

    // Runs a block whose indices stand in `here`, with no barrier at `skipped`. `site` is where the first thread of a diverged block waits.
    Ending run(Invoke invoke, const uint64_t* args, Order order, uint64_t seed, Site skipped, Site* site) {
        skipped_ = skipped;
        invoke_ = invoke;
        args_ = args;
        count_ = here.block_dim.x * here.block_dim.y * here.block_dim.z;
        threads_.assign(count_, Thread());
        unsigned linear = 0;
        for (unsigned z = 0; z < here.block_dim.z; z++)
            for (unsigned y = 0; y < here.block_dim.y; y++)
                for (unsigned x = 0; x < here.block_dim.x; x++) threads_[linear++].index = Index{x, y, z};
        warps_.assign((count_ + WARP - 1) / WARP, Warp());
        order_.resize(count_);
        for (unsigned i = 0; i < count_; i++) order_[i] = order == BACKWARD ? count_ - 1 - i : i;
        at_barrier_ = ended_ = in_warp_ = 0;
        stopped_ = false;
        random_ = seed * 0x9e3779b97f4a7c15ull + 1;
        while (ended_ < count_) {
            if (order == SHUFFLED) shuffle();
            sweep();
            if (stopped_) return give_up(WAITING, site);
            if (at_barrier_ == count_) {
                if (!release_barrier()) return give_up(WAITING, site);
            } else if (at_barrier_ + in_warp_ + ended_ == count_ && ended_ < count_) {
                return give_up(WAITING, site);
            }
        }
        for (Fiber* fiber : all_)
            if (fiber->overflowed()) return give_up(OVERFLOWED, site);
        return DONE;
    }

    void barrier(Site site) {
        if (site.line == skipped_.line && strcmp(site.file, skipped_.file) == 0) return;
        Thread& thread = threads_[here.linear];
        thread.state = State::AtBarrier;
        thread.site = site;
        at_barrier_++;
        leave(thread);
    }

    uint32_t exchange(uint32_t bits, unsigned from, bool fence, Site site) {
        unsigned lane = here.linear % WARP;
        Warp& warp = warps_[here.linear / WARP];
        unsigned size = warp_size(here.linear / WARP);
        // The other slot, so that a fast thread's next exchange does not overwrite what a slow one has yet to read.
        unsigned slot = warp.turn[lane]++ % 2;
        warp.slots[slot][lane] = bits;
        Thread& thread = threads_[here.linear];
        thread.state = State::InWarp;
        thread.site = site;
        in_warp_++;
        if (++warp.arrived == size) {
            release_warp(here.linear / WARP);
            if (fence && access.active()) access.warp_barrier(here.linear / WARP);
        }
        leave(thread);
        return warp.slots[slot][from < size ? from : lane];
    }

    // Before an access. One that must not be made is not made: the block ends here.
    void note(uint64_t address, uint64_t len, bool writes) {
        if (access.allows(address, len, writes, current_->stack, Fiber::SIZE)) return;
        stopped_ = true;
        essaim_shim_switch(&current_->place, main_);
    }

    void loop();

private:
    struct Warp {
        uint32_t slots[2][WARP];
        uint32_t turn[WARP];
        unsigned arrived;
    };

    unsigned warp_size(unsigned warp) const {
        unsigned left = count_ - warp * WARP;
        return left < WARP ? left : WARP;
    }

    void enter(unsigned linear) {
        here.linear = linear;
        here.thread = threads_[linear].index;
    }

    // Runs every thread that can run, once.
    void sweep() {
        cursor_ = 0;
        while (cursor_ < count_ && !stopped_) {
            unsigned linear = order_[cursor_];
            Thread& thread = threads_[linear];
            if (thread.state == State::New) {
                if (idle_.empty()) all_.push_back(Fiber::make(start)), idle_.push_back(all_.back());
                current_ = idle_.back();
                idle_.pop_back();
                essaim_shim_switch(&main_, current_->place);
                continue;
            }
            cursor_++;
            if (thread.state == State::Ready) {
                current_ = thread.fiber;
                enter(linear);
                essaim_shim_switch(&main_, current_->place);
            }
        }
    }

    // From a thread back to the sweep, until the thread is Ready again.
    void leave(Thread& thread) {
        thread.fiber = current_;
        essaim_shim_switch(&thread.fiber->place, main_);
    }

    bool release_barrier() {
        Site site = threads_[0].site;
        for (Thread& thread : threads_) {
            if (thread.site.line != site.line || strcmp(thread.site.file, site.file) != 0) return false;
            thread.state = State::Ready;
        }
        at_barrier_ = 0;
        if (access.active()) access.barrier();
        return true;
    }

    void release_warp(unsigned warp) {
        unsigned size = warp_size(warp);
        for (unsigned lane = 0; lane < size; lane++) threads_[warp * WARP + lane].state = State::Ready;
        warps_[warp].arrived = 0;
        in_warp_ -= size;
    }

    Ending give_up(Ending ending, Site* site) {
        for (Thread& thread : threads_)
            if (thread.state == State::AtBarrier || thread.state == State::InWarp) {
                *site = thread.site;
                break;
            }
        for (Fiber* fiber : all_) fiber->discard();
        all_.clear();
        idle_.clear();
        return ending;
    }

    void shuffle() {
        for (unsigned i = count_; i > 1; i--) {
            random_ ^= random_ << 13, random_ ^= random_ >> 7, random_ ^= random_ << 17;
            unsigned other = (unsigned)((random_ >> 32) * i >> 32);
            unsigned kept = order_[i - 1];
            order_[i - 1] = order_[other];
            order_[other] = kept;
        }
    }

    // On a fresh fiber; the worker is the calling CPU thread's.
    static void start();

    Invoke invoke_ = nullptr;
    const uint64_t* args_ = nullptr;
    uint64_t random_ = 1;
    unsigned count_ = 0, cursor_ = 0, at_barrier_ = 0, ended_ = 0, in_warp_ = 0;
    Site skipped_ = Site();
    bool stopped_ = false;
    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    std::vector<unsigned> order_;
    std::vector<Fiber*> all_, idle_;
    Fiber* current_ = nullptr;
    void* main_ = nullptr;
};

// What a fiber does: threads that have not begun, as long as they come next in the sweep.
inline void Worker::loop() {
    for (;;) {
        Fiber* own = current_;
        while (cursor_ < count_ && threads_[order_[cursor_]].state == State::New) {
            unsigned linear = order_[cursor_++];
            enter(linear);
            current_ = own;
            threads_[linear].state = State::Ready;
            invoke_(args_);
            threads_[here.linear].state = State::Ended;
            ended_++;
        }
        idle_.push_back(own);
        essaim_shim_switch(&own->place, main_);
    }
}

}  // namespace shim
