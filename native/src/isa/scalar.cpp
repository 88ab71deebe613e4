// Any CPU: plain C++ over vectors of four, which the compiler turns into what there is.
#include <cstdint>
#include <cstring>

#define LANES 4
#define FLOAT_ROWS 2
#define FLOAT_VECTORS 4
#include "../kernels/fold.h"

namespace {

struct Dot {
    static constexpr int ROWS = 6, VECTORS = 4, STEPS = 1;
    static constexpr int32_t OFFSET = 0;

    static void add(I &total, const I (&word)[1], const I (&weights)[1]) {
        int8_t a[16], b[16];
        std::memcpy(a, word, sizeof a);
        std::memcpy(b, weights, sizeof b);
        for (int i = 0; i < 16; ++i) total[i / 4] += a[i] * b[i];
    }
};

// The bits of a half as those of a float, whose exponent is then 112 too small; that of infinity and NaN has to be the highest.
inline F widen(const nc::Half *from) {
    I bits;
    for (int i = 0; i < LANES; ++i) {
        uint16_t half;
        std::memcpy(&half, from + i, sizeof half);
        bits[i] = half;
    }
    const I size = (bits & 0x7FFF) << 13, sign = (bits & 0x8000) << 16;
    const I rest = as_int(as_float(size) * 0x1p112f);
    return as_float((size >= 0x7C00 << 13 ? size | 0x7F800000 : rest) | sign);
}

struct Scores {
    using Component = int8_t;
    static constexpr int ROWS = Dot::ROWS, VECTORS = Dot::VECTORS, GROUP = 4, OFFSET = 0;

    static void add(I &total, I word, I keys) {
        const I words[1]{word}, weights[1]{keys};
        Dot::add(total, words, weights);
    }
};

struct Pairs {
    static constexpr int ROWS = Dot::ROWS, VECTORS = Dot::VECTORS;

    static void add(I &total, I word, I values) {
        int16_t a[8], b[8];
        std::memcpy(a, &word, sizeof a);
        std::memcpy(b, &values, sizeof b);
        for (int i = 0; i < 8; ++i) total[i / 2] += a[i] * b[i];
    }
    static void put(int16_t *to, I values, bool second) { put_half(to, values, second); }
};

bool supported() { return true; }

}  // namespace

#define NC_WIDEN widen
#include "../kernels/floats_bf16.h"
#include "../kernels/floats_table.h"
#include "../kernels/table.h"

extern const nc_kernels kernels_scalar, kernels_scalar_fp32, kernels_scalar_fp16, kernels_scalar_bf16;
const nc_kernels kernels_scalar = NC_TABLE("scalar", supported);
const nc_kernels kernels_scalar_fp32 = NC_FLOAT_TABLE("scalar", NC_FP32, Fp32, supported);
const nc_kernels kernels_scalar_fp16 = NC_FLOAT_TABLE("scalar", NC_FP16, Fp16, supported);
const nc_kernels kernels_scalar_bf16 = NC_FLOAT_TABLE("scalar", NC_BF16, Bf16, supported);  // for tests
