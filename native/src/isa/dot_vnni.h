// vpdpbusd: four products of u8 and s8 added to each 32-bit lane. Activations are stored as q + 96; the tile's sums start at
// -96 times the sum of the weights.
//
// The instruction is written as asm: GCC 12 keeps the sums in registers then, and moves them through the stack with the
// intrinsic. NEURALCORE_EMULATE, for tests on other machines, computes the same in C++.
#pragma once

#include "../kernels/fold.h"

namespace {

template <int vectors>
struct VnniDot {
    static constexpr int ROWS = 6, VECTORS = vectors, STEPS = 1;
    static constexpr int32_t OFFSET = -NC_LOWEST;

    static void add(I &total, const I (&word)[1], const I (&weights)[1]) {
#ifdef NEURALCORE_EMULATE
        uint8_t a[LANES * 4];
        int8_t b[LANES * 4];
        std::memcpy(a, word, sizeof a);
        std::memcpy(b, weights, sizeof b);
        for (int i = 0; i < LANES * 4; ++i) total[i / 4] += a[i] * b[i];
#else
        asm(NC_DPBUSD " %2, %1, %0" : NC_REGISTER(total) : "v"(word[0]), "v"(weights[0]));
#endif
    }
};

// Attention: bytes with an offset of 128, and pairs of 16 bits by vpdpwssd.
template <typename Dot>
struct VnniScores {
    using Component = uint8_t;
    static constexpr int ROWS = Dot::ROWS, VECTORS = Dot::VECTORS, GROUP = 4, OFFSET = 128;

    static void add(I &total, I word, I keys) {
        const I words[1]{word}, weights[1]{keys};
        Dot::add(total, words, weights);
    }
};

template <typename Dot>
struct VnniPairs {
    static constexpr int ROWS = Dot::ROWS, VECTORS = Dot::VECTORS;

    static void add(I &total, I word, I values) {
#ifdef NEURALCORE_EMULATE
        int16_t a[LANES * 2], b[LANES * 2];
        std::memcpy(a, &word, sizeof a);
        std::memcpy(b, &values, sizeof b);
        for (int i = 0; i < LANES * 2; ++i) total[i / 2] += a[i] * b[i];
#else
        asm(NC_DPWSSD " %2, %1, %0" : NC_REGISTER(total) : "v"(word), "v"(values));
#endif
    }
    static void put(int16_t *to, I values, bool second) { put_half(to, values, second); }
};

}  // namespace
