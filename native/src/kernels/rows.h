// Work on single rows: embeddings, LayerNorm, quantization, pooling.
#pragma once

#include <cmath>

#include "hadamard.h"
#include "math.h"

namespace {

// In place: (x - mean) / sqrt(variance + epsilon) * weight + bias.
inline void normalize_row(float *x, const nc_norm &norm, float epsilon, int64_t n) {
    F total{};
    for (int64_t i = 0; i < n; i += LANES) total += load(x + i);
    const float mean = sum(total) / n;
    F squares{};
    for (int64_t i = 0; i < n; i += LANES) {
        const F centred = load(x + i) - mean;
        squares += centred * centred;
    }
    const float scale = 1 / std::sqrt(sum(squares) / n + epsilon);
    for (int64_t i = 0; i < n; i += LANES)
        store(x + i, (load(x + i) - mean) * scale * load(norm.weight + i) + load(norm.bias + i));
}

void normalize(float *x, const nc_norm &norm, float epsilon, int64_t n, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) normalize_row(x + row * n, norm, epsilon, n);
}

void embed(const nc_model &model, const nc_batch &batch, float *x, int64_t first, int64_t last) {
    const int64_t n = model.hidden;
    for (int64_t row = first; row < last; ++row) {
        const int64_t id = batch.ids[row];
        const int8_t *word = model.words + id * n;
        const float scale = model.word_scale[id];
        float *to = x + row * n;
        for (int64_t i = 0; i < n; ++i) to[i] = word[i] * scale;
        if (model.positions) {
            const float *position = model.positions + batch.positions[row] * n;
            for (int64_t i = 0; i < n; ++i) to[i] += position[i];
        }
        normalize_row(to, model.embedding_norm, model.epsilon, n);
    }
}

constexpr int N_STEPS = NC_HIGHEST - NC_LOWEST;

// q = round(x / scale) + zero of the transformed x, with the row's own range, 0 included, on NC_LOWEST to NC_HIGHEST. 0 has an
// integer of its own. `scratch` holds n floats.
void quantize(const float *x, float *scratch, nc::Quantized to, int64_t n, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
        F low{}, high{};
        transform(x + row * n, scratch, n, low, high);
        const float least = smallest(low), range = largest(high) - least;
        const float scale = range > 1e-30f ? range / N_STEPS : 1e-30f, inverse = 1 / scale;
        const int32_t zero = (int32_t)std::lrint(std::fmin(std::fmax(-least * inverse, 0.0f), (float)N_STEPS)) + NC_LOWEST;
        const F lowest = splat((float)(NC_LOWEST - zero)), highest = splat((float)(NC_HIGHEST - zero));
        to.scale[row] = scale;
        to.zero[row] = zero;
        uint8_t *values = to.values + row * to.stride;
        for (int64_t i = 0; i < n; i += LANES) {
            const I q = nearest(smaller(larger(load(scratch + i) * inverse, lowest), highest));
            pack_bytes(values + i, q + (zero + Dot::OFFSET));
        }
    }
}

inline void add_row(float *to, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) store(to + i, load(to + i) + load(x + i));
}

inline void keep_larger(float *to, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) store(to + i, larger(load(x + i), load(to + i)));
}

inline void scale_row(float *to, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i += LANES) store(to + i, load(to + i) * factor);
}

inline float norm_of(const float *x, int64_t n) {
    F squares{};
    for (int64_t i = 0; i < n; i += LANES) squares += load(x + i) * load(x + i);
    return std::sqrt(sum(squares));
}

// One text's vector from its last hidden states.
void pool(const nc_model &model, const float *x, int64_t n_tokens, float *out) {
    const int64_t n = model.hidden;
    const int64_t start = model.pooling == NC_POOL_LAST ? n_tokens - 1 : 0;
    std::memcpy(out, x + start * n, n * sizeof *out);
    for (int64_t row = 1; row < n_tokens; ++row) {
        if (model.pooling == NC_POOL_MEAN) add_row(out, x + row * n, n);
        if (model.pooling == NC_POOL_MAX) keep_larger(out, x + row * n, n);
    }
    if (model.pooling == NC_POOL_MEAN) scale_row(out, 1.0f / n_tokens, n);
    if (model.normalize) scale_row(out, 1 / std::fmax(norm_of(out, n), 1e-12f), n);
}

}  // namespace
