// x86-64 with AVX2 and FMA, without VNNI.
//
// vpmaddubsw would take bytes, but adds two products of u8 and s8 in 16 bits, where they overflow: 2 * 255 * 127 > 2^15. So both
// sides are widened to 16 bits and multiplied by vpmaddwd, exactly: activations when they are quantized, weights a panel at a
// time, for all rows at once. On Zen 3 both ways have the same limit, two multiplications of 32 bytes a cycle.
#include <immintrin.h>

#define LANES 8
#include "../kernels/vector.h"

namespace {

struct Dot {
    using Element = int16_t;
    using Weight = int16_t;
    using Vector = __m256i;
    static constexpr int VECTORS = 2, DEPTH = 2, STEP = 32;
    static constexpr int32_t OFFSET = 0;
    static constexpr int64_t SCRATCH = 32;

    // [n_in / 4][16][4] bytes become [n_in / 2][16][2] words.
    static const Weight *unpack(const int8_t *packed, int64_t, int64_t n_in, void *scratch) {
        Weight *to = (Weight *)scratch;
        const __m256i pairs_first = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
        for (int64_t k = 0; k < n_in; k += 4, packed += 64, to += 64) {
            for (int quarter = 0; quarter < 4; ++quarter) {  // four columns
                const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(packed + quarter * 16)));
                const __m256i sorted = _mm256_permutevar8x32_epi32(wide, pairs_first);
                _mm_storeu_si128((__m128i *)(to + quarter * 8), _mm256_castsi256_si128(sorted));
                _mm_storeu_si128((__m128i *)(to + 32 + quarter * 8), _mm256_extracti128_si256(sorted, 1));
            }
        }
        return (const Weight *)scratch;
    }

    static Vector load_weights(const Weight *weight, int v, int64_t) {
        return _mm256_loadu_si256((const __m256i *)(weight + v * 16));
    }

    static Vector repeat(const Element *q) {
        int32_t word;
        std::memcpy(&word, q, sizeof word);
        return _mm256_set1_epi32(word);
    }

    static void add(I &total, Vector word, Vector weights) {
        total = (I)_mm256_add_epi32((__m256i)total, _mm256_madd_epi16(word, weights));
    }

    static void pack(Element *to, I q) {
        const __m256i packed = _mm256_packs_epi32((__m256i)q, (__m256i)q);
        _mm_storeu_si128((__m128i *)to, _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
    }
};

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_avx2;
const nc_kernels kernels_avx2 = NC_TABLE("avx2", supported);
