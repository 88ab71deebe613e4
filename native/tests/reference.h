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
        total += (int64_t)(q[k] - zero) * product.weight[packed_place(k, c, product.n_in)];
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

inline Doubles normalize(const Doubles &x, const nc_norm &norm, double epsilon) {
    const double n = (double)x.size();
    double mean = 0, variance = 0;
    for (double value : x) mean += value / n;
    for (double value : x) variance += (value - mean) * (value - mean) / n;
    Doubles y(x.size());
    for (size_t i = 0; i < x.size(); ++i)
        y[i] = (x[i] - mean) / std::sqrt(variance + epsilon) * norm.weight[i] + norm.bias[i];
    return y;
}

inline Doubles embed(const nc_model &m, int32_t id, int32_t position) {
    Doubles x(m.hidden);
    for (int64_t i = 0; i < m.hidden; ++i) {
        x[i] = (double)m.words[id * m.hidden + i] * m.word_scale[id];
        if (m.positions) x[i] += m.positions[position * m.hidden + i];
    }
    return normalize(x, m.embedding_norm, m.epsilon);
}

// Rotates the two halves of a head's row by the angles of its position.
inline void rotate(double *row, const nc::Attention &task, int64_t token) {
    const int64_t half = task.head_size / 2;
    for (int64_t i = 0; i < half; ++i) {
        const double c = task.cosines[token * half + i], s = task.sines[token * half + i], a = row[i], b = row[half + i];
        row[i] = a * c - b * s;
        row[half + i] = b * c + a * s;
    }
}

// One of queries (0), keys (1), values (2) of a head: [tokens][head size].
inline Doubles head_rows(const nc::Attention &task, int part) {
    Doubles rows;
    for (int64_t token = 0; token < task.n_tokens; ++token) {
        const float *from = task.qkv + (token * 3 + part) * task.hidden + task.head * task.head_size;
        rows.insert(rows.end(), from, from + task.head_size);
        if (part < 2 && task.cosines) rotate(&rows[token * task.head_size], task, token);
    }
    return rows;
}

inline Doubles softmax(Doubles scores) {
    const double highest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double &score : scores) total += score = std::exp(score - highest);
    for (double &score : scores) score /= total;
    return scores;
}

// [tokens][head size].
inline Doubles attend(const nc::Attention &task) {
    const int64_t n = task.n_tokens, size = task.head_size;
    const Doubles queries = head_rows(task, 0), keys = head_rows(task, 1), values = head_rows(task, 2);
    Doubles out(n * size);
    for (int64_t query = 0; query < n; ++query) {
        Doubles scores(n);
        for (int64_t key = 0; key < n; ++key) {
            for (int64_t i = 0; i < size; ++i) scores[key] += queries[query * size + i] * keys[key * size + i];
            if (task.bias) scores[key] += task.bias[task.max_positions - 1 + key - query];
        }
        const Doubles weights = softmax(scores);
        for (int64_t key = 0; key < n; ++key)
            for (int64_t i = 0; i < size; ++i) out[query * size + i] += weights[key] * values[key * size + i];
    }
    return out;
}

inline Doubles pool(const nc_model &m, const std::vector<Doubles> &x) {
    Doubles out = m.pooling == NC_POOL_LAST ? x.back() : x.front();
    for (size_t row = 1; row < x.size(); ++row)
        for (size_t i = 0; i < out.size(); ++i) {
            if (m.pooling == NC_POOL_MEAN) out[i] += x[row][i];
            if (m.pooling == NC_POOL_MAX) out[i] = std::max(out[i], x[row][i]);
        }
    double squares = 0;
    for (double &value : out) {
        if (m.pooling == NC_POOL_MEAN) value /= (double)x.size();
        squares += value * value;
    }
    if (m.normalize)
        for (double &value : out) value /= std::max(std::sqrt(squares), 1e-12);
    return out;
}

inline double cosine(const Doubles &a, const float *b) {
    double both = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < a.size(); ++i) both += a[i] * b[i], aa += a[i] * a[i], bb += (double)b[i] * b[i];
    return both / std::sqrt(aa * bb);
}

}  // namespace reference
