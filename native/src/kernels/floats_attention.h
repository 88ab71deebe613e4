// Attention in fp32: softmax(q k^T + bias) v. Queries come scaled.
//
// SCORE_ROWS queries share each pass over the keys, so that scores stay in the first cache and keys are not read again for
// every query. Keys that none of them sees are left out.
#pragma once

#include "floats_multiply.h"
#include "span.h"
#include "turn.h"

namespace {
namespace floats {

constexpr int64_t SCORE_ROWS = 2 * ROWS;  // queries that share a pass over the keys
constexpr int64_t PROJECT_ROWS = 192;     // rows that stay in the second cache while all columns go by

// Queries, keys and values, head by head: [heads][tokens][head size].
int64_t heads_bytes(const nc_attention &layer, int64_t n_tokens, int64_t) {
    return n_tokens * layer.qkv.n_out * (int64_t)sizeof(float);
}

// A row of scores: whole tiles, in an odd number of cache lines.
constexpr int64_t score_stride(int64_t n_tokens) { return nc::round_up(n_tokens, TILE_COLUMNS) + LANES; }

int64_t attention_bytes(const nc_attention &layer, int64_t longest) {
    const int64_t padded = nc::round_up(longest, NC_PANEL);
    return (padded * layer.head_size + SCORE_ROWS * score_stride(longest)) * (int64_t)sizeof(float);  // keys; scores
}

// Norms and positions of a head of all tokens: where `of_head` is below n_heads a query, then keys and values.
void place_head(const nc_model &model, const nc_attention &layer, const nc_batch &batch, float *x, int64_t of_head) {
    const int64_t size = layer.head_size, last_key = layer.n_heads + layer.n_key_heads;
    const nc_norm &weights = of_head < layer.n_heads ? layer.query_norm : of_head < last_key ? layer.key_norm : layer.value_norm;
    const bool turns = layer.cosines && of_head < last_key;
    if (!weights.weight && !turns) return;
    for (int64_t text = 0; text < batch.n_texts; ++text)
        for (int64_t token = batch.offsets[text]; token < batch.offsets[text + 1]; ++token) {
            float *row = x + token * size;
            if (weights.weight) normalize_row(row, row, {weights, model.norm, model.epsilon}, size);
            if (turns) turn(layer, row, token - batch.offsets[text]);
        }
}

// See nc_kernels.
template <typename Kind>
void project(const nc::Rows &x, const nc_model &model, const nc_attention &layer, const nc_batch &batch, char *heads, nc::Range which) {
    const int64_t size = layer.head_size, n_rows = batch.offsets[batch.n_texts];
    float *to = (float *)heads;
    for (int64_t first = 0; first < n_rows; first += PROJECT_ROWS) {
        const nc::Range rows{first, n_rows - first < PROJECT_ROWS ? n_rows : first + PROJECT_ROWS};
        multiply<Kind>(x, layer.qkv, rows, {which.first * size, which.last * size},
                       [&](int64_t row, int height, int64_t column, auto result) {
                           const int64_t head = column / size;
                           float *at = to + (head * n_rows + row) * size + column - head * size;
                           for (int r = 0; r < height; ++r) store(at + r * size, result(r));
                       });
    }
    for (int64_t head = which.first; head < which.last; ++head) place_head(model, layer, batch, to + head * n_rows * size, head);
}

struct Head {
    const float *queries, *values;  // [tokens][size]
    float *keys;                    // [tokens / 16][size][16]
    float *scores;                  // [SCORE_ROWS][stride]
    int64_t stride;
};

// Rows of a square become its columns.
inline void transpose(F (&square)[LANES]) {
#pragma GCC unroll 4
    for (int width = 1; width < LANES; width *= 2) {
        I upper, lower;  // of two rows: lanes that stay, and those that come from the other
        for (int i = 0; i < LANES; ++i) {
            upper[i] = i & width ? LANES + (i ^ width) : i;
            lower[i] = i & width ? LANES + i : i ^ width;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i)
            if (!(i & width)) {
                const F a = square[i], b = square[i | width];
                square[i] = __builtin_shuffle(a, b, upper), square[i | width] = __builtin_shuffle(a, b, lower);
            }
    }
}

// Rows to panels of 16 of them. Those past the text's end are 0; their scores are overwritten before use.
void transpose_keys(const float *from, float *to, int64_t n, int64_t size) {
    for (int64_t first = 0; first < nc::round_up(n, NC_PANEL); first += LANES)
        for (int64_t i = 0; i < size; i += LANES) {
            F square[LANES] = {};
            const int64_t rows = n - first;
            if (rows >= LANES)
#pragma GCC unroll 16
                for (int r = 0; r < LANES; ++r) square[r] = load(from + (first + r) * size + i);
            else
#pragma GCC unroll 16
                for (int r = 0; r < LANES; ++r) if (r < rows) square[r] = load(from + (first + r) * size + i);
            transpose(square);
            float *panel = to + first / NC_PANEL * NC_PANEL * size + first % NC_PANEL;
#pragma GCC unroll 16
            for (int r = 0; r < LANES; ++r) store(panel + (i + r) * NC_PANEL, square[r]);
        }
}

Head find_head(const nc::Attention &task) {
    const nc_attention &layer = task.layer;
    const int64_t n = task.n_tokens(), size = layer.head_size, n_rows = task.batch.offsets[task.batch.n_texts];
    const int64_t key_head = layer.n_heads + task.head / (layer.n_heads / layer.n_key_heads);
    const auto head = [&](int64_t number) { return (const float *)task.heads + (number * n_rows + task.start()) * size; };
    float *keys = (float *)task.scratch;
    transpose_keys(head(key_head), keys, n, size);
    return {head(task.head), head(key_head + layer.n_key_heads), keys, keys + nc::round_up(n, NC_PANEL) * size, score_stride(n)};
}

// exp(x) to 2e-7 of it, for x up to 0; from -80 on the same. As `exponential`, but ln 2 needs no second part here: what it
// would change is far below the highest weight, 1. The polynomial is the best of its degree (scripts/fit_exponential.py).
inline F weight_of(F x) {
    x = larger(splat(-80.0f), x);  // NaN stays
    const F shifted = x * 1.44269504f + 12582912.0f;
    const F r = x - (shifted - 12582912.0f) * 0.693147182f;
    F y = splat(8.312501945e-03f);
    y = y * r + 4.189033061e-02f;
    y = y * r + 1.666711569e-01f;
    y = y * r + 4.999923110e-01f;
    y = y * r + 1.0f;
    y = y * r + 1.0f;
    return as_float(as_int(y) + (as_int(shifted) << 23));
}

// What lies outside of a span, of the vector at i, becomes `outside`.
inline void limit(float *x, int64_t i, Span span, float outside) {
    I place;
    for (int lane = 0; lane < LANES; ++lane) place[lane] = lane;
    place += (int32_t)i;
    const I inside = (place >= (int32_t)span.first) & (place < (int32_t)span.last);
    store(x + i, inside ? load(x + i) : splat(outside));
}

// In place: exp(score - highest) of the keys that are seen; returns one over their sum. Scores lie from `whole` on. Those beside
// the seen ones become 0, but for some past the text's end, which are not used.
inline float exponentiate(float *scores, Span seen, Span whole) {
    scores -= whole.first;
    const Span wide = seen.widened(LANES);
    limit(scores, wide.first, seen, -3e38f);
    limit(scores, wide.last - LANES, seen, -3e38f);
    F high = load(scores + wide.first);
    for (int64_t i = wide.first + LANES; i < wide.last; i += LANES) high = larger(load(scores + i), high);
    const float highest = largest(high);
    F total{};
    for (int64_t i = wide.first; i < wide.last; i += LANES) {
        const F weight = weight_of(load(scores + i) - highest);
        store(scores + i, weight);
        total += weight;
    }
    if (seen.first > whole.first) {
        for (int64_t i = whole.first; i < wide.first; i += LANES) store(scores + i, F{});
        limit(scores, wide.first, seen, 0);
    }
    if (seen.last < whole.last) {
        for (int64_t i = wide.last; i < whole.last; i += LANES) store(scores + i, F{});
        limit(scores, wide.last - LANES, seen, 0);
    }
    return 1 / sum(total);
}

inline void add_bias(float *scores, const float *bias, int64_t n) {
    for (int64_t i = 0; i < n; ++i) scores[i] += bias[i];
}

// c = a @ b: `rows` rows of a by `columns` columns of b, `depth` long.
void multiply_floats(int64_t rows, int64_t columns, int64_t depth, const float *a, int64_t a_stride, const float *b, Strides strides,
                     float *c, int64_t c_stride) {
    for (int64_t column = 0; column < columns; column += TILE_COLUMNS)
        for (int64_t row = 0; row < rows; row += ROWS) {
            const int64_t height = rows - row < ROWS ? rows - row : ROWS;
            const int64_t width = columns - column < TILE_COLUMNS ? columns - column : TILE_COLUMNS;
            tile_of<Fp32>((int)height, (int)(width / LANES))((const char *)(a + row * a_stride), a_stride * sizeof *a,
                                                             b + column / NC_PANEL * strides.panel, strides, depth,
                                                             c + row * c_stride + column, c_stride);
        }
}

void attend(const nc::Attention &task) {
    const int64_t size = task.layer.head_size;
    const Head head = find_head(task);
    for (int64_t first = task.queries.first; first < task.queries.last; first += SCORE_ROWS) {
        const int64_t rows = task.queries.last - first < SCORE_ROWS ? task.queries.last - first : SCORE_ROWS;
        // What any of these queries sees, as columns of scores.
        const Span whole{seen_by(task, first).first / NC_PANEL * NC_PANEL, seen_by(task, first + rows - 1).last};
        multiply_floats(rows, nc::round_up(whole.last - whole.first, NC_PANEL), size, head.queries + first * size, size,
                        head.keys + whole.first * size, {NC_PANEL * size, NC_PANEL}, head.scores, head.stride);
        float inverse[SCORE_ROWS];
        for (int64_t r = 0; r < rows; ++r) {
            float *scores = head.scores + r * head.stride;
            if (task.model.distance_bias)
                add_bias(scores, bias_of(task, first + r) + whole.first, whole.last - whole.first);
            inverse[r] = exponentiate(scores, seen_by(task, first + r), whole);
        }
        float *out = task.out + (first - task.queries.first) * task.out_stride;
        multiply_floats(rows, size, whole.last - whole.first, head.scores, head.stride, head.values + whole.first * size,
                        {NC_PANEL, size}, out, task.out_stride);
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t i = 0; i < size; i += LANES)
                store(out + r * task.out_stride + i, load(out + r * task.out_stride + i) * inverse[r]);
    }
}

}  // namespace floats
}  // namespace
