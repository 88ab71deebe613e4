// What a core can multiply: loops of the instructions themselves, so that neither the number of units nor the clock is assumed.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "neuralcore.h"

namespace peaks {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Instruction {
    const char *name, *set;  // set: of nc_find
    int32_t precision;
    int operations;  // of one of a loop's twelve sums; a multiplication and an addition are two
    bool (*supported)();
    void (*run)();  // kTurns turns
};

constexpr int kTurns = 20'000, kSums = 12;  // more sums than any such instruction takes cycles times units

// Sums lie in registers 0 to 11, which all that is here has; 12 to 15 are inputs and what is between. Zeros are as fast as
// anything, and never are denormal.
#if defined(__x86_64__)
#define NC_SUMS(each) each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8) each(9) each(10) each(11)
#define NC_LOOP(body)                                                                                           \
    [] {                                                                                                              \
        int64_t turns = kTurns;                                                                                       \
        asm volatile("vzeroall\n.p2align 4\n1:\n" body "dec %0\n jnz 1b\n vzeroupper"                         \
                     : "+r"(turns)                                                                                    \
                     :                                                                                                \
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
                       "xmm12", "xmm13", "xmm14", "xmm15");                                                           \
    }
#define NC_Z_DPBUSD(i) "vpdpbusd %%zmm12, %%zmm13, %%zmm" #i "\n"
#define NC_Y_DPBUSD(i) "%{evex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #i "\n"
#define NC_V_DPBUSD(i) "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #i "\n"
#define NC_Z_DPWSSD(i) "vpdpwssd %%zmm12, %%zmm13, %%zmm" #i "\n"
#define NC_Z_BF16(i) "vdpbf16ps %%zmm12, %%zmm13, %%zmm" #i "\n"
#define NC_Z_FMA(i) "vfmadd231ps %%zmm12, %%zmm13, %%zmm" #i "\n"
#define NC_Y_FMA(i) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #i "\n"
// Four products of bytes in 16 bits: see isa/avx2.cpp.
#define NC_Y_BYTES(i)                                                                                                  \
    "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpmaddubsw %%ymm12, %%ymm13, %%ymm15\n vpaddw %%ymm14, %%ymm15, %%ymm14\n" \
    "vpmaddwd %%ymm12, %%ymm14, %%ymm14\n vpaddd %%ymm14, %%ymm" #i ", %%ymm" #i "\n"

inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
inline bool has_avx512() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"); }
inline bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
inline bool has_bit_of_leaf_7_1(int bit) {  // EAX; GCC 12 has no names for them
    unsigned a = 0, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> bit & 1);
}
inline bool has_vex_vnni() { return has_avx2() && has_bit_of_leaf_7_1(4); }
inline bool has_bf16() { return has_avx512() && has_bit_of_leaf_7_1(5); }

inline const Instruction all[] = {
    {"vpdpbusd, 512 bits", "avx512vnni", NC_INT8, 128, has_vnni, NC_LOOP(NC_SUMS(NC_Z_DPBUSD))},
    {"vpdpbusd, 256 bits", "", NC_INT8, 64, has_vnni, NC_LOOP(NC_SUMS(NC_Y_DPBUSD))},
    {"vpdpbusd, 256 bits, VEX", "avxvnni", NC_INT8, 64, has_vex_vnni, NC_LOOP(NC_SUMS(NC_V_DPBUSD))},
    {"2 vpmaddubsw, vpmaddwd and additions", "avx2", NC_INT8, 128, has_avx2, NC_LOOP(NC_SUMS(NC_Y_BYTES))},
    {"vpdpwssd, 512 bits", "", NC_INT8, 64, has_vnni, NC_LOOP(NC_SUMS(NC_Z_DPWSSD))},
    {"vdpbf16ps, 512 bits", "avx512bf16", NC_BF16, 64, has_bf16, NC_LOOP(NC_SUMS(NC_Z_BF16))},
    {"vfmadd231ps, 512 bits", "avx512", NC_FP32, 32, has_avx512, NC_LOOP(NC_SUMS(NC_Z_FMA))},
    {"vfmadd231ps, 256 bits", "avx2", NC_FP32, 16, has_avx2, NC_LOOP(NC_SUMS(NC_Y_FMA))},
};
#elif defined(__aarch64__)
#define NC_SUMS(each) each(0) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(16) each(17) each(18) each(19)
#define NC_LOOP(body)                                                                                                 \
    [] {                                                                                                              \
        int64_t turns = kTurns;                                                                                       \
        asm volatile(".arch armv8.6-a+dotprod+i8mm\n movi v20.16b, #0\n movi v21.16b, #0\n"                        \
                     "1:\n" body "subs %0, %0, #1\n b.ne 1b"                                                          \
                     : "+r"(turns)                                                                                    \
                     :                                                                                                \
                     : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20", "v21");  \
    }
#define NC_SDOT(i) "sdot v" #i ".4s, v20.16b, v21.16b\n"
#define NC_SMMLA(i) "smmla v" #i ".4s, v20.16b, v21.16b\n"
#define NC_FMLA(i) "fmla v" #i ".4s, v20.4s, v21.4s\n"

#if defined(__linux__)
inline bool has_dot() { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP; }
inline bool has_i8mm() { return getauxval(AT_HWCAP2) & (1 << 13); }  // HWCAP2_I8MM
#else
inline bool has_dot() { return true; }
inline bool has_i8mm() { return false; }
#endif
inline bool has_neon() { return true; }

inline const Instruction all[] = {
    {"smmla", "i8mm", NC_INT8, 64, has_i8mm, NC_LOOP(NC_SUMS(NC_SMMLA))},
    {"sdot", "neon", NC_INT8, 32, has_dot, NC_LOOP(NC_SUMS(NC_SDOT))},
    {"fmla", "neon", NC_FP32, 8, has_neon, NC_LOOP(NC_SUMS(NC_FMLA))},
};
#else
inline const Instruction all[] = {{"", "", NC_INT8, 0, [] { return false; }, [] {}}};
#endif

// Operations a second of one core.
inline double measure(const Instruction &instruction) {
    double best = 0;
    for (int round = 0; round < 40; ++round) {
        const auto start = Clock::now();
        instruction.run();
        best = std::max(best, (double)kTurns * kSums * instruction.operations / seconds_since(start));
    }
    return best;
}

// The same of an instruction set of nc_find; 0 if none is known. Halves are multiplied as fp32.
inline double of(const char *set, int32_t precision) {
    const int32_t counted = precision == NC_FP16 ? NC_FP32 : precision;
    for (const Instruction &each : all)
        if (!std::strcmp(each.set, set) && each.precision == counted && each.supported()) return measure(each);
    return 0;
}

}  // namespace peaks
