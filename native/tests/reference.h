// What the kernels compute, as plain loops over int64 and double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels.h"

namespace reference {

using Doubles = std::vector<double>;

inline double gelu(double x) { return x * 0.5 * std::erfc(-x * std::sqrt(0.5)); }
inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline double silu(double x) { return x * sigmoid(x); }
inline double gelu_tanh(double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

inline Doubles to_doubles(const float *x, int64_t n) { return Doubles(x, x + n); }

// The place of weight (k, c) in panels of 16 columns and groups of 4 inputs.
inline int64_t packed_place(int64_t k, int64_t c, int64_t n_in) {
    return c / NC_PANEL * NC_PANEL * n_in + k / NC_GROUP * NC_PANEL * NC_GROUP + c % NC_PANEL * NC_GROUP + k % NC_GROUP;
}

// sum_k (q[k] - zero) * weight[k][c], exactly.
inline int64_t integer_product(const int32_t *q, int32_t zero, const nc_product &product, int64_t c) {
    int64_t total = 0;
    for (int64_t k = 0; k < product.n_in; ++k)
        total += (int64_t)(q[k] - zero) * ((const int8_t *)product.weight)[packed_place(k, c, product.n_in)];
    return total;
}

inline int64_t block_of(int64_t n) { return std::min<int64_t>(n & -n, NC_BLOCK); }

inline Doubles hadamard(const Doubles &x) {
    const int64_t n = (int64_t)x.size(), block = block_of(n);
    Doubles y(n);
    for (int64_t i = 0; i < n; ++i)
        for (int64_t k = 0; k < block; ++k)
            y[i] += x[i / block * block + k] * (__builtin_parityll(i % block & k) ? -1 : 1);
    return y;
}

inline Doubles normalize(const Doubles &x, const nc::Norm &norm) {
    if (!norm) return x;
    const double n = (double)x.size();
    double mean = 0, squares = 0;
    if (norm.kind == NC_LAYER_NORM)
        for (double value : x) mean += value / n;
    for (double value : x) squares += (value - mean) * (value - mean) / n;
    Doubles y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
        y[i] = (x[i] - mean) / std::sqrt(squares + norm.epsilon) * norm.weights.weight[i];
        if (norm.weights.bias) y[i] += norm.weights.bias[i];
    }
    return y;
}

inline Doubles normalize(const Doubles &x, const nc_norm &weights, const nc_model &m) {
    return normalize(x, nc::Norm{weights, m.norm, m.epsilon});
}

inline Doubles embed(const nc_model &m, int32_t id, int32_t position) {
    Doubles x(m.hidden);
    for (int64_t i = 0; i < m.hidden; ++i) {
        const int64_t at = id * m.hidden + i;
        switch (m.word_precision) {
            case NC_FP32: x[i] = ((const float *)m.words)[at]; break;
            case NC_FP16: x[i] = (double)((const nc::Half *)m.words)[at]; break;
            default: x[i] = (double)((const int8_t *)m.words)[at] * m.word_scale[id];
        }
        if (m.positions) x[i] += m.positions[position * m.hidden + i];
    }
    return normalize(x, m.embedding_norm, m);
}

// Rotates the two halves of a head's row by the angles of its position.
inline void rotate(Doubles &row, const nc_attention &layer, int64_t token) {
    const int64_t half = layer.head_size / 2;
    for (int64_t i = 0; i < half; ++i) {
        const double c = layer.cosines[token * half + i], s = layer.sines[token * half + i], a = row[i], b = row[half + i];
        row[i] = a * c - b * s;
        row[half + i] = b * c + a * s;
    }
}

enum class Part { Query, Key, Value };

// Components as INT8's attention keeps them (neuralcore.h).
inline void round_row(Doubles &row, Part part) {
    double most = 0;
    for (double x : row) most = std::max(most, std::fabs(x));
    const int steps = part == Part::Value ? 2047 : 127;
    double scale = std::max(most / steps, 1e-30);
    if (part == Part::Value) scale = std::exp2(std::clamp(std::floor(std::log2(scale)) + 1, -30.0, 30.0));
    for (double &x : row) x = std::clamp(std::nearbyint(x / scale), (double)-steps, (double)steps) * scale;
}

// What a head has of each token.
inline std::vector<Doubles> head_rows(const nc::Attention &task, Part part, bool rounded) {
    const nc_attention &l = task.layer;
    const int64_t size = l.head_size, stride = (l.n_heads + 2 * l.n_key_heads) * size;
    const int64_t key_head = task.head * l.n_key_heads / l.n_heads;
    const int64_t head = part == Part::Query ? task.head : l.n_heads + key_head + (part == Part::Value ? l.n_key_heads : 0);
    const nc_norm &norm = part == Part::Query ? l.query_norm : part == Part::Key ? l.key_norm : l.value_norm;
    std::vector<Doubles> rows;
    for (int64_t token = task.start(); token < task.start() + task.n_tokens(); ++token) {
        rows.push_back(normalize(to_doubles((const float *)task.heads + token * stride + head * size, size), norm, task.model));
        if (l.cosines && part != Part::Value) rotate(rows.back(), l, token - task.start());
        if (rounded) round_row(rows.back(), part);
    }
    return rows;
}

inline bool sees(const nc_attention &layer, int64_t query, int64_t key) {
    return !(layer.causal && key > query) && !(layer.window >= 0 && std::abs(key - query) > layer.window);
}

inline Doubles softmax(Doubles scores) {
    const double highest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double &score : scores) total += score = std::exp(score - highest);
    for (double &score : scores) score /= total;
    return scores;
}

