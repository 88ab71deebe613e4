// The Hadamard transform of a row, block by block (Sylvester's matrix: 1 and -1, by the parity of the bits that row and column
// share). A row's step must reach its largest value; in a block that value is spread over all, so that steps become finer
// (QuaRot, arXiv:2404.00456). Weights are packed as the transform's inverse of themselves.
#pragma once

#include "vector.h"

namespace {

// Sums and differences of lanes `stride` apart.
template <int stride>
inline F add_lanes(F x) {
    I order{};
    F sign{};
    for (int i = 0; i < LANES; ++i) {
        order[i] = i ^ stride;
        sign[i] = i & stride ? -1.0f : 1.0f;
    }
    return __builtin_shuffle(x, order) + x * sign;
}

template <int stride = 1>
inline F transform_lanes(F x) {
    if constexpr (stride < LANES) return transform_lanes<2 * stride>(add_lanes<stride>(x));
    return x;
}

template <int vectors, int stride = 1>
inline void transform_vectors(F (&x)[vectors]) {
    if constexpr (stride < vectors) {
#pragma GCC unroll 32
        for (int i = 0; i < vectors; ++i) {
            if (i & stride) continue;
            const F a = x[i], b = x[i + stride];
            x[i] = a + b;
            x[i + stride] = a - b;
        }
        transform_vectors<vectors, 2 * stride>(x);
    }
}

// One block; low and high come to hold the least and the largest of each lane.
template <int block>
inline void transform_block(const float *from, float *to, F &low, F &high) {
    constexpr int vectors = block / LANES;
    F x[vectors];
#pragma GCC unroll 32
    for (int i = 0; i < vectors; ++i) x[i] = transform_lanes(load(from + i * LANES));
    transform_vectors(x);
#pragma GCC unroll 32
    for (int i = 0; i < vectors; ++i) {
        store(to + i * LANES, x[i]);
        low = smaller(x[i], low);
        high = larger(x[i], high);
    }
}

template <int block>
void transform(const float *from, float *to, int64_t n, F &low, F &high) {
    for (int64_t i = 0; i < n; i += block) transform_block<block>(from + i, to + i, low, high);
}

// Blocks of the greatest power of two that divides n, NC_BLOCK at most.
void transform(const float *from, float *to, int64_t n, F &low, F &high) {
    static_assert(NC_BLOCK == 128);
    if (n % 128 == 0) return transform<128>(from, to, n, low, high);
    if (n % 64 == 0) return transform<64>(from, to, n, low, high);
    if (n % 32 == 0) return transform<32>(from, to, n, low, high);
    transform<16>(from, to, n, low, high);
}

}  // namespace
