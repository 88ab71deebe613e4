// Lanes folded in registers, in a fixed order.
#pragma once

#include "vector.h"

namespace {

template <int width = LANES / 2, typename Vector, typename Fold>
inline auto fold_lanes(Vector x, const Fold &fold) {
    I order{};
    for (int i = 0; i < LANES; ++i) order[i] = i ^ width;
    x = fold(x, __builtin_shuffle(x, order));
    if constexpr (width > 1)
        return fold_lanes<width / 2>(x, fold);
    else
        return x[0];
}

inline void pack(uint8_t *to, I x) { pack_bytes(to, x); }
inline void pack(int8_t *to, I x) { pack_bytes((uint8_t *)to, x); }

// The lower half of each lane.
inline void pack(int16_t *to, I x) {
    typedef int16_t Shorts __attribute__((vector_size(LANES * 4)));
    Shorts order{};
    for (int i = 0; i < LANES; ++i) order[i] = (int16_t)(2 * i);
    const Shorts shorts = __builtin_shuffle((Shorts)x, order);
    std::memcpy(to, &shorts, LANES * sizeof *to);
}

// Into one half of each word at an address; the first half comes first.
inline void put_half(int16_t *to, I x, bool second) {
    int32_t *words = (int32_t *)to;
    store(words, second ? (load(words) & 0xFFFF) | x << 16 : x);
}

}  // namespace
