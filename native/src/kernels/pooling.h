// From a text's last hidden states to its vector: poolings, steps in fp32, unit length.
#pragma once

#include <cmath>

#include "math.h"

namespace {

inline void multiply_row(float *to, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) store(to + i, load(to + i) * factor);
}

// to += x * factor.
inline void add_multiple(float *to, const float *x, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) store(to + i, load(to + i) + load(x + i) * factor);
}

inline void add_row(float *to, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) store(to + i, load(to + i) + load(x + i));
}

inline void keep_larger(float *to, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) store(to + i, larger(load(x + i), load(to + i)));
}

inline void pool(int32_t pooling, const float *x, int64_t n_tokens, float *out, int64_t n) {
    const int64_t start = pooling == NC_POOL_LAST ? n_tokens - 1 : 0;
    // Weights before the sum: it would lose the last bits of a long text's.
    const float step = (float)(2 / ((double)n_tokens * (double)(n_tokens + 1)));
    std::memcpy(out, x + start * n, n * sizeof *out);
    if (pooling == NC_POOL_WEIGHTED) multiply_row(out, step, n);
    for (int64_t row = 1; row < n_tokens; ++row) {
        if (pooling == NC_POOL_MEAN || pooling == NC_POOL_ROOT) add_row(out, x + row * n, n);
        if (pooling == NC_POOL_WEIGHTED) add_multiple(out, x + row * n, (float)(row + 1) * step, n);
        if (pooling == NC_POOL_MAX) keep_larger(out, x + row * n, n);
    }
    if (pooling == NC_POOL_MEAN) multiply_row(out, 1.0f / n_tokens, n);
    if (pooling == NC_POOL_ROOT) multiply_row(out, 1 / std::sqrt((float)n_tokens), n);
}

void pool(const nc_model &model, const float *x, int64_t n_tokens, float *out) {
    for (int32_t i = 0; i < model.n_poolings; ++i)
        pool(model.poolings[i], x, n_tokens, out + i * model.hidden, model.hidden);
}

// out[column] += sum of x[k] * weight[k][column] over `depth` neighbours in k, one after the other.
template <int depth>
inline void add_products(const float *x, const float *weight, float *out, int64_t stride, int64_t first, int64_t last) {
    int64_t column = first;
    for (; column + LANES <= last; column += LANES) {
        F total = load(out + column);
#pragma GCC unroll 4
        for (int k = 0; k < depth; ++k) total += splat(x[k]) * load(weight + k * stride + column);
        store(out + column, total);
    }
    for (; column < last; ++column)
        for (int k = 0; k < depth; ++k) out[column] += x[k] * weight[k * stride + column];
}

// out += x @ weight. Weights are the larger part, and are read once for all rows, in the order in which they lie.
void add_product(const float *weight, const nc_dense &step, const float *x, int64_t x_stride, float *out, int64_t out_stride,
                 int64_t n_rows, int64_t first, int64_t last) {
    constexpr int depth = 4;
    int64_t k = 0;
    for (; k + depth <= step.n_in; k += depth)
        for (int64_t row = 0; row < n_rows; ++row)
            add_products<depth>(x + row * x_stride + k, weight + k * step.n_out, out + row * out_stride, step.n_out, first, last);
    for (; k < step.n_in; ++k)
        for (int64_t row = 0; row < n_rows; ++row)
            add_products<1>(x + row * x_stride + k, weight + k * step.n_out, out + row * out_stride, step.n_out, first, last);
}

template <typename Function>
inline void map_row(float *x, int64_t n, Function function) {
    // NaN stays NaN, so that who looks at the vector sees it.
    const auto apply = [&](F value) { return value == value ? function(value) : value; };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) store(x + i, apply(load(x + i)));
    if (i == n) return;
    F rest{};
    std::memcpy(&rest, x + i, (n - i) * sizeof *x);
    rest = apply(rest);
    std::memcpy(x + i, &rest, (n - i) * sizeof *x);
}

inline void activate_row(int32_t activation, float *x, int64_t n) {
    switch (activation) {
        case NC_GELU: return map_row(x, n, gelu_fine);
        case NC_GELU_TANH: return map_row(x, n, gelu_tanh);
        case NC_RELU: return map_row(x, n, [](F value) { return larger(value, F{}); });
        case NC_SILU: return map_row(x, n, silu);
        case NC_TANH: return map_row(x, n, hyperbolic_tangent);
        case NC_SIGMOID: return map_row(x, n, sigmoid);
        default: return;
    }
}

void run_dense(const nc_dense &step, const float *x, int64_t x_stride, float *out, int64_t out_stride, int64_t n_rows,
               int64_t first, int64_t last) {
    const int64_t n_bytes = (last - first) * (int64_t)sizeof *out;
    for (int64_t row = 0; row < n_rows; ++row) {
        float *to = out + row * out_stride + first;
        if (step.bias)
            std::memcpy(to, step.bias + first, n_bytes);
        else
            std::memset(to, 0, n_bytes);
    }
    add_product(step.weight, step, x, x_stride, out, out_stride, n_rows, first, last);
    for (int64_t row = 0; row < n_rows; ++row) {
        float *to = out + row * out_stride;
        activate_row(step.activation, to + first, last - first);
        if (step.is_residual && !step.residual)
            for (int64_t i = first; i < last; ++i) to[i] += x[row * x_stride + i];
    }
    if (step.residual) add_product(step.residual, step, x, x_stride, out, out_stride, n_rows, first, last);
}

// Of any size: lanes are added as in whole vectors, what is missing in the last one is 0.
void scale_to_unit(float *x, int64_t n) {
    F squares{};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) squares += load(x + i) * load(x + i);
    F rest{};
    std::memcpy(&rest, x + i, (n - i) * sizeof *x);
    squares += rest * rest;
    const float factor = 1 / std::fmax(std::sqrt(sum(squares)), 1e-12f);
    for (i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace
