// What becomes of a product's sums.
#pragma once

#include "math.h"

namespace {

// finish(row, column, y): results of one row, from a column on; 1, 2 or 4 vectors of them.
template <int vectors, typename Finish>
[[gnu::always_inline]] inline void finish_sums(const I (&total)[vectors], const nc::Rows &x, int64_t row, const nc_product &product, int64_t column,
                        const Finish &finish) {
    const int32_t zero = x.zero[row] + Dot::OFFSET;
    const float scale = x.scale[row];
    F y[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
        const int64_t at = column + v * LANES;
        const I whole = total[v] - load(product.column_sum + at) * zero;
        y[v] = to_float(whole) * (load(product.column_scale + at) * scale) + load(product.bias + at);
    }
    finish(row, column, y);
}

template <bool add>
struct Sum {
    float *out;
    int64_t stride;

    template <int vectors>
    void operator()(int64_t row, int64_t column, F (&y)[vectors]) const {
        float *to = out + row * stride + column;
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) store(to + v * LANES, add ? y[v] + load(to + v * LANES) : y[v]);
    }
};

}  // namespace
