// x86-64 with AVX2 and FMA, without VNNI.
//
// vpmaddubsw adds two products of u8 and s8 in 16 bits, where they could overflow: 2 * 255 * 127 > 2^15. Packed weights are
// made so that they cannot (neuralcore.h, NC_PAIR), so the sum is exact here, too. Widening both sides to 16 bits for vpmaddwd
// needs no such care, and as many multiplications; it took 1.3 times as long.
#include <immintrin.h>

#define LANES 8
#include "../kernels/vector.h"

namespace {

struct Dot {
    static constexpr int VECTORS = 2;
    static constexpr int32_t OFFSET = 128;

    static void add(I &total, I word, I weights) {
        const __m256i pairs = _mm256_maddubs_epi16((__m256i)word, (__m256i)weights);
        total += (I)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
};

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_avx2;
const nc_kernels kernels_avx2 = NC_TABLE("avx2", supported);
