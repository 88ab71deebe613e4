// x86-64 with AVX-512 and VNNI: Ice Lake and later, Zen 4 and later. 24 registers of sums, 4 of weights.
#define LANES 16
#define NC_DPBUSD "vpdpbusd"
#define NC_REGISTER(x) "+v"(x)
#include "dot_vnni.h"

namespace {

struct Dot {
    using Element = uint8_t;
    using Weight = int8_t;
    using Vector = Bytes;
    static constexpr int VECTORS = 4, DEPTH = 4, STEP = 64;
    static constexpr int32_t OFFSET = 128;
    static constexpr int64_t SCRATCH = 0;

    static const Weight *unpack(const int8_t *packed, int64_t, int64_t, void *) { return packed; }
    static Vector load_weights(const Weight *weight, int v, int64_t panel) { return load_bytes(weight + v * panel); }
    static Vector repeat(const Element *q) { return repeat_word(q); }
    static void add(I &total, Vector word, Vector weights) { add_products(total, word, weights); }
    static void pack(Element *to, I q) { pack_bytes(to, q); }
};

bool supported() {
#ifdef NEURALCORE_EMULATE
    return true;
#else
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
}

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_avx512vnni;
const nc_kernels kernels_avx512vnni = NC_TABLE("avx512vnni", supported);
