// Work on single rows: embeddings, norms.
#pragma once

#include <cmath>

#include "math.h"

namespace {

// to = x * scale * weight + bias, of x less `mean`.
inline void scale_row(const float *x, float *to, float mean, float scale, const nc_norm &norm, int64_t n) {
    if (norm.bias)
        for (int64_t i = 0; i < n; i += LANES)
            store(to + i, (load(x + i) - mean) * scale * load(norm.weight + i) + load(norm.bias + i));
    else
        for (int64_t i = 0; i < n; i += LANES) store(to + i, (load(x + i) - mean) * scale * load(norm.weight + i));
}

inline float sum_of_squares(const float *x, float mean, int64_t n) {
    F squares{};
    for (int64_t i = 0; i < n; i += LANES) {
        const F centred = load(x + i) - mean;
        squares += centred * centred;
    }
    return sum(squares);
}

// `to` may be x.
inline void normalize_row(const float *x, float *to, const nc::Norm &norm, int64_t n) {
    float mean = 0;
    if (norm.kind == NC_LAYER_NORM) {
        F total{};
        for (int64_t i = 0; i < n; i += LANES) total += load(x + i);
        mean = sum(total) / n;
    }
    scale_row(x, to, mean, 1 / std::sqrt(sum_of_squares(x, mean, n) / n + norm.epsilon), norm.weights, n);
}

void normalize(float *x, const nc::Norm &norm, int64_t n, nc::Range rows) {
    for (int64_t row = rows.first; row < rows.last; ++row) normalize_row(x + row * n, x + row * n, norm, n);
}

void add(float *x, const float *y, int64_t n, nc::Range rows) {
    for (int64_t i = rows.first * n; i < rows.last * n; i += LANES) store(x + i, load(x + i) + load(y + i));
}

inline void read_word(const nc_model &model, int64_t id, float *to) {
    const int64_t n = model.hidden;
    if (model.word_precision == NC_FP32) {
        std::memcpy(to, (const float *)model.words + id * n, n * sizeof *to);
    } else if (model.word_precision == NC_FP16) {
        const nc::Half *word = (const nc::Half *)model.words + id * n;
        for (int64_t i = 0; i < n; ++i) to[i] = (float)word[i];
    } else {
        const int8_t *word = (const int8_t *)model.words + id * n;
        const float scale = model.word_scale[id];
        for (int64_t i = 0; i < n; ++i) to[i] = word[i] * scale;
    }
}

void embed(const nc_model &model, const nc_batch &batch, float *x, nc::Range rows) {
    const int64_t n = model.hidden;
    const nc::Norm norm{model.embedding_norm, model.norm, model.epsilon};
    for (int64_t row = rows.first; row < rows.last; ++row) {
        float *to = x + row * n;
        read_word(model, batch.ids[row], to);
        if (model.positions) {
            const float *position = model.positions + batch.positions[row] * n;
            for (int64_t i = 0; i < n; ++i) to[i] += position[i];
        }
        if (norm) normalize_row(to, to, norm, n);
    }
}

}  // namespace
