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
    static constexpr int VECTORS = 4;
    static constexpr int32_t OFFSET = 0;

    static void add(I &total, I word, I weights) {
        total = (I)vdotq_s32((int32x4_t)total, (int8x16_t)word, (int8x16_t)weights);
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
