// Cycles by step of the encoder, when somebody asks for them.
#pragma once

#include <atomic>
#include <cstdint>

#include "neuralcore.h"

namespace nc {

inline std::atomic<bool> counts_cycles{false};
inline std::atomic<int64_t> cycles[NC_N_STAGES];

inline int64_t read_clock() {
#if defined(__x86_64__)
    return (int64_t)__builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    int64_t ticks;
    asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

// Adds what passes until its end to a stage.
class Stopwatch {
public:
    explicit Stopwatch(nc_stage stage) : stage_(stage), start_(counts_cycles.load(std::memory_order_relaxed) ? read_clock() : 0) {}
    Stopwatch(const Stopwatch &) = delete;
    ~Stopwatch() {
        if (start_) cycles[stage_].fetch_add(read_clock() - start_, std::memory_order_relaxed);
    }

private:
    const nc_stage stage_;
    const int64_t start_;
};

}  // namespace nc
