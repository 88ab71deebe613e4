#include <cmath>
#include <limits>

#include "reference.h"
#include "rows.h"
#include "suite.h"

using reference::Doubles;
using suite::Random;
using suite::Rows;

namespace {

constexpr int N_STEPS = NC_HIGHEST - NC_LOWEST;
constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

Rows quantize(const nc_kernels &kernels, std::vector<float> x, int64_t n, int64_t stride) {
    const int64_t n_rows = (int64_t)x.size() / n;
    std::vector<float> scratch(n);
    Rows rows(kernels, n_rows, stride);
    kernels.prepare(x.data(), {}, {}, scratch.data(), rows.view(), n, {0, n_rows});
    return rows;
}

// x whose transform is y: H is its own inverse, but for the size of a block.
std::vector<float> untransformed(const std::vector<float> &y, int64_t n) {
    std::vector<float> x;
    for (size_t row = 0; row < y.size(); row += n)
        for (double value : reference::hadamard(Doubles(&y[row], &y[row] + n)))
            x.push_back((float)(value / (double)reference::block_of(n)));
    return x;
}

// The step is the range over 191, 0 is an integer, and every value is within half a step (and float32's rounding of sums of 128)
// of its own.
void check_row(const Rows &rows, int64_t row, const float *x, int64_t n) {
    const Doubles y = reference::hadamard(Doubles(x, x + n));
    double low = 0, high = 0, largest = 0;
    for (double value : y) low = std::min(low, value), high = std::max(high, value);
    for (int64_t i = 0; i < n; ++i) largest = std::max(largest, (double)std::fabs(x[i]));
    const double step = (high - low) / N_STEPS, scale = rows.scale[row], rounding = 3e-7 * largest * (double)reference::block_of(n);
    if (high - low > 1e-30)
        CHECK(std::fabs(scale - step) <= 3e-7 * step + rounding / N_STEPS, "row %ld: step %g, expected %g", row, scale, step);
    CHECK(rows.zero[row] >= NC_LOWEST && rows.zero[row] <= NC_HIGHEST, "row %ld: zero %d", row, rows.zero[row]);
    for (int64_t i = 0; i < n; ++i) {
        const int32_t q = rows.get(row, i);
        const double error = std::fabs((q - rows.zero[row]) * scale - y[i]);
        // Clamped where rounding the zero moved an end of the range out by up to half a step: so an end may be a whole step off.
        const double allowed = q == NC_LOWEST || q == NC_HIGHEST ? 1.001 : 0.501;
        CHECK(q >= NC_LOWEST && q <= NC_HIGHEST, "row %ld, %ld: %d", row, i, q);
        CHECK(error <= allowed * scale + 2 * rounding, "row %ld, %ld: %g became %d (zero %d), %g steps off", row, i, y[i], q,
              rows.zero[row], error / scale);
    }
}

}  // namespace

TEST("quantized values are within half a step of their transform") {
    Random random(1);
    for (int64_t n : {16, 32, 48, 64, 80, 96, 128, 208, 384, 1536}) {
        const int64_t n_rows = 12;
        std::vector<float> x = random.floats(n * n_rows, -1, 1);
        const float low[] = {-1, 0, -5, 0.5f, -1e-3f, -1e20f, -1e-20f, 3, -100, -1, -7, 0};
        const float high[] = {1, 1, -1, 0.7f, 30, 1e20f, 1e-20f, 3, 1, 0, 8, 255};
        for (int64_t row = 0; row < n_rows; ++row)
            for (int64_t i = 0; i < n; ++i) x[row * n + i] = random.uniform(low[row], high[row]);
        const Rows rows = quantize(kernels, x, n, n + 16);
        for (int64_t row = 0; row < n_rows; ++row) check_row(rows, row, &x[row * n], n);
    }
}

