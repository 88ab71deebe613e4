// Products of rows and packed weights with sums in fp32.
//
// A tile is up to FLOAT_ROWS rows by FLOAT_VECTORS vectors of columns, whose sums stay in registers while k runs, from the first
// input to the last: a result is the same bits in a tile of any shape.
#pragma once

#include "floats.h"

namespace {
namespace floats {

constexpr int ROWS = FLOAT_ROWS, VECTORS = FLOAT_VECTORS;
constexpr int64_t TILE_COLUMNS = VECTORS * LANES;
constexpr int VECTORS_PER_PANEL = NC_PANEL / LANES;

// Where the vectors of a tile's columns lie: those of a panel side by side, the next panel `panel` weights further; the next step
// is `step` weights further.
struct Strides {
    int64_t panel, step;
};

// Sums of `rows` rows by `vectors` vectors of columns, into sums[row][sums_stride].
template <typename Kind, int rows, int vectors>
void multiply_tile(const char *x, int64_t stride, const typename Kind::Weight *weight, Strides strides, int64_t n_steps, float *sums,
                   int64_t sums_stride) {
    F total[rows][vectors] = {};
    const float *row[rows];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) row[r] = (const float *)(x + r * stride);
    for (int64_t step = 0; step < n_steps; ++step, weight += strides.step) {
        F w[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v)
            w[v] = Kind::read(weight + v / VECTORS_PER_PANEL * strides.panel + v % VECTORS_PER_PANEL * LANES * Kind::GROUP);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const F word = splat(row[r][step]);
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) Kind::add(total[r][v], word, w[v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) store(sums + r * sums_stride + v * LANES, total[r][v]);
}

template <typename Kind>
using Tile = void (*)(const char *, int64_t, const typename Kind::Weight *, Strides, int64_t, float *, int64_t);

template <typename Kind, int rows>
Tile<Kind> tile_of(int vectors) {
    static_assert(VECTORS <= 4);
    switch (vectors) {
        case 1: return multiply_tile<Kind, rows, 1>;
        case 2: return multiply_tile<Kind, rows, 2>;
        case 3: return multiply_tile<Kind, rows, VECTORS < 3 ? VECTORS : 3>;
        default: return multiply_tile<Kind, rows, VECTORS>;
    }
}

template <typename Kind>
Tile<Kind> tile_of(int rows, int vectors) {
    static_assert(ROWS <= 6);
    switch (rows) {
        case 1: return tile_of<Kind, 1>(vectors);
        case 2: return tile_of<Kind, 2>(vectors);
        case 3: return tile_of<Kind, ROWS < 3 ? ROWS : 3>(vectors);
        case 4: return tile_of<Kind, ROWS < 4 ? ROWS : 4>(vectors);
        case 5: return tile_of<Kind, ROWS < 5 ? ROWS : 5>(vectors);
        default: return tile_of<Kind, ROWS>(vectors);
    }
}

// Rows by `n` columns from `column` on, at most TILE_COLUMNS. finish(first row, how many, column, result) is called for each vector
// of columns; result(i) is that of the row `first + i`.
template <typename Kind, typename Finish>
void multiply_columns(const nc::Rows &x, const nc_product &product, nc::Range rows, int64_t column, int n, Finish finish) {
    alignas(64) float sums[ROWS * TILE_COLUMNS];
    const auto *weight = (const typename Kind::Weight *)product.weight + column * product.n_in;
    const Strides strides{(int64_t)NC_PANEL * product.n_in, NC_PANEL * Kind::GROUP};
    for (int64_t row = rows.first; row < rows.last; row += ROWS) {
        const int height = rows.last - row < ROWS ? (int)(rows.last - row) : ROWS;
        tile_of<Kind>(height, n / LANES)(x.row<char>(row), x.stride, weight, strides, product.n_in / Kind::GROUP, sums, TILE_COLUMNS);
        for (int c = 0; c < n; c += LANES) {
            const F bias = load(product.bias + column + c);
            finish(row, height, column + c, [&](int r) { return load(sums + r * TILE_COLUMNS + c) + bias; });
        }
    }
}

template <typename Kind, typename Finish>
void multiply(const nc::Rows &x, const nc_product &product, nc::Range rows, nc::Range columns, Finish finish) {
    for (int64_t column = columns.first; column < columns.last; column += TILE_COLUMNS) {
        const int n = columns.last - column < TILE_COLUMNS ? (int)(columns.last - column) : TILE_COLUMNS;
        multiply_columns<Kind>(x, product, rows, column, n, finish);
    }
}

// See nc_kernels.
template <typename Kind>
void multiply(const nc::Rows &x, const nc_product &product, bool add, float *out, nc::Range rows, nc::Range panels) {
    const nc::Range columns{panels.first * NC_PANEL, panels.last * NC_PANEL};
    multiply<Kind>(x, product, rows, columns, [&](int64_t row, int height, int64_t column, auto result) {
        for (int r = 0; r < height; ++r) {
            float *to = out + (row + r) * product.n_out + column;
            store(to, add ? load(to) + result(r) : result(r));
        }
    });
}

// use(function) of an activation.
template <typename Use>
void with_activation(int32_t activation, Use use) {
    switch (activation) {
        case NC_GELU_TANH: return use([](F x) { return gelu_tanh(x); });
        case NC_RELU: return use([](F x) { return larger(x, F{}); });
        case NC_SILU: return use([](F x) { return silu(x); });
        default: return use([](F x) { return gelu_fine(x); });
    }
}

// See nc_kernels.
template <typename Kind>
void expand(const nc::Rows &x, const nc_layer &layer, int32_t activation, const nc::Wide &wide, nc::Range rows, nc::Range blocks) {
    const int64_t last = blocks.last * NC_BLOCK;
    const nc::Range columns{blocks.first * NC_BLOCK, last < layer.up.n_out ? last : layer.up.n_out};
    const auto place = [&](int64_t row, int64_t column) { return wide.to.row<typename Kind::Input>(row) + column; };
    const auto gated = [&](int64_t row, int64_t column) { return wide.values + row * wide.stride + column; };
    with_activation(activation, [&](auto function) {
        const nc_product &first = layer.gate.weight ? layer.gate : layer.up;
        multiply<Kind>(x, first, rows, columns, [&](int64_t row, int height, int64_t column, auto result) {
            for (int r = 0; r < height; ++r) {
                const F y = function(result(r));
                layer.gate.weight ? store(gated(row + r, column), y) : Kind::write(place(row + r, column), y);
            }
        });
    });
    if (!layer.gate.weight) return;
    multiply<Kind>(x, layer.up, rows, columns, [&](int64_t row, int height, int64_t column, auto result) {
        for (int r = 0; r < height; ++r) Kind::write(place(row + r, column), result(r) * load(gated(row + r, column)));
    });
}

}  // namespace floats
}  // namespace
