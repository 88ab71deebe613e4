// vpdpbusd: four products of u8 and s8 added to each 32-bit lane. Activations are stored as q + 128; the tile's sums start at
// -128 times the sum of the weights.
//
// The instruction is written as asm: GCC 12 keeps the sums in registers then, and moves them through the stack with the
// intrinsic. NEURALCORE_EMULATE, for tests on other machines, computes the same in C++.
#pragma once

#include "../kernels/vector.h"

namespace {

typedef uint8_t Bytes __attribute__((vector_size(LANES * 4)));

inline void add_products(I &total, Bytes word, Bytes weights) {
#ifdef NEURALCORE_EMULATE
    for (int i = 0; i < LANES * 4; ++i) total[i / 4] += (int32_t)word[i] * (int8_t)weights[i];
#else
    asm(NC_DPBUSD " %2, %1, %0" : NC_REGISTER(total) : "v"(word), "v"(weights));
#endif
}

inline Bytes load_bytes(const void *from) {
    Bytes bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    return bytes;
}

inline Bytes repeat_word(const uint8_t *q) {
    int32_t word;
    std::memcpy(&word, q, sizeof word);
    return (Bytes)splat(word);
}

inline void pack_bytes(uint8_t *to, I q) {
    typedef uint8_t Narrow __attribute__((vector_size(LANES)));
    const Narrow bytes = __builtin_convertvector(q + 128, Narrow);
    std::memcpy(to, &bytes, sizeof bytes);
}

}  // namespace
