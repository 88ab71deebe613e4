// The product that gives queries, keys and values, and their way into integers: some rows of one or more heads go through a
// little buffer, where a head's norm and position follow, and its own scale.
#pragma once

#include "heads.h"
#include "multiply.h"
#include "rows.h"
#include "turn.h"

namespace {

constexpr int64_t PROJECT_ROWS = 48, PROJECT_COLUMNS = 64;
constexpr int64_t HEAD_MOST = 1024;  // components of a head
constexpr int64_t BUFFER = 12 * HEAD_MOST;

inline float largest_size(const float *x, int64_t n) {
    F most{};
    for (int64_t i = 0; i < n; i += LANES) {
        const F value = load(x + i);
        most = larger(value, most);
        most = larger(-value, most);
    }
    return fold_lanes(most, [](F a, F b) { return larger(a, b); });
}

// The nearest integers of x * inverse, none beyond `most`; NaN becomes one of them.
inline I round_within(F x, float inverse, int most) {
    return nearest(smaller(larger(x * inverse, splat((float)-most)), splat((float)most)));
}

struct Scale {
    float scale, inverse;

    explicit Scale(float most) : scale(most > 1e-30f ? most / SCORE_MOST : 1e-30f), inverse(1 / scale) {}
};

class HeadRow {
public:
    HeadRow(const nc_model &model, const nc_attention &layer, const Heads &heads) : model_(model), layer_(layer), heads_(heads) {}

    // A token's row of a head, by its number among the product's columns. x may change.
    void place(float *x, int64_t head, const TextOf &text) const {
        const int64_t n_keys = layer_.n_key_heads;
        if (head < layer_.n_heads) return place_query(x, head, text);
        head -= layer_.n_heads;
        head < n_keys ? place_key(x, head, text) : place_value(x, head - n_keys, text);
    }

private:
    void place_query(float *x, int64_t head, const TextOf &text) const {
        position(layer_.query_norm, x, text.token());
        const Scale scale(largest_size(x, heads_.size));
        const int64_t at = head * heads_.n_places + text.first_place() + text.token();
        heads_.query_scale[at] = scale.scale * LOG2_E;
        Component *to = heads_.queries + at * heads_.size;
        for (int64_t i = 0; i < heads_.size; i += LANES)
            pack(to + i, round_within(load(x + i), scale.inverse, SCORE_MOST) + Scores::OFFSET);
    }

    void place_key(float *x, int64_t head, const TextOf &text) const {
        position(layer_.key_norm, x, text.token());
        const Scale scale(largest_size(x, heads_.size));
        const int64_t first = head * heads_.n_places + text.first_place(), at = first + text.token();
        heads_.key_scale[at] = scale.scale;
        alignas(64) Component row[HEAD_MOST];
        I total{};
        for (int64_t i = 0; i < heads_.size; i += LANES) {
            const I q = round_within(load(x + i), scale.inverse, SCORE_MOST);
            pack(row + i, q);
            total += q;
        }
        if (Scores::OFFSET) heads_.key_start[at] = -Scores::OFFSET * fold_lanes(total, [](I a, I b) { return a + b; });
        const int64_t token = text.token(), n_words = heads_.size / QUERY_GROUP;
        int32_t *to = (int32_t *)(heads_.keys + (first + token / KEYS * KEYS) * heads_.size) + token % KEYS;
        for (int64_t i = 0; i < n_words; ++i) std::memcpy(to + i * KEYS, row + i * QUERY_GROUP, sizeof *to);
    }

    void place_value(float *x, int64_t head, const TextOf &text) const {
        if (layer_.value_norm.weight) normalize_row(x, x, {layer_.value_norm, model_.norm, model_.epsilon}, heads_.size);
        const int exponent = exponent_of(largest_size(x, heads_.size));
        const int64_t first = head * heads_.n_places + text.first_place(), token = text.token(), half = KEYS / 2;
        heads_.exponent[first + token] = (float)exponent;
        const float inverse = heads_.inverse[first + token] = power_of_two(-exponent);
        int16_t *to = heads_.values + (first + token / KEYS * KEYS) * heads_.size + token % half * 2 * heads_.size;
        for (int64_t i = 0; i < heads_.size; i += LANES)
            Pairs::put(to + 2 * i, round_within(load(x + i), inverse, VALUE_MOST), token % KEYS >= half);
        if (token + 1 == text.n_tokens())
            for (int64_t i = token + 1; i < nc::round_up(token + 1, KEYS); ++i) heads_.inverse[first + i] = 0;
    }

    // Norm and position.
    void position(const nc_norm &norm, float *x, int64_t token) const {
        if (norm.weight) normalize_row(x, x, {norm, model_.norm, model_.epsilon}, heads_.size);
        if (layer_.cosines) turn(layer_, x, token);
    }

    // The least exponent whose power of two takes VALUE_MOST steps to `most`, or the next one.
    static int exponent_of(float most) {
        int32_t bits;
        const float step = most * (1.0f / VALUE_MOST);
        std::memcpy(&bits, &step, sizeof bits);
        const int exponent = (bits >> 23) - 126;
        return exponent < -EXPONENT_MOST ? -EXPONENT_MOST : exponent > EXPONENT_MOST ? EXPONENT_MOST : exponent;
    }

    static float power_of_two(int exponent) {
        const int32_t bits = (exponent + 127) << 23;
        float power;
        std::memcpy(&power, &bits, sizeof power);
        return power;
    }

    const nc_model &model_;
    const nc_attention &layer_;
    const Heads &heads_;
};

inline nc_product columns_of(const nc_product &all, int64_t first, int64_t n) {
    return {(const int8_t *)all.weight + first * all.n_in, all.column_scale + first, all.column_sum + first, all.bias + first,
            all.n_in, (int32_t)n};
}

// Some neighbouring heads of all rows.
void project_heads(const nc::Rows &x, const nc_product &product, const nc_batch &batch, const HeadRow &row_of, nc::Range which,
                   int64_t size) {
    alignas(64) float buffer[BUFFER];
    const int64_t n_rows = batch.offsets[batch.n_texts], n = (which.last - which.first) * size;
    const int64_t most = PROJECT_ROWS * n < BUFFER ? PROJECT_ROWS : BUFFER / n;
    TextOf text(batch);
    for (int64_t first = 0; first < n_rows; first += most) {
        const int64_t rows = n_rows - first < most ? n_rows - first : most;
        const nc::Rows some{x.values + first * x.stride, x.stride, x.scale + first, x.zero + first};
        multiply(some, product, false, buffer, {0, rows}, {0, n / NC_PANEL});
        for (int64_t r = 0; r < rows; ++r) {
            text.move_to(first + r);
            for (int64_t head = which.first; head < which.last; ++head)
                row_of.place(buffer + r * n + (head - which.first) * size, head, text);
        }
    }
}

// See nc_kernels.
void project(const nc::Rows &x, const nc_model &model, const nc_attention &layer, const nc_batch &batch, char *memory, nc::Range which) {
    const Heads heads(layer, memory, batch.offsets[batch.n_texts], batch.n_texts);
    const HeadRow row_of(model, layer, heads);
    const int64_t size = layer.head_size, group = size < PROJECT_COLUMNS ? PROJECT_COLUMNS / size : 1;
    for (int64_t head = which.first; head < which.last; head += group) {
        const int64_t last = head + group < which.last ? head + group : which.last;
        project_heads(x, columns_of(layer.qkv, head * size, (last - head) * size), batch, row_of, {head, last}, size);
    }
}

}  // namespace