// [tokens][head size], of heads that are rows of floats as the product gives them; `rounded` as INT8 does.
inline Doubles attend(const nc::Attention &task, bool rounded = false) {
    const int64_t n = task.n_tokens(), size = task.layer.head_size, longest = task.model.max_positions;
    const auto queries = head_rows(task, Part::Query, rounded), keys = head_rows(task, Part::Key, rounded),
               values = head_rows(task, Part::Value, rounded);
    Doubles out(n * size);
    for (int64_t query = 0; query < n; ++query) {
        Doubles scores;
        std::vector<int64_t> seen;
        for (int64_t key = 0; key < n; ++key) {
            if (!sees(task.layer, query, key)) continue;
            double score = 0;
            for (int64_t i = 0; i < size; ++i) score += queries[query][i] * keys[key][i];
            if (task.model.distance_bias) score += task.model.distance_bias[task.head * (2 * longest - 1) + longest - 1 + key - query];
            scores.push_back(score), seen.push_back(key);
        }
        const Doubles weights = softmax(scores);
        for (size_t k = 0; k < seen.size(); ++k)
            for (int64_t i = 0; i < size; ++i) out[query * size + i] += weights[k] * values[seen[k]][i];
    }
    return out;
}

inline double weight_in_pooling(int32_t pooling, size_t row, size_t n) {
    switch (pooling) {
        case NC_POOL_CLS: return row == 0;
        case NC_POOL_LAST: return row == n - 1;
        case NC_POOL_WEIGHTED: return (double)(row + 1) / ((double)n * (double)(n + 1) / 2);
        case NC_POOL_ROOT: return 1 / std::sqrt((double)n);
        default: return 1 / (double)n;
    }
}

inline double pool(int32_t pooling, const std::vector<Doubles> &x, size_t i) {
    double total = 0, highest = x[0][i];
    for (size_t row = 0; row < x.size(); ++row) {
        total += x[row][i] * weight_in_pooling(pooling, row, x.size());
        highest = std::max(highest, x[row][i]);
    }
    return pooling == NC_POOL_MAX ? highest : total;
}

// All poolings side by side.
inline Doubles pool(const nc_model &m, const std::vector<Doubles> &x) {
    Doubles out;
    for (int32_t p = 0; p < m.n_poolings; ++p)
        for (int64_t i = 0; i < m.hidden; ++i) out.push_back(pool(m.poolings[p], x, (size_t)i));
    return out;
}

inline double activate(int32_t activation, double x) {
    switch (activation) {
        case NC_GELU: return gelu(x);
        case NC_GELU_TANH: return gelu_tanh(x);
        case NC_RELU: return std::max(x, 0.0);
        case NC_SILU: return silu(x);
        case NC_TANH: return std::tanh(x);
        case NC_SIGMOID: return sigmoid(x);
        default: return x;
    }
}

inline Doubles run_dense(const nc_dense &step, const Doubles &x) {
    Doubles y(step.n_out);
    for (int64_t c = 0; c < step.n_out; ++c) {
        double total = step.bias ? step.bias[c] : 0, beside = 0;
        for (int64_t k = 0; k < step.n_in; ++k) {
            total += x[k] * step.weight[k * step.n_out + c];
            if (step.residual) beside += x[k] * step.residual[k * step.n_out + c];
        }
        y[c] = activate(step.activation, total) + (step.residual ? beside : step.is_residual ? x[c] : 0);
    }
    return y;
}

inline Doubles scale_to_unit(Doubles x) {
    double squares = 0;
    for (double value : x) squares += value * value;
    for (double &value : x) value /= std::max(std::sqrt(squares), 1e-12);
    return x;
}

// A text's vector from its last hidden states.
inline Doubles finish(const nc_model &m, const std::vector<Doubles> &x) {
    Doubles out = pool(m, x);
    for (int32_t i = 0; i < m.n_dense; ++i) out = run_dense(m.dense[i], out);
    return m.normalize ? scale_to_unit(out) : out;
}

inline double cosine(const Doubles &a, const float *b) {
    double both = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a.size(); ++i) both += a[i] * b[i], aa += a[i] * a[i], bb += (double)b[i] * b[i];
    return both / std::sqrt(aa * bb);
}

}  // namespace reference
