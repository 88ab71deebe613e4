// x86-64 with AVX2 and AVX-VNNI, without AVX-512: Alder Lake and later. 12 registers of sums, 2 of weights.
#define LANES 8
#define NC_DPBUSD "%{vex%} vpdpbusd"
#define NC_REGISTER(x) "+x"(x)
#include "dot_vnni.h"

#ifndef NEURALCORE_EMULATE
#include <cpuid.h>
#endif

namespace {

struct Dot {
    using Element = uint8_t;
    using Weight = int8_t;
    using Vector = Bytes;
    static constexpr int VECTORS = 2, DEPTH = 4, STEP = 64;
    static constexpr int32_t OFFSET = 128;
    static constexpr int64_t SCRATCH = 0;

    static const Weight *unpack(const int8_t *packed, int64_t, int64_t, void *) { return packed; }
    static Vector load_weights(const Weight *weight, int v, int64_t) { return load_bytes(weight + v * 32); }
    static Vector repeat(const Element *q) { return repeat_word(q); }
    static void add(I &total, Vector word, Vector weights) { add_products(total, word, weights); }
    static void pack(Element *to, I q) { pack_bytes(to, q); }
};

bool supported() {
#ifdef NEURALCORE_EMULATE
    return true;
#else
    // GCC 12 has no name for it: CPUID leaf 7, subleaf 1, EAX bit 4 (Intel's manual, volume 2, CPUID).
    unsigned a = 0, b, c, d;
    const bool has_leaf = __get_cpuid_count(7, 1, &a, &b, &c, &d);
    return has_leaf && (a >> 4 & 1) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
}

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_avxvnni;
const nc_kernels kernels_avxvnni = NC_TABLE("avxvnni", supported);
