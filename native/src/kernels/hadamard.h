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

// Vectors `stride` and more apart, less than `end`.
template <int vectors, int stride = 1, int end = vectors>
inline void transform_vectors(F (&x)[vectors]) {
    if constexpr (stride < end) {
#pragma GCC unroll 16
        for (int i = 0; i < vectors; ++i) {
            if (i & stride) continue;
            const F a = x[i], b = x[i + stride];
            x[i] = a + b;
            x[i + stride] = a - b;
        }
        transform_vectors<vectors, 2 * stride, end>(x);
    }
}

// Blocks of the greatest power of two that divides n, NC_BLOCK at most.
inline int64_t block_of(int64_t n) { return (n & -n) < NC_BLOCK ? n & -n : NC_BLOCK; }

constexpr int kHeld = 8;  // vectors that a transform keeps in registers

template <int block, int held>
inline void transform_rest(float *x, int64_t n, F &low, F &high) {
    constexpr int vectors = block / held;
    for (int64_t i = 0; i < n; i += block)
        for (int64_t lane = i; lane < i + held; lane += LANES) {
            F y[vectors];
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) y[v] = load(x + lane + v * held);
            transform_vectors(y);
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) {
                if (vectors > 1) store(x + lane + v * held, y[v]);
                low = smaller(y[v], low);
                high = larger(y[v], high);
            }
        }
}

// What is left of a transform in place, of which neighbours up to `held` apart have had theirs; low and high come to hold the
// least and the largest of each lane.
template <int held>
void transform_rest(float *x, int64_t n, F &low, F &high) {
    const int64_t block = block_of(n);
    if (block <= held) return transform_rest<16, 16>(x, n, low, high);
    if constexpr (held < 128)
        if (block == 128) return transform_rest<128, held>(x, n, low, high);
    if constexpr (held < 64)
        if (block == 64) return transform_rest<64, held>(x, n, low, high);
    if constexpr (held < 32) return transform_rest<32, held>(x, n, low, high);
}

// As many neighbours as registers hold, of what `read` gives by their place.
template <int held, typename Read>
inline void transform_held(float *to, int64_t n, const Read &read) {
    constexpr int vectors = held / LANES;
    for (int64_t i = 0; i < n; i += held) {
        F y[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) y[v] = transform_lanes(read(i + v * LANES));
        transform_vectors(y);
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) store(to + i + v * LANES, y[v]);
    }
}

template <typename Read>
void transform(float *to, int64_t n, F &low, F &high, const Read &read) {
    constexpr int most = kHeld * LANES;
    switch (block_of(n)) {
        case 128: transform_held<most < 128 ? most : 128>(to, n, read); break;
        case 64: transform_held<most < 64 ? most : 64>(to, n, read); break;
        case 32: transform_held<32>(to, n, read); break;
        default: transform_held<16>(to, n, read);
    }
    transform_rest<most>(to, n, low, high);
}

}  // namespace
