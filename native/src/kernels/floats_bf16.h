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
        std::memcpy(&x, &upper, sizeof x);
        return flushed(x);
    }
    static void add(F &total, F x, F w) {
        for (int i = 0; i < LANES; ++i) {
            const uint32_t a = (uint32_t)as_int(x)[i], b = (uint32_t)as_int(w)[i];
            const float first = std::fma(widened(a & 0xFFFF0000), widened(b & 0xFFFF0000), flushed(total[i]));
            total[i] = flushed(std::fma(widened(a << 16), widened(b << 16), flushed(first)));
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
