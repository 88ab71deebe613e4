// The functions of math.h, through the kernels that use them: so what is tested is what was compiled for the instruction set.
#include <cmath>
#include <limits>

#include "product.h"
#include "rows.h"

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kInputs = 16, kColumns = 144;

// A product of zeros gives its bias, y = x: one of each block of the transform, and zeros beside it, of which every sum is the
// one value.
std::vector<float> apply(const nc_kernels &kernels, int32_t activation, const std::vector<float> &grid) {
    constexpr size_t block = 16, n = kColumns / block;
    suite::Product product(kInputs, kColumns);
    suite::Rows rows(kernels, 1, 64);
    for (int64_t k = 0; k < kInputs; ++k) rows.set(0, k, 0);
    rows.scale[0] = 1, rows.zero[0] = 0;
    nc_layer layer{};
    std::vector<float> results;
    for (size_t start = 0; start < grid.size(); start += n) {
        std::vector<float> out(kColumns);
        for (size_t i = 0; i < n; ++i) product.bias[i * block] = start + i < grid.size() ? grid[start + i] : 0;
        layer.up = product.view;
        kernels.expand(rows.view(), layer, activation, {out.data(), kColumns, {}}, {0, 1}, {0, 2});
        for (size_t i = 0; i < n; ++i) results.push_back(out[i * block]);
    }
    results.resize(grid.size());
    return results;
}

std::vector<float> dense(float low, float high, int64_t n) {
    std::vector<float> grid(n + 1);
    for (int64_t i = 0; i <= n; ++i) grid[i] = (float)(low + ((double)high - low) * (double)i / (double)n);
    return grid;
}

template <typename Function>
void check_function(const nc_kernels &kernels, int32_t activation, Function function, double absolute, double relative) {
    std::vector<float> grid = dense(-12, 12, 48000);
    for (float x : dense(-100, 100, 4000)) grid.push_back(x);
    for (float x : {0.0f, -0.0f, 1e-45f, -1e-45f, 1e-30f, -1e-30f, 1e10f, 1e30f}) grid.push_back(x);
    const std::vector<float> results = apply(kernels, activation, grid);
    for (size_t i = 0; i < grid.size(); ++i) {
        const double wanted = function((double)grid[i]);
        CHECK(std::fabs(results[i] - wanted) <= absolute + relative * std::fabs(wanted), "f(%.9g) is %.9g, expected %.9g",
              grid[i], results[i], wanted);
    }
    const std::vector<float> ends = apply(kernels, activation, {kInfinity, std::nanf("")});
    CHECK(ends[0] == kInfinity, "f(inf) is %g", ends[0]);
    CHECK(std::isnan(ends[1]), "f(NaN) is %g", ends[1]);
}

}  // namespace

TEST("gelu equals float64 to 7e-5") { check_function(kernels, NC_GELU, reference::gelu, 7e-5, 2e-6); }
TEST("gelu with tanh equals float64") { check_function(kernels, NC_GELU_TANH, reference::gelu_tanh, 1e-6, 1e-6); }
TEST("silu equals float64") { check_function(kernels, NC_SILU, reference::silu, 1e-6, 1e-6); }
