// How fast one core multiplies, on the shapes of all-MiniLM-L6-v2 and all-mpnet-base-v2, against what its clock allows.
//
//     cmake -S native -B build/native -DNEURALCORE_BENCH=ON && cmake --build build/native && build/native/bench_products
//
// The clock is measured by a chain of additions, one a cycle.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double measure_clock() {
    double best = 0;
    for (int round = 0; round < 20; ++round) {
        const auto start = Clock::now();
        uint64_t x = 1;
        for (int i = 0; i < 100'000; ++i) {
#pragma GCC unroll 10
            for (int j = 0; j < 10; ++j) {
                asm volatile("" : "+r"(x));
                x += x;
            }
        }
        best = std::max(best, 1e6 / seconds_since(start));
    }
    return best;
}

// Operations (a multiplication and an addition are two) that the instruction set can do in a cycle, with two units for them.
double operations_per_cycle(const char *name) {
    if (!std::strcmp(name, "avx512vnni")) return 2 * 64 * 2;
    if (!std::strcmp(name, "avxvnni")) return 2 * 32 * 2;
    if (!std::strcmp(name, "avx2")) return 2 * 64 * 2 / 3.0;  // three instructions for 64
    if (!std::strcmp(name, "neon")) return 2 * 16 * 2;
    return 0;
}

struct Shape {
    int64_t tokens, n_in, n_out;
    bool expands;
    const char *what;
};

double measure(const nc_kernels &kernels, const Shape &s) {
    std::vector<int8_t> weight(s.n_in * s.n_out + 64);
    for (int8_t &w : weight) w = std::rand() % 255 - 127;
    std::vector<float> column_scale(s.n_out, 1e-4f), bias(s.n_out, 0.1f), scratch(s.n_in), row_scale(s.tokens);
    std::vector<int32_t> column_sum(s.n_out, 3), row_zero(s.tokens);
    const nc_product product{weight.data(), column_scale.data(), column_sum.data(), bias.data(),
                             (int32_t)s.n_in, (int32_t)s.n_out};
    std::vector<float> x(s.tokens * s.n_in), out(s.tokens * s.n_out);
    for (float &value : x) value = std::rand() / (float)RAND_MAX - 0.5f;
    std::vector<uint8_t> values(s.tokens * s.n_in);
    const nc::Rows q{(char *)values.data(), s.n_in, row_scale.data(), row_zero.data()};
    kernels.prepare(x.data(), {}, {}, scratch.data(), q, s.n_in, {0, s.tokens});
    nc_layer layer{};
    layer.up = product;
    const nc::Wide wide{out.data(), s.n_out, {}};
    double best = 0;
    for (int round = 0; round < 30; ++round) {
        const auto start = Clock::now();
        if (s.expands)
            kernels.expand(q, layer, NC_GELU, wide, {0, s.tokens}, {0, s.n_out / NC_BLOCK});
        else
            kernels.multiply(q, product, true, out.data(), {0, s.tokens}, {0, s.n_out / NC_PANEL});
        best = std::max(best, 2.0 * s.tokens * s.n_in * s.n_out / seconds_since(start));
    }
    return best;
}

}  // namespace

int main() {
    const double clock = measure_clock();
    std::printf("clock %.2f GHz\n", clock / 1e9);
    char names[256];
    std::strncpy(names, nc_compiled(), sizeof names - 1);
    for (char *name = std::strtok(names, " "); name; name = std::strtok(nullptr, " ")) {
        const nc_kernels *kernels = nc_find(name, NC_INT8);
        if (!kernels) continue;
        const double peak = operations_per_cycle(name) * clock;
        std::printf("\n%s%s\n", name, peak ? "" : " (no peak known)");
        for (const int64_t hidden : {384, 768})
            for (const int64_t tokens : {16, 64, 128, 192, 256, 384, 512, 1024})
                for (const Shape &shape : {Shape{tokens, hidden, 3 * hidden, false, "queries, keys, values"},
                                           Shape{tokens, hidden, 4 * hidden, true, "into the network, GELU"},
                                           Shape{tokens, 4 * hidden, hidden, false, "out of it, addition"}}) {
                    if (!peak && tokens > 64) continue;
                    const double rate = measure(*kernels, shape);
                    std::printf("%5ld x %4ld x %4ld  %-24s %6.0f GOP/s", (long)tokens, (long)shape.n_in, (long)shape.n_out,
                                shape.what, rate / 1e9);
                    if (peak) std::printf("  %3.0f%% of %.0f", 100 * rate / peak, peak / 1e9);
                    std::printf("\n");
                }
    }
}
