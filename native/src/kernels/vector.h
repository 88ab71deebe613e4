// Vectors of float and int32 as the compiler's own type, so that one source serves every instruction set.
// Included once in each file of isa/, after LANES is defined; everything has internal linkage, since each of those files is
// compiled with other flags.
#pragma once

#include <cstdint>
#include <cstring>

#include "../kernels.h"

namespace {

typedef float F __attribute__((vector_size(LANES * 4)));
typedef int32_t I __attribute__((vector_size(LANES * 4)));

inline F load(const float *from) {
    F x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline I load(const int32_t *from) {
    I x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline void store(float *to, F x) { std::memcpy(to, &x, sizeof x); }
inline void store(int32_t *to, I x) { std::memcpy(to, &x, sizeof x); }

inline F splat(float x) { return F{} + x; }
inline I splat(int32_t x) { return I{} + x; }
inline F as_float(I x) { return (F)x; }
inline I as_int(F x) { return (I)x; }
inline F to_float(I x) { return __builtin_convertvector(x, F); }
inline F larger(F a, F b) { return a > b ? a : b; }
inline F smaller(F a, F b) { return a < b ? a : b; }

// The nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves it in the lowest bits. Anything else, NaN
// included, gives some integer.
inline I nearest(F x) { return as_int(x + 12582912.0f) - 0x4B400000; }

// The lowest byte of each lane. As a shuffle: GCC 12 takes __builtin_convertvector apart, lane by lane.
inline void pack_bytes(uint8_t *to, I x) {
    typedef uint8_t Bytes __attribute__((vector_size(LANES * 4)));
    Bytes order{};
    for (int i = 0; i < LANES; ++i) order[i] = (uint8_t)(4 * i);
    const Bytes bytes = __builtin_shuffle((Bytes)x, order);
    std::memcpy(to, &bytes, LANES);
}

// The four bytes at an address in every lane.
inline I repeat_word(const uint8_t *from) {
    int32_t word;
    std::memcpy(&word, from, sizeof word);
    return splat(word);
}

// Lanes folded in a fixed order, halves onto each other, so that a row's sum is the same wherever it is computed.
template <typename Fold>
inline float reduce(F x, Fold fold) {
#pragma GCC unroll 4
    for (int width = LANES / 2; width; width /= 2) {
        I other;
        for (int i = 0; i < LANES; ++i) other[i] = i ^ width;
        x = fold(x, __builtin_shuffle(x, other));
    }
    return x[0];
}

inline float sum(F x) {
    return reduce(x, [](F a, F b) { return a + b; });
}
inline float largest(F x) {
    return reduce(x, [](F a, F b) { return larger(a, b); });
}
inline float smallest(F x) {
    return reduce(x, [](F a, F b) { return smaller(a, b); });
}

}  // namespace
