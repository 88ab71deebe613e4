// The smallest harness that does: tests register themselves, checks count, a failed one says where and with what.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"

namespace suite {

enum class Of { Int8, Floats, Each };  // precisions

struct Test {
    const char *name;
    Of precisions;
    void (*run)(const nc_kernels &);  // once for every instruction set and precision

    bool concerns(int32_t precision) const { return precisions == Of::Each || (precisions == Of::Int8) == (precision == NC_INT8); }
};

inline std::vector<Test> tests;
inline std::atomic<long> n_checks = 0, n_failures = 0;  // some checks are made in threads

struct Register {
    Register(const char *name, Of precisions, void (*run)(const nc_kernels &)) { tests.push_back({name, precisions, run}); }
};

// True if it holds; of many failures, the first are told.
template <typename... Values>
bool check(bool holds, const char *file, int line, const char *format, Values... values) {
    ++n_checks;
    if (!holds && ++n_failures <= 20) {
        std::printf("    %s:%d: ", file, line);
        std::printf(format, values...);
        std::printf("\n");
    }
    return holds;
}

// Numbers that are the same everywhere (splitmix64).
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        return z ^ z >> 31;
    }
    int64_t integer(int64_t low, int64_t high) { return low + (int64_t)(next() % (uint64_t)(high - low + 1)); }
    float uniform(float low, float high) { return low + (high - low) * (float)(next() >> 40) / (1 << 24); }
    std::vector<float> floats(int64_t n, float low, float high) {
        std::vector<float> all(n);
        for (float &x : all) x = uniform(low, high);
        return all;
    }

private:
    uint64_t state_;
};

// Memory of exactly this size, aligned as the interface asks for, so that AddressSanitizer sees the first byte too many.
// Its content is NaN, whatever it is read as.
inline std::shared_ptr<void> aligned_bytes(size_t n) {
    void *memory = nullptr;
    if (posix_memalign(&memory, 64, n ? n : 1)) std::abort();
    __builtin_memset(memory, 0xFF, n);
    return {memory, std::free};
}

}  // namespace suite

#define NC_JOIN_(a, b) a##b
#define NC_JOIN(a, b) NC_JOIN_(a, b)
#define TEST_(name, precisions, function)                          \
    static void function(const nc_kernels &);                      \
    static const suite::Register NC_JOIN(registered_, function)(name, precisions, function); \
    static void function(const nc_kernels &kernels [[maybe_unused]])
#define TEST(name) TEST_(name, suite::Of::Int8, NC_JOIN(test_, __LINE__))
#define TEST_FLOATS(name) TEST_(name, suite::Of::Floats, NC_JOIN(test_, __LINE__))
#define TEST_EACH(name) TEST_(name, suite::Of::Each, NC_JOIN(test_, __LINE__))
#define CHECK(condition, ...) suite::check((condition), __FILE__, __LINE__, __VA_ARGS__)
