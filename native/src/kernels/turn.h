// Rotary positions: halves of a head's row turned against each other by the angles of its token (arXiv:2104.09864).
#pragma once

#include "vector.h"

namespace {

inline void turn(const nc_attention &layer, float *row, int64_t token) {
    const int64_t half = layer.head_size / 2;
    const float *cosines = layer.cosines + token * half, *sines = layer.sines + token * half;
    float *__restrict low = row, *__restrict high = row + half;
    for (int64_t i = 0; i < half; ++i) {
        const float a = low[i], b = high[i];
        low[i] = a * cosines[i] - b * sines[i];
        high[i] = b * cosines[i] + a * sines[i];
    }
}

}  // namespace
