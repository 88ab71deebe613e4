// Attention of one head over one text, in fp32: softmax(q k^T + bias) v. Queries come scaled.
//
// SCORE_ROWS queries share each pass over the keys, so that scores stay in the first cache and keys are not read again for
// every query. Keys that none of them sees are left out.
#pragma once

#include "rows.h"

namespace {

constexpr int64_t SCORE_ROWS = 12;  // queries that share a pass over the keys

// Keys of one component side by side, in an odd number of cache lines: at a power of two, all of a key's components would fall
// into one set of a cache.
constexpr int64_t key_stride(int64_t n_tokens) { return (nc::round_up(n_tokens, LANES) / LANES | 1) * LANES; }

int64_t attention_bytes(const nc_attention &layer, int64_t longest) {
    const int64_t padded = key_stride(longest);
    return (3 * padded * layer.head_size + SCORE_ROWS * padded) * (int64_t)sizeof(float);  // queries, keys, values; scores
}

// Queries, keys and values as the product gives them, [tokens][its columns].
int64_t heads_bytes(const nc_attention &layer, int64_t n_tokens, int64_t) {
    return n_tokens * layer.qkv.n_out * (int64_t)sizeof(float);
}

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
inline void rotate(const nc_attention &layer, const float *from, float *to, int64_t token) {
    const int64_t half = layer.head_size / 2;
    const float *cosines = layer.cosines + token * half, *sines = layer.sines + token * half;
    for (int64_t i = 0; i < half; ++i) {
        const float a = from[i], b = from[half + i];
        to[i] = a * cosines[i] - b * sines[i];
        to[half + i] = b * cosines[i] + a * sines[i];
    }
}

// A head of one token: its norm, if it has one.
inline void copy_row(const nc::Attention &task, const nc_norm &norm, const float *from, float *to) {
    const int64_t size = task.layer.head_size;
    if (norm.weight)
        normalize_row(from, to, {norm, task.model.norm, task.model.epsilon}, size);
    else
        std::memcpy(to, from, size * sizeof *to);
}

// The same, and its position.
inline void place_row(const nc::Attention &task, const nc_norm &norm, const float *from, float *to, int64_t token) {
    if (norm.weight) copy_row(task, norm, from, to), from = to;
    if (task.layer.cosines) return rotate(task.layer, from, to, token);
    if (from != to) copy_row(task, norm, from, to);
}

struct Head {
    float *queries;  // [tokens][size]
    float *keys;     // [size][padded], transposed
    float *values;   // [tokens][size]
    float *scores;   // [SCORE_ROWS][padded]
    int64_t padded;
};

// The head's own rows one after the other. Keys past the text's end are 0; their scores are overwritten before use.
Head gather(const nc::Attention &task) {
    const nc_attention &layer = task.layer;
    const int64_t n = task.n_tokens(), size = layer.head_size, padded = key_stride(n);
    const int64_t stride = (layer.n_heads + 2 * (int64_t)layer.n_key_heads) * size;
    const int64_t key_head = task.head / (layer.n_heads / layer.n_key_heads);
    const float *qkv = (const float *)task.heads + task.start() * stride;
    Head head{(float *)task.scratch, nullptr, nullptr, nullptr, padded};
    head.keys = head.queries + n * size;
    head.values = head.keys + padded * size;
    head.scores = head.values + n * size;
    for (int64_t token = 0; token < n; ++token) {
        const float *row = qkv + token * stride, *key_row = row + (layer.n_heads + key_head) * size;
        place_row(task, layer.query_norm, row + task.head * size, head.queries + token * size, token);
        float *key = head.values + token * size;  // the value comes into this place below
        place_row(task, layer.key_norm, key_row, key, token);
        for (int64_t i = 0; i < size; ++i) head.keys[i * padded + token] = key[i];
        copy_row(task, layer.value_norm, key_row + layer.n_key_heads * size, key);
    }
    const int64_t end = nc::round_up(n, LANES);  // columns that are computed
    for (int64_t i = 0; i < size; ++i)
        for (int64_t token = n; token < end; ++token) head.keys[i * padded + token] = 0;
    return head;
}

struct Span {
    int64_t first, last;

    // With the ends moved out to whole vectors.
    Span widened() const { return {first / LANES * LANES, nc::round_up(last, LANES)}; }
};

// The keys that a query sees.
inline Span seen_by(const nc::Attention &task, int64_t query) {
    const int64_t window = task.layer.window, n = task.n_tokens();
    const int64_t last = task.layer.causal ? query + 1 : n;
    if (window == NC_UNBOUNDED) return {0, last};
    return {query > window ? query - window : 0, last - query - 1 > window ? query + window + 1 : last};
}

// In place: exp(score - highest) of the keys that are seen; returns one over their sum. Scores lie from `whole` on. Those beside
// the seen ones become 0, but for some past the text's end, which are not used.
inline float exponentiate(float *scores, Span seen, Span whole) {
    scores -= whole.first;
    const Span wide = seen.widened();
    for (int64_t i = wide.first; i < seen.first; ++i) scores[i] = -3e38f;
    for (int64_t i = seen.last; i < wide.last; ++i) scores[i] = -3e38f;
    F high = load(scores + wide.first);
    for (int64_t i = wide.first + LANES; i < wide.last; i += LANES) high = larger(load(scores + i), high);
    const float highest = largest(high);
    F total{};
    for (int64_t i = wide.first; i < wide.last; i += LANES) {
        const F weight = exponential(load(scores + i) - highest);
        store(scores + i, weight);
        total += weight;
    }
    for (int64_t i = whole.first; i < seen.first; ++i) scores[i] = 0;
    for (int64_t i = seen.last; i < whole.last; ++i) scores[i] = 0;
    return 1 / sum(total);
}

inline void add_bias(float *scores, const float *bias, int64_t n) {
    for (int64_t i = 0; i < n; ++i) scores[i] += bias[i];
}

// The biases of a query, by key: they go by key - query, and their middle is distance 0.
inline const float *bias_of(const nc::Attention &task, int64_t query) {
    const int64_t n = task.model.max_positions;
    return task.model.distance_bias + task.head * (2 * n - 1) + n - 1 - query;
}

void attend(const nc::Attention &task) {
    const int64_t size = task.layer.head_size;
    const Head head = gather(task);
    for (int64_t first = task.queries.first; first < task.queries.last; first += SCORE_ROWS) {
        const int64_t rows = task.queries.last - first < SCORE_ROWS ? task.queries.last - first : SCORE_ROWS;
        // What any of these queries sees, as columns of scores.
        const Span whole{seen_by(task, first).first / LANES * LANES, seen_by(task, first + rows - 1).last};
        multiply_floats(rows, nc::round_up(whole.last - whole.first, LANES), size, head.queries + first * size, size,
                        head.keys + whole.first, head.padded, head.scores, head.padded);
        float inverse[SCORE_ROWS];
        for (int64_t r = 0; r < rows; ++r) {
            float *scores = head.scores + r * head.padded;
            if (task.model.distance_bias)
                add_bias(scores, bias_of(task, first + r) + whole.first, whole.last - whole.first);
            inverse[r] = exponentiate(scores, seen_by(task, first + r), whole);
        }
        float *out = task.out + (first - task.queries.first) * task.out_stride;
        multiply_floats(rows, size, whole.last - whole.first, head.scores, head.padded, head.values + whole.first * size, size,
                        out, task.out_stride);
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t i = 0; i < size; ++i) out[r * task.out_stride + i] *= inverse[r];
    }
}

}  // namespace
