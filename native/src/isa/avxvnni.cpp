// x86-64 with AVX2 and AVX-VNNI, without AVX-512: Alder Lake and later. 12 registers of sums, 2 of weights.
#define LANES 8
#define NC_DPBUSD "%{vex%} vpdpbusd"
#define NC_DPWSSD "%{vex%} vpdpwssd"
#define NC_REGISTER(x) "+x"(x)
#include "dot_vnni.h"

#ifndef NEURALCORE_EMULATE
#include <cpuid.h>
#endif

namespace {

using Dot = VnniDot<2>;
using Scores = VnniScores<Dot>;
using Pairs = VnniPairs<Dot>;

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
