// x86-64 with AVX-512, for the precisions of floats: Skylake-X and later, Zen 4 and later. 24 registers of sums, 4 of weights.
#define LANES 16
#define FLOAT_ROWS 6
#define FLOAT_VECTORS 4
#include "../kernels/vector.h"

namespace {

// As asm: GCC 12 warns of its own intrinsic.
inline F widen(const nc::Half *from) {
    typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    F x;
    asm("vcvtph2ps %1, %0" : "=v"(x) : "vm"(halves));
    return x;
}

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}

}  // namespace

#define NC_WIDEN widen
#include "../kernels/floats_table.h"

extern const nc_kernels kernels_avx512_fp32, kernels_avx512_fp16;
const nc_kernels kernels_avx512_fp32 = NC_FLOAT_TABLE("avx512", NC_FP32, Fp32, supported);
const nc_kernels kernels_avx512_fp16 = NC_FLOAT_TABLE("avx512", NC_FP16, Fp16, supported);
