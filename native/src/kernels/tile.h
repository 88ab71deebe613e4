// The product of quantized rows and packed weights by vectors of columns.
//
// A tile is up to ROWS rows by VECTORS vectors of columns, whose sums stay in registers while k runs, and until they are
// finished, row by row. Each step takes one word (4 bytes) of every row, repeated in all lanes, and as many inputs of each
// column; `Dot::add` takes STEPS of them at once. Panels are the outer loop, so that a panel's weights come from the first cache
// for all rows but the first.
#pragma once

#include "results.h"

namespace {

constexpr int ROWS = Dot::ROWS, STEPS = Dot::STEPS;
constexpr int64_t TILE_COLUMNS = Dot::VECTORS * LANES;
constexpr int VECTORS_PER_PANEL = NC_PANEL / LANES;

// Vector v of a tile's columns, in this step: a panel has one to four, side by side, and the next panel follows it far away.
inline I load_weights(const int8_t *weight, int v, int64_t panel_stride) {
    I w;
    std::memcpy(&w, weight + v / VECTORS_PER_PANEL * panel_stride + v % VECTORS_PER_PANEL * (int64_t)sizeof w, sizeof w);
    return w;
}

template <int rows, int vectors, typename Finish>
void multiply_tile(const nc::Rows &x, int64_t first, const nc_product &product, int64_t column, const Finish &finish) {
    I total[rows][vectors] = {};
    const int64_t panel_stride = (int64_t)NC_PANEL * product.n_in;
    const int8_t *weight = (const int8_t *)product.weight + column * product.n_in;
    const uint8_t *row[rows];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) row[r] = x.row<uint8_t>(first + r);
    for (int64_t step = 0, n_steps = product.n_in / NC_GROUP; step < n_steps; step += STEPS) {
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
    for (int r = 0; r < rows; ++r) {
        I sums[vectors];  // a copy: with the reference GCC 12 puts sums on the stack
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sums[v] = total[r][v];
        finish_sums(sums, x, first + r, product, column, finish);
    }
}

template <int vectors, typename Finish>
void multiply_rows(const nc::Rows &x, const nc_product &product, nc::Range rows, int64_t column, const Finish &finish) {
    int64_t row = rows.first;
    for (; row + ROWS <= rows.last; row += ROWS) multiply_tile<ROWS, vectors>(x, row, product, column, finish);
    switch (rows.last - row) {
        case 1: return multiply_tile<1, vectors>(x, row, product, column, finish);
        case 2: return multiply_tile<2, vectors>(x, row, product, column, finish);
        case 3: return multiply_tile<3, vectors>(x, row, product, column, finish);
        case 4: return multiply_tile<ROWS < 4 ? 1 : 4, vectors>(x, row, product, column, finish);
        case 5: return multiply_tile<ROWS < 5 ? 1 : 5, vectors>(x, row, product, column, finish);
    }
}

// Some rows and columns, by tiles of 4, 2 or 1 vectors.
template <typename Finish>
void multiply_tiles(const nc::Rows &x, const nc_product &product, nc::Range rows, nc::Range columns, const Finish &finish) {
    static_assert(Dot::VECTORS == 2 || Dot::VECTORS == 4);
    int64_t column = columns.first;
    for (; column + TILE_COLUMNS <= columns.last; column += TILE_COLUMNS) multiply_rows<Dot::VECTORS>(x, product, rows, column, finish);
    if constexpr (Dot::VECTORS == 4)
        for (; column + 2 * LANES <= columns.last; column += 2 * LANES) multiply_rows<2>(x, product, rows, column, finish);
    for (; column < columns.last; column += LANES) multiply_rows<1>(x, product, rows, column, finish);
}

}  // namespace
