// Work on single rows: embeddings, norms, quantization.
#pragma once

#include <cmath>

#include "hadamard.h"
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

void normalize(const float *x, float *to, const nc::Norm &norm, int64_t n, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) normalize_row(x + row * n, to + row * n, norm, n);
}

void add(float *x, const float *y, int64_t n, int64_t first, int64_t last) {
    for (int64_t i = first * n; i < last * n; i += LANES) store(x + i, load(x + i) + load(y + i));
}

void embed(const nc_model &model, const nc_batch &batch, float *x, int64_t first, int64_t last) {
    const int64_t n = model.hidden;
    const nc::Norm norm{model.embedding_norm, model.norm, model.epsilon};
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
        if (norm) normalize_row(to, to, norm, n);
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

}  // namespace
