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
    using Element = uint8_t;
    using Weight = int8_t;
    using Vector = __m256i;
    static constexpr int VECTORS = 2, DEPTH = 4, STEP = 64;
    static constexpr int32_t OFFSET = 128;
    static constexpr int64_t SCRATCH = 0;

    static const Weight *unpack(const int8_t *packed, int64_t, int64_t, void *) { return packed; }

    static Vector load_weights(const Weight *weight, int v, int64_t) {
        return _mm256_loadu_si256((const __m256i *)(weight + v * 32));
    }

    static Vector repeat(const Element *q) {
        int32_t word;
        std::memcpy(&word, q, sizeof word);
        return _mm256_set1_epi32(word);
    }

    static void add(I &total, Vector word, Vector weights) {
        const __m256i pairs = _mm256_maddubs_epi16(word, weights);
        total = (I)_mm256_add_epi32((__m256i)total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }

    static void pack(Element *to, I q) {
        const __m256i words = _mm256_packs_epi32((__m256i)(q + 128), (__m256i)q);
        const __m256i bytes = _mm256_packus_epi16(words, words);
        const int32_t low = _mm256_extract_epi32(bytes, 0), high = _mm256_extract_epi32(bytes, 4);
        std::memcpy(to, &low, 4);
        std::memcpy(to + 4, &high, 4);
    }
};

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_avx2;
const nc_kernels kernels_avx2 = NC_TABLE("avx2", supported);
