// Any CPU: plain C++ over vectors of four, which the compiler turns into what there is.
#include <cstdint>
#include <cstring>

#define LANES 4
#include "../kernels/vector.h"

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

bool supported() { return true; }

}  // namespace

#include "../kernels/table.h"

extern const nc_kernels kernels_scalar;
const nc_kernels kernels_scalar = NC_TABLE("scalar", supported);
