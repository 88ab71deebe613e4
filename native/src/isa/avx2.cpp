// x86-64 with AVX2 and FMA, without VNNI.
//
// vpmaddubsw adds two products of u8 and s8 in 16 bits, where they could overflow: 2 * 255 * 127 > 2^15. Packed weights are
// made so that they cannot (neuralcore.h, NC_PAIR), so the sum is exact here, too. Widening both sides to 16 bits for vpmaddwd
// needs no such care, and as many multiplications; it took 1.3 times as long.
#include <cstdint>

#define LANES 8
#include "../kernels/vector.h"

namespace {

typedef int16_t Words __attribute__((vector_size(LANES * 4)));
const Words ones = Words{} + 1;

struct Dot {
    static constexpr int ROWS = 6, VECTORS = 2;
    static constexpr int32_t OFFSET = 128;

    static void add(I &total, I word, I weights) {
        I sums;
        // As asm, with the ones in memory: all 16 registers hold something else, and GCC 12 put a sum on the stack.
        asm("vpmaddubsw %2, %1, %0\n\tvpmaddwd %3, %0, %0" : "=&x"(sums) : "x"(word), "x"(weights), "m"(ones));
        total += sums;
    }
};

bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_avx2;
const nc_kernels kernels_avx2 = NC_TABLE("avx2", supported);
