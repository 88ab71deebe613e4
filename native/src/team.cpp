#include "team.h"

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

nc_team::nc_team(int n_threads) : n_threads_(n_threads) {
    try {
        for (int index = 1; index < n_threads; ++index) threads_.emplace_back([this, index] { work(index); });
    } catch (...) {
        stopped_ = true;
        announce(call_);
        for (std::thread &thread : threads_) thread.join();
        throw;
    }
}

nc_team::~nc_team() {
    stopped_ = true;
    announce(call_);
    for (std::thread &thread : threads_) thread.join();
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
        if (stopped_) return;
        (*job_)(index);
        meet();
    }
}
