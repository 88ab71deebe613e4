// Into a feed-forward network, and the input of the product that leads out of it.
//
// Behind the activation a row of a tile goes through as much of the Hadamard transform as it holds of a block, in registers;
// `settle` does what is left of it on the way to the row's range.
#pragma once

#include "integers.h"
#include "multiply.h"

namespace {

template <int vectors, typename Function>
inline void map(F (&y)[vectors], Function function) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) y[v] = function(y[v]);
}

template <int vectors>
inline void activate(int32_t activation, F (&y)[vectors]) {
    switch (activation) {
        case NC_GELU_TANH: return map(y, gelu_tanh);
        case NC_RELU: return map(y, [](F x) { return larger(x, F{}); });
        case NC_SILU: return map(y, silu);
        default: return map(y, gelu);
    }
}

// Columns of a block that one tile holds.
inline int64_t held_of(int64_t n) { return block_of(n) < TILE_COLUMNS ? block_of(n) : TILE_COLUMNS; }

// Of a row of a tile: vectors of one block or of several.
template <int vectors>
inline void transform_tile(F (&y)[vectors], int64_t held) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) y[v] = transform_lanes(y[v]);
    if constexpr (vectors > 1)
        if (held > LANES) transform_vectors<vectors, 1, 2>(y);
    if constexpr (vectors > 2)
        if (held > 2 * LANES) transform_vectors<vectors, 2, 4>(y);
}

// Where a row of a tile goes.
template <int vectors>
inline void store_row(const nc::Wide &wide, int64_t row, int64_t column, const F (&y)[vectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) store(wide.values + row * wide.stride + column + v * LANES, y[v]);
}

struct Gate {
    const nc::Wide &wide;
    int32_t activation;

    template <int vectors>
    void operator()(int64_t row, int64_t column, F (&y)[vectors]) const {
        activate(activation, y);
        store_row(wide, row, column, y);
    }
};

// What is gated, or activated itself.
template <bool is_gated>
struct Widen {
    const nc::Wide &wide;
    int32_t activation;
    int64_t held;

    template <int vectors>
    void operator()(int64_t row, int64_t column, F (&y)[vectors]) const {
        const float *gate = wide.values + row * wide.stride + column;
        if constexpr (is_gated)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) y[v] *= load(gate + v * LANES);
        else
            activate(activation, y);
        transform_tile(y, held);
        store_row(wide, row, column, y);
    }
};

// See nc_kernels.
void expand(const nc::Rows &x, const nc_layer &layer, int32_t activation, const nc::Wide &wide, nc::Range rows, nc::Range blocks) {
    const int64_t n = layer.up.n_out, last = blocks.last * NC_BLOCK < n ? blocks.last * NC_BLOCK : n, held = held_of(n);
    const nc::Range columns{blocks.first * NC_BLOCK, last};
    if (!layer.gate.weight) return multiply_tiles(x, layer.up, rows, columns, Widen<false>{wide, activation, held});
    for (int64_t column = columns.first; column < last; column += TILE_COLUMNS) {
        const nc::Range tile{column, column + TILE_COLUMNS < last ? column + TILE_COLUMNS : last};
        multiply_tiles(x, layer.gate, rows, tile, Gate{wide, activation});
        multiply_tiles(x, layer.up, rows, tile, Widen<true>{wide, activation, held});
    }
}

void settle(const nc::Wide &wide, int64_t n, nc::Range rows) {
    for (int64_t row = rows.first; row < rows.last; ++row) {
        float *values = wide.values + row * wide.stride;
        F low{}, high{};
        transform_rest<TILE_COLUMNS>(values, n, low, high);
        quantize_row(values, low, high, wide.to, row, n);
    }
}

}  // namespace
