// Pairs of bfloat16, with the instructions of AVX512_BF16 or the same in C++.
//
// vdpbf16ps adds to each lane the product of the second halves of two pairs, then that of the first, each with one rounding to
// nearest; vcvtneps2bf16 rounds to nearest, ties to even. Both take denormal numbers for 0, and give none.
#pragma once

#include "floats.h"

namespace {
namespace floats {

struct Bf16 {
    using Input = uint16_t;
    using Weight = uint16_t;
    static constexpr int GROUP = 2;

    static F read(const Weight *from) { return load((const float *)from); }
#ifdef NC_BF16_INSTRUCTIONS
    static void add(F &total, F x, F w) { asm("vdpbf16ps %2, %1, %0" : "+v"(total) : "v"(x), "v"(w)); }
    static void write(Input *to, F x) {
        typedef Input Halves __attribute__((vector_size(LANES * 2)));
        Halves halves;
        asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(x));
        std::memcpy(to, &halves, sizeof halves);
    }
#else
    static float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }
    static float widened(uint32_t upper) {
        float x;
        if (!(upper & 0x7F800000)) upper &= 0x80000000;
        std::memcpy(&x, &upper, sizeof x);
        return x;
    }
    // total + a * b, rounded once. A product of two bfloat16 is exact in double; the sum there is rounded twice if the first time
    // leaves it half way between two floats, or below the smallest of them.
    static float add_once(float total, float a, float b) {
        const double sum = (double)total + (double)a * b;
        uint64_t bits;
        std::memcpy(&bits, &sum, sizeof bits);
        if ((bits & 0x1FFFFFFF) != 0x10000000 && std::fabs(sum) > 0x1p-125) return (float)sum;
        return flushed(std::fma(a, b, total));
    }
    static void add(F &total, F x, F w) {
        for (int i = 0; i < LANES; ++i) {
            const uint32_t a = (uint32_t)as_int(x)[i], b = (uint32_t)as_int(w)[i];
            const float first = add_once(flushed(total[i]), widened(a & 0xFFFF0000), widened(b & 0xFFFF0000));
            total[i] = add_once(first, widened(a << 16), widened(b << 16));
        }
    }
    static void write(Input *to, F x) {
        for (int i = 0; i < LANES; ++i) {
            uint32_t bits;
            const float value = flushed(x[i]);
            std::memcpy(&bits, &value, sizeof bits);
            to[i] = (Input)(value != value ? bits >> 16 | 0x40 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
        }
    }
#endif
};

}  // namespace floats
}  // namespace
