// How fast one core multiplies, on the shapes of all-MiniLM-L6-v2 and all-mpnet-base-v2, beside what its instructions reach at most.
//
//     cmake -S native -B build/native -DNEURALCORE_BENCH=ON && cmake --build build/native
//     build/native/bench_products [instruction set]
//     build/native/bench_products --peaks
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "peaks.h"
#include "workspace.h"

namespace {

const char *const precisions[] = {"int8", "fp32", "fp16", "bf16"};

struct Shape {
    int64_t tokens, n_in, n_out;
    bool expands;
    const char *what;
};

// Zeros, from an address that vectors like.
template <typename T>
class Memory {
public:
    explicit Memory(int64_t n) : bytes_(n * sizeof(T) + 128) {}
    T *data() { return (T *)(((uintptr_t)bytes_.data() + 63) / 64 * 64); }

private:
    std::vector<char> bytes_;
};

int bytes_of_weight(int32_t precision) { return precision == NC_INT8 ? 1 : precision == NC_FP32 ? 4 : 2; }

// Weights of 1: what they are does not matter to time, as long as none is denormal.
void fill(char *weight, int64_t n, int32_t precision) {
    const uint16_t half = precision == NC_FP16 ? 0x3c00 : 0x3f80;
    for (int64_t i = 0; i < n; ++i) {
        if (precision == NC_INT8) weight[i] = (char)(std::rand() % 85 - 42);
        if (precision == NC_FP32) ((float *)weight)[i] = 1;
        if (bytes_of_weight(precision) == 2) ((uint16_t *)weight)[i] = half;
    }
}

double measure(const nc_kernels &kernels, const Shape &s) {
    Memory<char> weight(s.n_in * s.n_out * bytes_of_weight(kernels.precision));
    fill(weight.data(), s.n_in * s.n_out, kernels.precision);
    Memory<float> column_scale(s.n_out), bias(s.n_out), scratch(s.n_in), row_scale(s.tokens), x(s.tokens * s.n_in), out(s.tokens * s.n_out);
    Memory<int32_t> column_sum(s.n_out), row_zero(s.tokens);
    for (int64_t i = 0; i < s.n_out; ++i) column_scale.data()[i] = 1e-4f, bias.data()[i] = 0.1f;
    for (int64_t i = 0; i < s.tokens * s.n_in; ++i) x.data()[i] = std::rand() / (float)RAND_MAX - 0.5f;
    const nc_product product{weight.data(), column_scale.data(), column_sum.data(), bias.data(), (int32_t)s.n_in, (int32_t)s.n_out};
    const int64_t stride = nc::row_bytes(kernels, s.n_in), wide_stride = nc::row_bytes(kernels, s.n_out);
    Memory<char> values(s.tokens * stride), inner(s.tokens * wide_stride);
    const nc::Rows rows{values.data(), stride, row_scale.data(), row_zero.data()};
    kernels.prepare(x.data(), {}, {}, scratch.data(), rows, s.n_in, {0, s.tokens});
    nc_layer layer{};
    layer.up = product;
    Memory<float> inner_scale(s.tokens);
    Memory<int32_t> inner_zero(s.tokens);
    const nc::Wide wide{out.data(), s.n_out, {inner.data(), wide_stride, inner_scale.data(), inner_zero.data()}};
    double best = 0;
    for (int round = 0; round < 30; ++round) {
        const auto start = peaks::Clock::now();
        if (s.expands)
            kernels.expand(rows, layer, NC_GELU, wide, {0, s.tokens}, {0, s.n_out / NC_BLOCK});
        else
            kernels.multiply(rows, product, true, out.data(), {0, s.tokens}, {0, s.n_out / NC_PANEL});
        best = std::max(best, 2.0 * s.tokens * s.n_in * s.n_out / peaks::seconds_since(start));
    }
    return best;
}

void measure(const nc_kernels &kernels) {
    const double peak = peaks::of(kernels.name, kernels.precision);
    std::printf("\n%s, %s%s\n", kernels.name, precisions[kernels.precision], peak ? "" : " (no peak known)");
    for (const int64_t hidden : {384, 768})
        for (const int64_t tokens : {8, 16, 48, 64, 128, 256}) {
            if (!peak && tokens > 16) continue;
            for (const Shape &shape : {Shape{tokens, hidden, 3 * hidden, false, "queries, keys, values"},
                                       Shape{tokens, hidden, 4 * hidden, true, "into the network, GELU"},
                                       Shape{tokens, 4 * hidden, hidden, false, "out of it, addition"}}) {
                const double rate = measure(kernels, shape);
                std::printf("%5ld x %4ld x %4ld  %-24s %6.0f GOP/s", (long)tokens, (long)shape.n_in, (long)shape.n_out, shape.what,
                            rate / 1e9);
                if (peak) std::printf("  %3.0f%% of %.0f", 100 * rate / peak, peak / 1e9);
                std::printf("\n");
            }
        }
}

}  // namespace

int main(int n, char **arguments) {
    const std::string wanted = n > 1 ? arguments[1] : "";
    for (const peaks::Instruction &each : peaks::all)
        if (each.supported()) std::printf("%-38s %-5s %6.1f GOP/s\n", each.name, precisions[each.precision], peaks::measure(each) / 1e9);
    if (wanted == "--peaks") return 0;
    std::string names = nc_compiled();
    for (char *name = std::strtok(names.data(), " "); name; name = std::strtok(nullptr, " "))
        for (const int32_t precision : {NC_INT8, NC_FP32, NC_FP16, NC_BF16})
            if (const nc_kernels *kernels = nc_find(name, precision); kernels && (wanted.empty() || wanted == name)) measure(*kernels);
}
