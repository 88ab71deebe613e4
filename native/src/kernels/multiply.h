// The product of quantized rows and packed weights, and what happens to its results.
//
// A tile is up to ROWS rows by VECTORS vectors of columns, whose sums stay in registers while k runs. Each step takes one word
// (4 bytes) of every row, repeated in all lanes, and as many inputs of each column; `Dot::add` takes STEPS of them at once.
// Panels are the outer loop, so that a panel's weights come from the first cache for all rows but the first.
#pragma once

#include "math.h"

namespace {

// What happens to a product's result before it is stored.
enum class Finish { Plain, Gelu, GeluTanh, Relu, Silu, Add, Times };

#ifndef NC_MULTIPLY  // an instruction set that multiplies by other means names them

constexpr int ROWS = Dot::ROWS, STEPS = Dot::STEPS;
constexpr int64_t TILE_COLUMNS = Dot::VECTORS * LANES;
constexpr int VECTORS_PER_PANEL = NC_PANEL / LANES;

// Vector v of a tile's columns, in this step: a panel has one to four, side by side, and the next panel follows it far away.
inline I load_weights(const int8_t *weight, int v, int64_t panel_stride) {
    I w;
    std::memcpy(&w, weight + v / VECTORS_PER_PANEL * panel_stride + v % VECTORS_PER_PANEL * (int64_t)sizeof w, sizeof w);
    return w;
}

// Sums of `rows` rows by `vectors` vectors of columns, into sums[row][TILE_COLUMNS].
template <int rows, int vectors>
void multiply_tile(const uint8_t *q, int64_t stride, const int8_t *weight, int64_t panel_stride, int64_t n_steps,
                   const int32_t *start, int32_t *sums) {
    I total[rows][vectors];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) total[r][v] = load(start + v * LANES);
    const uint8_t *row[rows];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) row[r] = q + r * stride;
    for (int64_t step = 0; step < n_steps; step += STEPS) {
        I w[vectors][STEPS];
#pragma GCC unroll 8
        for (int s = 0; s < STEPS; ++s, weight += NC_PANEL * NC_GROUP)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) w[v][s] = load_weights(weight, v, panel_stride);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            I word[STEPS];
#pragma GCC unroll 8
            for (int s = 0; s < STEPS; ++s, row[r] += NC_GROUP) word[s] = repeat_word(row[r]);
#pragma GCC unroll 8
            for (int v = 0; v < vectors; ++v) Dot::add(total[r][v], word, w[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) store(sums + r * TILE_COLUMNS + v * LANES, total[r][v]);
}

using Tile = void (*)(const uint8_t *, int64_t, const int8_t *, int64_t, int64_t, const int32_t *, int32_t *);

template <int rows>
Tile tile_of(int vectors) {
    static_assert(Dot::VECTORS <= 4);
    switch (vectors) {
        case 1: return multiply_tile<rows, 1>;
        case 2: return multiply_tile<rows, 2>;
        case 3: return multiply_tile<rows, Dot::VECTORS < 3 ? Dot::VECTORS : 3>;
        default: return multiply_tile<rows, Dot::VECTORS>;
    }
}

Tile tile_of(int rows, int vectors) {
    switch (rows) {
        case 1: return tile_of<1>(vectors);
        case 2: return tile_of<2>(vectors);
        case 3: return tile_of<3>(vectors);
        case 4: return tile_of<4>(vectors);
        case 5: return tile_of<ROWS < 5 ? ROWS : 5>(vectors);
        default: return tile_of<ROWS>(vectors);
    }
}

#endif

template <typename Store>
inline void finish_row(const int32_t *sums, const nc_product &product, int64_t column, int n_columns, float scale,
                       int32_t zero, Store store_result) {
    for (int c = 0; c < n_columns; c += LANES) {
        const I whole = load(sums + c) - load(product.column_sum + column + c) * zero;
        const F y = to_float(whole) * (load(product.column_scale + column + c) * scale) + load(product.bias + column + c);
        store_result(c, y);
    }
}

