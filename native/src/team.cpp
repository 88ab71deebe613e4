#include "team.h"

#include <pthread.h>

namespace {

// Rounds of watching before a thread sleeps: some 50 us, longer than a step takes and than a caller needs between two texts.
constexpr int kPatience = 2000;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Raised in every forked child, before anything else runs there.
std::atomic<uint32_t> generation{0};

void count_generation() { generation.fetch_add(1, std::memory_order_relaxed); }

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, count_generation);

void await_change(const std::atomic<uint32_t> &value, uint32_t seen) {
    for (int round = 0; round < kPatience; ++round) {
        if (value.load(std::memory_order_acquire) != seen) return;
        pause();
    }
    value.wait(seen, std::memory_order_acquire);
}

void announce(std::atomic<uint32_t> &value) {
    value.fetch_add(1, std::memory_order_release);
    value.notify_all();
}

}  // namespace

nc_team::nc_team(int n_threads) : n_threads_(n_threads), generation_(generation) {}

nc_team::~nc_team() { stop(); }

bool nc_team::is_left_behind() const { return generation_ != generation.load(std::memory_order_relaxed); }

bool nc_team::take() {
    uint32_t expected = kFree;
    if (is_left_behind() || !state_.compare_exchange_strong(expected, kTaken, std::memory_order_acquire)) return false;
    if ((int)threads_.size() + 1 < n_threads_) start();
    return true;
}

void nc_team::give_back() {
    state_.store(kFree, std::memory_order_release);
    state_.notify_all();  // who stops it waits; a caller never does
}

void nc_team::stop() {
    for (uint32_t expected = kFree; !state_.compare_exchange_weak(expected, kStopped, std::memory_order_acquire); expected = kFree) {
        if (expected == kStopped) return;
        if (expected == kTaken) state_.wait(kTaken, std::memory_order_acquire);
    }
    end_threads();
}

void nc_team::start() {
    try {
        while ((int)threads_.size() + 1 < n_threads_) {
            const int index = (int)threads_.size() + 1;
            threads_.emplace_back([this, index] { work(index); });
        }
    } catch (...) {
        end_threads();
        ended_ = false;
        call_ = 0;
        give_back();
        throw Unable();
    }
}

void nc_team::end_threads() {
    ended_ = true;
    announce(call_);
    for (std::thread &thread : threads_) thread.join();
    threads_.clear();
}

void nc_team::run(const std::function<void(int)> &job) {
    job_ = &job;
    announce(call_);
    job(0);
    meet();
}

void nc_team::meet() {
    const uint32_t step = step_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < n_threads_) return await_change(step_, step);
    arrived_.store(0, std::memory_order_relaxed);
    announce(step_);
}

void nc_team::work(int index) {
    for (uint32_t seen = 0;; ++seen) {
        await_change(call_, seen);
        if (ended_) return;
        (*job_)(index);
        meet();
    }
}
