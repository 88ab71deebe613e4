// x86-64 with AMX for 8-bit integers: Sapphire Rapids and later. All but the products is AVX-512 VNNI's.
#define LANES 16
#define NC_DPBUSD "vpdpbusd"
#define NC_DPWSSD "vpdpwssd"
#define NC_REGISTER(x) "+v"(x)
#include "dot_vnni.h"

#if defined(__linux__) && !defined(NEURALCORE_EMULATE)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

using Dot = VnniDot<4>;
using Scores = VnniScores<Dot>;
using Pairs = VnniPairs<Dot>;

#ifdef NEURALCORE_EMULATE
bool supported() { return true; }
#elif defined(__linux__)
bool has_vnni() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

// CPUID leaf 7, EDX: bit 24 AMX-TILE, 25 AMX-INT8; leaf 1DH, of palette 1: bytes of a tile and of its rows, rows, tiles (Intel's
// manual, volume 2, CPUID).
bool has_tiles() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 24 & 3) != 3) return false;
    if (!__get_cpuid_count(0x1D, 1, &a, &b, &c, &d)) return false;
    return a >> 16 == 1024 && (b & 0xFFFF) == 64 && b >> 16 == 8 && (c & 0xFFFF) == 16;
}

// Linux saves tiles of processes that asked for it, and ends the others (Documentation/arch/x86/xstate.rst). It refuses where a
// thread's stack for signals is too small for them.
bool is_permitted() {
    constexpr long kAsk = 0x1023 /* ARCH_REQ_XCOMP_PERM */, kTileData = 18;
    return syscall(SYS_arch_prctl, kAsk, kTileData) == 0;
}

bool supported() {
    static const bool all = has_vnni() && has_tiles() && is_permitted();
    return all;
}
#else
bool supported() { return false; }  // no other system is known to save tiles
#endif

}  // namespace

#define NC_MULTIPLY "../isa/multiply_tiles.h"
#include "../kernels/table.h"

extern const nc_kernels kernels_amx;
const nc_kernels kernels_amx = NC_TABLE("amx", supported);
