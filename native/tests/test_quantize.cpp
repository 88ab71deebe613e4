#include <cmath>
#include <limits>

#include "rows.h"
#include "suite.h"

using suite::Random;
using suite::Rows;

namespace {

constexpr int N_STEPS = NC_HIGHEST - NC_LOWEST;
constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNaN = std::numeric_limits<float>::quiet_NaN();

Rows quantize(const nc_kernels &kernels, const std::vector<float> &x, const std::vector<float> &smooth, int64_t stride) {
    const int64_t n = (int64_t)smooth.size(), n_rows = (int64_t)x.size() / n;
    Rows rows(kernels, n_rows, stride);
    kernels.quantize(x.data(), smooth.data(), rows.view(), n, 0, n_rows);
    return rows;
}

// The step is the range over 191, 0 is an integer, and every value is within half a step (and float32's rounding) of its own.
void check_row(const Rows &rows, int64_t row, const float *x, const float *smooth, int64_t n) {
    double low = 0, high = 0;
    for (int64_t i = 0; i < n; ++i) {
        low = std::min(low, (double)(x[i] * smooth[i]));
        high = std::max(high, (double)(x[i] * smooth[i]));
    }
    const double step = (high - low) / N_STEPS, scale = rows.scale[row];
    if (high - low > 1e-30) CHECK(std::fabs(scale - step) <= 3e-7 * step, "row %ld: step %g, expected %g", row, scale, step);
    CHECK(rows.zero[row] >= NC_LOWEST && rows.zero[row] <= NC_HIGHEST, "row %ld: zero %d", row, rows.zero[row]);
    for (int64_t i = 0; i < n; ++i) {
        const int32_t q = rows.get(row, i);
        const double value = (double)(x[i] * smooth[i]), error = std::fabs((q - rows.zero[row]) * scale - value);
        // Clamped where rounding the zero moved an end of the range out by up to half a step: so an end may be a whole step off.
        const double allowed = q == NC_LOWEST || q == NC_HIGHEST ? 1.001 : 0.501;
        CHECK(q >= NC_LOWEST && q <= NC_HIGHEST, "row %ld, %ld: %d", row, i, q);
        CHECK(error <= allowed * scale, "row %ld, %ld: %g became %d (zero %d), %g steps off", row, i, value, q, rows.zero[row],
              error / scale);
        if (value == 0) CHECK(q == rows.zero[row], "row %ld: 0 became %d, not %d", row, q, rows.zero[row]);
    }
}

}  // namespace

TEST("quantized values are within half a step of themselves") {
    Random random(1);
    for (int64_t n : {16, 32, 48, 64, 384, 1536}) {
        const int64_t n_rows = 12;
        std::vector<float> x = random.floats(n * n_rows, -1, 1), smooth = random.floats(n, 0.1f, 3);
        const float low[] = {-1, 0, -5, 0.5f, -1e-3f, -1e20f, -1e-20f, 3, -100, -1, -7, 0};
        const float high[] = {1, 1, -1, 0.7f, 30, 1e20f, 1e-20f, 3, 1, 0, 8, 255};
        for (int64_t row = 0; row < n_rows; ++row)
            for (int64_t i = 0; i < n; ++i) x[row * n + i] = random.uniform(low[row], high[row]);
        for (int64_t row = 0; row < n_rows; ++row) x[row * n + n / 2] = 0;
        const Rows rows = quantize(kernels, x, smooth, n + 16);
        for (int64_t row = 0; row < n_rows; ++row) check_row(rows, row, &x[row * n], smooth.data(), n);
    }
}

TEST("whole numbers from lowest to highest are their own integers, ties go to even") {
    const int64_t n = N_STEPS + 1;
    std::vector<float> x(2 * n), smooth(n, 1);
    for (int64_t i = 0; i < n; ++i) x[i] = (float)(i + NC_LOWEST);
    for (int64_t i = 0; i < n; ++i) x[n + i] = (float)(i + NC_LOWEST) + (i > 0 && i < N_STEPS ? 0.5f : 0);
    const Rows rows = quantize(kernels, x, smooth, n);
    for (int64_t i = 0; i < n; ++i) {
        CHECK(rows.get(0, i) == i + NC_LOWEST, "%ld became %d", i + NC_LOWEST, rows.get(0, i));
        const int32_t even = (int32_t)std::nearbyint(x[n + i]);
        CHECK(rows.get(1, i) == std::min(even, NC_HIGHEST), "%g became %d", x[n + i], rows.get(1, i));
    }
    CHECK(rows.scale[0] == 1 && rows.zero[0] == 0, "step %g, zero %d", rows.scale[0], rows.zero[0]);
}

TEST("a row of zeros, of one sign, and of denormal numbers") {
    const int64_t n = 32;
    for (float value : {0.0f, -0.0f, 1.0f, -1.0f, 1e-40f, -1e-40f, 1e-31f, 2e-30f, 1e-37f, 1.7e38f, -1.7e38f}) {
        const std::vector<float> x(n, value), smooth(n, 1);
        const Rows rows = quantize(kernels, x, smooth, n);
        check_row(rows, 0, x.data(), smooth.data(), n);
    }
}

TEST("only the rows that were asked for are written") {
    Random random(2);
    const int64_t n = 48, n_rows = 7;
    const std::vector<float> x = random.floats(n * n_rows, -1, 1), smooth(n, 1);
    Rows rows(kernels, n_rows, n);
    rows.scale.assign(n_rows, -7);
    for (int64_t row = 0; row < n_rows; ++row)
        for (int64_t i = 0; i < n; ++i) rows.set(row, i, -77);
    kernels.quantize(x.data(), smooth.data(), rows.view(), n, 2, 5);
    for (int64_t row = 0; row < n_rows; ++row) {
        const bool asked = row >= 2 && row < 5;
        CHECK((rows.scale[row] != -7) == asked, "row %ld", row);
        if (asked) check_row(rows, row, &x[row * n], smooth.data(), n);
        for (int64_t i = 0; i < n && !asked; ++i) CHECK(rows.get(row, i) == -77, "row %ld was written", row);
    }
}

TEST("NaN, infinite and overflowing rows become some integers in range, their neighbours do not change") {
    const int64_t n = 32;
    for (float bad : {kNaN, -kNaN, kInfinity, -kInfinity, 3e38f, -3e38f}) {
        for (float smooth_value : {1.0f, 1e10f, 0.0f, kNaN, kInfinity}) {
            std::vector<float> x(3 * n, 0.5f), smooth(n, 1);
            x[n + 3] = bad, x[n + 9] = -bad, smooth[3] = smooth_value;
            const Rows rows = quantize(kernels, x, smooth, n);
            for (int64_t row = 0; row < 3; ++row) {
                CHECK(rows.zero[row] >= NC_LOWEST && rows.zero[row] <= NC_HIGHEST, "%g: zero %d", bad, rows.zero[row]);
                for (int64_t i = 0; i < n; ++i)
                    CHECK(rows.get(row, i) >= NC_LOWEST && rows.get(row, i) <= NC_HIGHEST, "%g: %d", bad, rows.get(row, i));
            }
            if (smooth_value == 1) check_row(rows, 2, &x[2 * n], smooth.data(), n);
        }
    }
}
