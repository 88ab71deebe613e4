// x86-64 with AVX-512 and VNNI: Ice Lake and later, Zen 4 and later. 24 registers of sums, 4 of weights.
#define LANES 16
#define NC_DPBUSD "vpdpbusd"
#define NC_DPWSSD "vpdpwssd"
#define NC_REGISTER(x) "+v"(x)
#include "dot_vnni.h"

namespace {

using Dot = VnniDot<4>;
using Scores = VnniScores<Dot>;
using Pairs = VnniPairs<Dot>;

bool supported() {
#ifdef NEURALCORE_EMULATE
    return true;
#else
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
}

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_avx512vnni;
const nc_kernels kernels_avx512vnni = NC_TABLE("avx512vnni", supported);