void finish_row(Finish finish, const int32_t *sums, const nc_product &product, int64_t column, int n, float scale,
                int32_t zero, float *out, const float *other) {
    const auto run = [&](auto store_result) { finish_row(sums, product, column, n, scale, zero, store_result); };
    switch (finish) {
        case Finish::Plain: return run([&](int c, F y) { store(out + c, y); });
        case Finish::Gelu: return run([&](int c, F y) { store(out + c, gelu(y)); });
        case Finish::GeluTanh: return run([&](int c, F y) { store(out + c, gelu_tanh(y)); });
        case Finish::Relu: return run([&](int c, F y) { store(out + c, larger(y, F{})); });
        case Finish::Silu: return run([&](int c, F y) { store(out + c, silu(y)); });
        case Finish::Add: return run([&](int c, F y) { store(out + c, y + load(other + c)); });
        case Finish::Times: return run([&](int c, F y) { store(out + c, y * load(other + c)); });
    }
}

#ifndef NC_MULTIPLY

// Rows by `n` columns from `column` on; at most TILE_COLUMNS.
void multiply_columns(const nc::Rows &x, const nc_product &product, Finish finish, float *out, int64_t out_stride,
                      const float *other, nc::Range rows, int64_t column, int n) {
    alignas(64) int32_t start[TILE_COLUMNS], sums[ROWS * TILE_COLUMNS];
    for (int c = 0; c < n; ++c) start[c] = -Dot::OFFSET * product.column_sum[column + c];
    const int8_t *weight = (const int8_t *)product.weight + column * product.n_in;
    const int64_t panel_stride = (int64_t)NC_PANEL * product.n_in;
    for (int64_t row = rows.first; row < rows.last; row += ROWS) {
        const int height = rows.last - row < ROWS ? rows.last - row : ROWS;
        tile_of(height, n / LANES)(x.row<uint8_t>(row), x.stride, weight, panel_stride, product.n_in / NC_GROUP, start, sums);
        for (int r = 0; r < height; ++r) {
            const int64_t at = (row + r) * out_stride + column;
            finish_row(finish, sums + r * TILE_COLUMNS, product, column, n, x.scale[row + r], x.zero[row + r], out + at,
                       other + at);
        }
    }
}

void multiply(const nc::Rows &x, const nc_product &product, Finish finish, float *out, int64_t out_stride, const float *other,
              nc::Range rows, nc::Range columns) {
    for (int64_t column = columns.first; column < columns.last; column += TILE_COLUMNS) {
        const int n = columns.last - column < TILE_COLUMNS ? columns.last - column : TILE_COLUMNS;
        multiply_columns(x, product, finish, out, out_stride, other, rows, column, n);
    }
}

#else

}  // namespace
#include NC_MULTIPLY
namespace {

#endif

void multiply(const nc::Rows &x, const nc_product &product, bool add, float *out, nc::Range rows, nc::Range panels) {
    multiply(x, product, add ? Finish::Add : Finish::Plain, out, product.n_out, out, rows,
             {panels.first * NC_PANEL, panels.last * NC_PANEL});
}

inline Finish finish_of(int32_t activation) {
    switch (activation) {
        case NC_GELU_TANH: return Finish::GeluTanh;
        case NC_RELU: return Finish::Relu;
        case NC_SILU: return Finish::Silu;
        default: return Finish::Gelu;
    }
}

// See nc_kernels.
void expand(const nc::Rows &x, const nc_layer &layer, int32_t activation, const nc::Wide &wide, nc::Range rows, nc::Range blocks) {
    const int64_t last = blocks.last * NC_BLOCK;
    const nc::Range columns{blocks.first * NC_BLOCK, last < layer.up.n_out ? last : layer.up.n_out};
    const nc_product &first = layer.gate.weight ? layer.gate : layer.up;
    multiply(x, first, finish_of(activation), wide.values, wide.stride, wide.values, rows, columns);
    if (layer.gate.weight) multiply(x, layer.up, Finish::Times, wide.values, wide.stride, wide.values, rows, columns);
}

}  // namespace
