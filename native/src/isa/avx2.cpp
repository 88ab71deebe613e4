// x86-64 with AVX2 and FMA, without VNNI.
//
// vpmaddubsw adds two products of u8 and s8 in 16 bits, vpaddw two of its sums. They could overflow there, but packed weights are
// made so that they cannot (neuralcore.h, NC_FOUR), so the sum is exact here, too. Three multiplications for 64 products:
// one vpmaddwd for each vpmaddubsw, four of them, took 1.2 times as long, and widening both sides to 16 bits 1.6 times.
#include <immintrin.h>

#include <cstdint>

#define LANES 8
#define FLOAT_ROWS 6
#define FLOAT_VECTORS 2
#include "../kernels/fold.h"

namespace {

typedef int16_t Words __attribute__((vector_size(LANES * 4)));
const Words ones = Words{} + 1;

struct Dot {
    static constexpr int ROWS = 4, VECTORS = 2, STEPS = 2;
    static constexpr int32_t OFFSET = -NC_LOWEST;

    static void add(I &total, const I (&word)[2], const I (&weights)[2]) {
        I first, second;
        // As asm, with the ones in memory: all 16 registers hold something else, and GCC 12 would put a sum on the stack.
        asm("vpmaddubsw %[w0], %[q0], %[first]\n\t"
            "vpmaddubsw %[w1], %[q1], %[second]\n\t"
            "vpaddw %[second], %[first], %[first]\n\t"
            "vpmaddwd %[ones], %[first], %[first]"
            : [first] "=&x"(first), [second] "=&x"(second)
            : [q0] "x"(word[0]), [q1] "x"(word[1]), [w0] "x"(weights[0]), [w1] "x"(weights[1]), [ones] "m"(ones));
        total += first;
    }
};

// Attention: 16 bits, of queries and keys, too; bytes would overflow in vpmaddubsw.
struct Pairs {
    static constexpr int ROWS = 4, VECTORS = 2;

    static void add(I &total, I word, I values) {
        I products;
        asm("vpmaddwd %2, %1, %0" : "=x"(products) : "x"(word), "x"(values));
        total += products;
    }
    static void put(int16_t *to, I values, bool second) { put_half(to, values, second); }
};

struct Scores : Pairs {
    using Component = int16_t;
    static constexpr int GROUP = 2, OFFSET = 0;
};

inline F widen(const nc::Half *from) { return (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from)); }

bool supported() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

}  // namespace

#define NC_WIDEN widen
#include "../kernels/floats_table.h"
#include "../kernels/table.h"

extern const nc_kernels kernels_avx2, kernels_avx2_fp32, kernels_avx2_fp16;
const nc_kernels kernels_avx2 = NC_TABLE("avx2", supported);
const nc_kernels kernels_avx2_fp32 = NC_FLOAT_TABLE("avx2", NC_FP32, Fp32, supported);
const nc_kernels kernels_avx2_fp16 = NC_FLOAT_TABLE("avx2", NC_FP16, Fp16, supported);
