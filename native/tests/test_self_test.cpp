#include "self_test.h"

#include <bit>

#include "suite.h"

namespace {

using Multiply = decltype(nc_kernels::multiply);

Multiply right;           // the product under test
int64_t wrong_row, wrong_column;

// Right but for the lowest bit of one result.
void multiply_nearly(const nc::Rows &x, const nc_product &product, bool add, float *out, nc::Range rows, nc::Range panels) {
    right(x, product, add, out, rows, panels);
    float &y = out[wrong_row * product.n_out + wrong_column];
    y = std::bit_cast<float>(std::bit_cast<uint32_t>(y) ^ 1);
}

// As if a CPU did nothing at all.
void multiply_not(const nc::Rows &, const nc_product &, bool, float *, nc::Range, nc::Range) {}

}  // namespace

TEST_EACH("kernels prove themselves on this CPU") { CHECK(nc_self_test(&kernels) == 1, "%s", kernels.name); }

TEST_EACH("kernels that are wrong in one bit of one result fail, wherever it is") {
    nc_kernels broken = kernels;
    right = kernels.multiply, broken.multiply = multiply_nearly;
    for (int64_t row : {0, 5, 15, 16})
        for (int64_t column : {0, 15, 63, 64, 79}) {
            wrong_row = row, wrong_column = column;
            CHECK(nc_self_test(&broken) == 0, "row %ld, column %ld", row, column);
        }
    broken.multiply = multiply_not;
    CHECK(nc_self_test(&broken) == 0, "nothing was computed");
}

TEST_EACH("a measured speed is that of some product") {
    const double speed = nc_measure(&kernels);
    CHECK(speed > 1e6 && speed < 1e14, "%g operations a second", speed);
}