TEST("one value among zeros is spread over its block and no other") {
    for (int64_t n : {16, 48, 96, 64, 384})
        for (int64_t at = 0; at < n; at += 5) {
            std::vector<float> x(n);
            x[at] = 3;
            const Rows rows = quantize(kernels, x, n, n);
            const int64_t block = reference::block_of(n);
            for (int64_t i = 0; i < n; ++i) {
                const int32_t q = rows.get(0, i) - rows.zero[0];
                const bool minus = __builtin_parityll(i % block & at % block);
                if (i / block != at / block) CHECK(q == 0, "%ld of %ld: %d", i, n, q);
                else CHECK(std::fabs(q * rows.scale[0] - (minus ? -3 : 3)) <= 0.51 * rows.scale[0], "%ld of %ld: %d", i, n, q);
            }
        }
}

TEST("whole numbers from lowest to highest are their own integers, ties go to even") {
    const int64_t n = N_STEPS + 1;
    std::vector<float> y(2 * n);
    for (int64_t i = 0; i < n; ++i) y[i] = (float)(i + NC_LOWEST);
    for (int64_t i = 0; i < n; ++i) y[n + i] = (float)(i + NC_LOWEST) + (i > 0 && i < N_STEPS ? 0.5f : 0);
    const Rows rows = quantize(kernels, untransformed(y, n), n, n);
    for (int64_t i = 0; i < n; ++i) {
        CHECK(rows.get(0, i) == i + NC_LOWEST, "%ld became %d", i + NC_LOWEST, rows.get(0, i));
        const int32_t even = (int32_t)std::nearbyint(y[n + i]);
        CHECK(rows.get(1, i) == std::min(even, NC_HIGHEST), "%g became %d", y[n + i], rows.get(1, i));
    }
    CHECK(rows.scale[0] == 1 && rows.zero[0] == 0, "step %g, zero %d", rows.scale[0], rows.zero[0]);
}

TEST("a row of zeros, of one sign, and of denormal numbers") {
    const int64_t n = 32;
    for (float value : {0.0f, -0.0f, 1.0f, -1.0f, 1e-40f, -1e-40f, 1e-31f, 2e-30f, 1e-37f, 1e36f, -1e36f}) {
        const std::vector<float> x(n, value);
        const Rows rows = quantize(kernels, x, n, n);
        check_row(rows, 0, x.data(), n);
    }
}

TEST("only the rows that were asked for are written") {
    Random random(2);
    const int64_t n = 48, n_rows = 7;
    std::vector<float> x = random.floats(n * n_rows, -1, 1);
    std::vector<float> scratch(n);
    Rows rows(kernels, n_rows, n);
    rows.scale.assign(n_rows, -7);
    for (int64_t row = 0; row < n_rows; ++row)
        for (int64_t i = 0; i < n; ++i) rows.set(row, i, -77);
    kernels.prepare(x.data(), {}, {}, scratch.data(), rows.view(), n, {2, 5});
    for (int64_t row = 0; row < n_rows; ++row) {
        const bool asked = row >= 2 && row < 5;
        CHECK((rows.scale[row] != -7) == asked, "row %ld", row);
        if (asked) check_row(rows, row, &x[row * n], n);
        for (int64_t i = 0; i < n && !asked; ++i) CHECK(rows.get(row, i) == -77, "row %ld was written", row);
    }
}

TEST("NaN, infinite and overflowing rows become some integers in range, their neighbours do not change") {
    const int64_t n = 32;
    for (float bad : {kNaN, -kNaN, kInfinity, -kInfinity, 3e38f, -3e38f}) {
        std::vector<float> x(3 * n, 0.5f);
        x[n + 3] = bad, x[n + 9] = -bad;
        const Rows rows = quantize(kernels, x, n, n);
        for (int64_t row = 0; row < 3; ++row) {
            CHECK(rows.zero[row] >= NC_LOWEST && rows.zero[row] <= NC_HIGHEST, "%g: zero %d", bad, rows.zero[row]);
            for (int64_t i = 0; i < n; ++i)
                CHECK(rows.get(row, i) >= NC_LOWEST && rows.get(row, i) <= NC_HIGHEST, "%g: %d", bad, rows.get(row, i));
        }
        check_row(rows, 0, x.data(), n);
        check_row(rows, 2, &x[2 * n], n);
    }
}
