// Rows as integers: what the products of INT8 take.
#pragma once

#include "hadamard.h"
#include "rows.h"

namespace {

constexpr int N_STEPS = NC_HIGHEST - NC_LOWEST;

// q = round(x / scale) + zero of a transformed row, with the row's own range, 0 included, on NC_LOWEST to NC_HIGHEST. 0 has an
// integer of its own.
inline void quantize_row(const float *x, F low, F high, const nc::Rows &to, int64_t row, int64_t n) {
    const float least = smallest(low), range = largest(high) - least;
    const float scale = range > 1e-30f ? range / N_STEPS : 1e-30f, inverse = 1 / scale;
    const int32_t zero = (int32_t)std::lrint(std::fmin(std::fmax(-least * inverse, 0.0f), (float)N_STEPS)) + NC_LOWEST;
    const F lowest = splat((float)(NC_LOWEST - zero)), highest = splat((float)(NC_HIGHEST - zero));
    to.scale[row] = scale;
    to.zero[row] = zero;
    uint8_t *values = to.row<uint8_t>(row);
    for (int64_t i = 0; i < n; i += LANES) {
        const I q = nearest(smaller(larger(load(x + i) * inverse, lowest), highest));
        pack_bytes(values + i, q + (zero + Dot::OFFSET));
    }
}

inline void quantize(const float *x, float *scratch, const nc::Rows &to, int64_t row, int64_t n) {
    F low{}, high{};
    transform(scratch, n, low, high, [x](int64_t i) { return load(x + i); });
    quantize_row(scratch, low, high, to, row, n);
}

// See nc_kernels.
void prepare(float *x, const nc::Norm &after, const nc::Norm &before, float *scratch, const nc::Rows &to, int64_t n, nc::Range rows) {
    for (int64_t row = rows.first; row < rows.last; ++row) {
        float *from = x + row * n;
        if (after) normalize_row(from, from, after, n);
        if (before) normalize_row(from, scratch, before, n);
        quantize(before ? scratch : from, scratch, to, row, n);
    }
}

}  // namespace
