// The product of quantized rows and packed weights, plain or added.
#pragma once

#ifdef NC_MULTIPLY  // an instruction set that multiplies by other means than vectors
#include NC_MULTIPLY
#else
#include "tile.h"
#endif

namespace {

void multiply(const nc::Rows &x, const nc_product &product, bool add, float *out, nc::Range rows, nc::Range panels) {
    const nc::Range columns{panels.first * NC_PANEL, panels.last * NC_PANEL};
    if (add)
        multiply_tiles(x, product, rows, columns, Sum<true>{out, product.n_out});
    else
        multiply_tiles(x, product, rows, columns, Sum<false>{out, product.n_out});
}

}  // namespace
