// Any CPU: plain C++ over vectors of four, which the compiler turns into what there is.
#include <cstdint>
#include <cstring>

#define LANES 4
#include "../kernels/vector.h"

namespace {

struct Dot {
    using Element = int8_t;
    using Weight = int8_t;
    struct Vector {
        int8_t values[16];
    };
    static constexpr int VECTORS = 4, DEPTH = 4, STEP = 64;
    static constexpr int32_t OFFSET = 0;
    static constexpr int64_t SCRATCH = 0;

    static const Weight *unpack(const int8_t *packed, int64_t, int64_t, void *) { return packed; }

    static Vector load_weights(const Weight *weight, int v, int64_t) {
        Vector w;
        std::memcpy(&w, weight + v * 16, sizeof w);
        return w;
    }

    static Vector repeat(const Element *q) {
        Vector word;
        for (int i = 0; i < 16; ++i) word.values[i] = q[i % 4];
        return word;
    }

    static void add(I &total, const Vector &word, const Vector &weights) {
        for (int i = 0; i < 16; ++i) total[i / 4] += word.values[i] * weights.values[i];
    }

    static void pack(Element *to, I q) {
        for (int i = 0; i < LANES; ++i) to[i] = (Element)q[i];
    }
};

bool supported() { return true; }

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_scalar;
const nc_kernels kernels_scalar = NC_TABLE("scalar", supported);
