// x86-64 with AVX-512 and products of bfloat16: Cooper Lake, Sapphire Rapids and later, Zen 4 and later.
#define LANES 16
#define FLOAT_ROWS 6
#define FLOAT_VECTORS 4
#define NC_BF16_INSTRUCTIONS
#include "../kernels/vector.h"

namespace {

bool supported() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bf16");
}

}  // namespace

#include "../kernels/floats_bf16.h"
#include "../kernels/floats_table.h"

extern const nc_kernels kernels_avx512bf16;
const nc_kernels kernels_avx512bf16 = NC_FLOAT_TABLE("avx512bf16", NC_BF16, Bf16, supported);
