// Attention of one head over one text, in fp32: softmax(q k^T + bias) v. Queries come scaled.
//
// kScoreRows queries share each pass over the keys, so that scores stay in the first cache and keys are not read again for
// every query.
#pragma once

#include "math.h"

namespace {

constexpr int BLOCK_ROWS = 6;
constexpr int BLOCK_VECTORS = 2;

// c = a @ b: `rows` rows of a, `vectors` vectors of b's columns.
template <int rows, int vectors>
void multiply_floats(const float *a, int64_t a_stride, const float *b, int64_t b_stride, float *c, int64_t c_stride,
                     int64_t depth) {
    F total[rows][vectors] = {};
    for (int64_t k = 0; k < depth; ++k) {
        F column[vectors];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) column[v] = load(b + k * b_stride + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) total[r][v] += splat(a[r * a_stride + k]) * column[v];
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(c + r * c_stride + v * LANES, total[r][v]);
}

template <int vectors>
void multiply_rows(int64_t rows, const float *a, int64_t a_stride, const float *b, int64_t b_stride, float *c,
                   int64_t c_stride, int64_t depth) {
    int64_t row = 0;
    for (; row + BLOCK_ROWS <= rows; row += BLOCK_ROWS)
        multiply_floats<BLOCK_ROWS, vectors>(a + row * a_stride, a_stride, b, b_stride, c + row * c_stride, c_stride, depth);
    for (; row < rows; ++row)
        multiply_floats<1, vectors>(a + row * a_stride, a_stride, b, b_stride, c + row * c_stride, c_stride, depth);
}

// c (rows, columns) = a (rows, depth) @ b (depth, columns); columns a multiple of LANES.
void multiply_floats(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_stride, const float *b,
                     int64_t b_stride, float *c, int64_t c_stride) {
    int64_t column = 0;
    for (; column + BLOCK_VECTORS * LANES <= columns; column += BLOCK_VECTORS * LANES)
        multiply_rows<BLOCK_VECTORS>(rows, a, a_stride, b + column, b_stride, c + column, c_stride, depth);
    for (; column < columns; column += LANES)
        multiply_rows<1>(rows, a, a_stride, b + column, b_stride, c + column, c_stride, depth);
}

// Halves of a row turned against each other by the angles of its position (arXiv:2104.09864).
inline void copy_rotated(const nc::Attention &task, const float *from, float *to, int64_t token) {
    const int64_t half = task.head_size / 2;
    const float *cosines = task.cosines + token * half, *sines = task.sines + token * half;
    for (int64_t i = 0; i < half; ++i) {
        to[i] = from[i] * cosines[i] - from[half + i] * sines[i];
        to[half + i] = from[half + i] * cosines[i] + from[i] * sines[i];
    }
}

inline void copy_row(const nc::Attention &task, const float *from, float *to, int64_t token) {
    if (task.cosines) return copy_rotated(task, from, to, token);
    std::memcpy(to, from, task.head_size * sizeof *to);
}

struct Head {
    float *queries;  // [tokens][size]
    float *keys;     // [size][padded], transposed
    float *values;   // [tokens][size]
    float *scores;   // [kScoreRows][padded]
    int64_t padded;
};

// The head's own rows one after the other. Keys past the text's end are 0; their scores are overwritten before use.
Head gather(const nc::Attention &task) {
    const int64_t n = task.n_tokens, size = task.head_size, padded = nc::round_up(n, LANES);
    Head head{task.scratch, nullptr, nullptr, nullptr, padded};
    head.keys = head.queries + n * size;
    head.values = head.keys + padded * size;
    head.scores = head.values + n * size;
    for (int64_t token = 0; token < n; ++token) {
        const float *row = task.qkv + token * 3 * task.hidden + task.head * size;
        copy_row(task, row, head.queries + token * size, token);
        float *key = head.values + token * size;  // the value comes into this place below
        copy_row(task, row + task.hidden, key, token);
        for (int64_t i = 0; i < size; ++i) head.keys[i * padded + token] = key[i];
        std::memcpy(key, row + 2 * task.hidden, size * sizeof *key);
    }
    for (int64_t i = 0; i < size; ++i)
        for (int64_t token = n; token < padded; ++token) head.keys[i * padded + token] = 0;
    return head;
}

// In place: exp(score - highest); returns one over their sum. Places past the end become 0.
inline float exponentiate(float *scores, int64_t n, int64_t padded) {
    for (int64_t i = n; i < padded; ++i) scores[i] = -3e38f;
    F high = load(scores);
    for (int64_t i = LANES; i < padded; i += LANES) high = larger(load(scores + i), high);
    const float highest = largest(high);
    F total{};
    for (int64_t i = 0; i < padded; i += LANES) {
        const F weight = exponential(load(scores + i) - highest);
        store(scores + i, weight);
        total += weight;
    }
    return 1 / sum(total);
}

inline void add_bias(float *scores, const float *bias, int64_t n) {
    for (int64_t i = 0; i < n; ++i) scores[i] += bias[i];
}

void attend(const nc::Attention &task) {
    const int64_t n = task.n_tokens, size = task.head_size;
    const Head head = gather(task);
    for (int64_t first = 0; first < n; first += nc::kScoreRows) {
        const int64_t rows = n - first < nc::kScoreRows ? n - first : nc::kScoreRows;
        multiply_floats(rows, head.padded, size, head.queries + first * size, size, head.keys, head.padded, head.scores,
                        head.padded);
        float inverse[nc::kScoreRows];
        for (int64_t r = 0; r < rows; ++r) {
            float *scores = head.scores + r * head.padded;
            // The bias goes by key - query, and its middle is distance 0.
            if (task.bias) add_bias(scores, task.bias + task.max_positions - 1 - (first + r), n);
            inverse[r] = exponentiate(scores, n, head.padded);
        }
        float *out = task.out + first * task.hidden + task.head * size;
        multiply_floats(rows, size, n, head.scores, head.padded, head.values, size, out, task.hidden);
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t i = 0; i < size; ++i) out[r * task.hidden + i] *= inverse[r];
    }
}

}  // namespace
