// AArch64 with the dot-product instructions (ARMv8.2 and later: Graviton 2, Apple M1, Cortex-A76). 16 registers of sums.
#include <arm_neon.h>

#include <cstdint>

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define LANES 4
#define FLOAT_ROWS 4
#define FLOAT_VECTORS 4
#include "../kernels/fold.h"

namespace {

struct Dot {
    static constexpr int ROWS = 4, VECTORS = 4, STEPS = 1;  // 6 rows: GCC 12 puts sums on the stack
    static constexpr int32_t OFFSET = 0;

    static void add(I &total, const I (&word)[1], const I (&weights)[1]) {
        asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(total) : "w"(word[0]), "w"(weights[0]));  // the intrinsic: sums on the stack
    }
};

inline F widen(const nc::Half *from) { return (F)vcvt_f32_f16(vld1_f16(from)); }

struct Scores {
    using Component = int8_t;
    static constexpr int ROWS = 4, VECTORS = 4, GROUP = 4, OFFSET = 0;

    static void add(I &total, I word, I keys) { asm("sdot %0.4s, %1.16b, %2.16b" : "+w"(total) : "w"(word), "w"(keys)); }
};

// Values of a pair of tokens: four of the first, four of the second. A single number of a vector must be in registers 0 to 15.
struct Pairs {
    static constexpr int ROWS = 4, VECTORS = 4;

    static void add(I &total, I word, I values) {
        asm("smlal %0.4s, %2.4h, %1.h[0]\n\tsmlal2 %0.4s, %2.8h, %1.h[1]" : "+w"(total) : "x"(word), "w"(values));
    }
    static void put(int16_t *to, I values, bool second) { pack(to + (second ? LANES : 0), values); }
};

bool supported() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
    return true;  // every AArch64 machine of Apple has them
#endif
}

}  // namespace

#define NC_WIDEN widen
#include "../kernels/floats_table.h"
#include "../kernels/table.h"

extern const nc_kernels kernels_neon, kernels_neon_fp32, kernels_neon_fp16;
const nc_kernels kernels_neon = NC_TABLE("neon", supported);
const nc_kernels kernels_neon_fp32 = NC_FLOAT_TABLE("neon", NC_FP32, Fp32, supported);
const nc_kernels kernels_neon_fp16 = NC_FLOAT_TABLE("neon", NC_FP16, Fp16, supported);
