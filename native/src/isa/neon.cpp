// AArch64 with the dot-product instructions (ARMv8.2 and later: Graviton 2, Apple M1, Cortex-A76). 24 registers of sums.
#include <arm_neon.h>

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define LANES 4
#include "../kernels/vector.h"

namespace {

struct Dot {
    using Element = int8_t;
    using Weight = int8_t;
    using Vector = int8x16_t;
    static constexpr int VECTORS = 4, DEPTH = 4, STEP = 64;
    static constexpr int32_t OFFSET = 0;
    static constexpr int64_t SCRATCH = 0;

    static const Weight *unpack(const int8_t *packed, int64_t, int64_t, void *) { return packed; }
    static Vector load_weights(const Weight *weight, int v, int64_t) { return vld1q_s8(weight + v * 16); }

    static Vector repeat(const Element *q) {
        int32_t word;
        std::memcpy(&word, q, sizeof word);
        return vreinterpretq_s8_s32(vdupq_n_s32(word));
    }

    static void add(I &total, Vector word, Vector weights) { total = (I)vdotq_s32((int32x4_t)total, word, weights); }

    static void pack(Element *to, I q) {
        for (int i = 0; i < LANES; ++i) to[i] = (Element)q[i];
    }
};

bool supported() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
    return true;  // every AArch64 machine of Apple has them
#endif
}

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_neon;
const nc_kernels kernels_neon = NC_TABLE("neon", supported);
