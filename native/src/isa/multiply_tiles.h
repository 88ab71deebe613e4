// The product of quantized rows and packed weights by tiles: 16 rows of 64 inputs times 64 inputs of 16 columns, which is how a
// packed panel lies in memory.
//
// Four tiles of sums hide the latency of the instruction: two by two while there are 32 rows, else one row of four. Two by two
// reads four tiles for as many products, one by four five.
#pragma once

#include <utility>

#include "../kernels/results.h"
#include "tiles.h"

namespace {

constexpr int64_t TILE_PANELS = 4, TILE_COLUMNS = TILE_PANELS * NC_PANEL;
constexpr int64_t K = tiles::BYTES, PANEL_BYTES = K * NC_PANEL;  // inputs of a step, and a panel's weights of them
static_assert(PANEL_BYTES == tiles::ROWS * tiles::BYTES);

// The last inputs of rows and panels, with zeros up to a whole step.
struct Rest {
    alignas(64) uint8_t rows[2][tiles::ROWS][K], weights[TILE_PANELS][PANEL_BYTES];
};

// One product of tiles: rows at `row`, panels at `weight`.
struct Block {
    const uint8_t *row;
    int64_t stride;
    const int8_t *weight;
    int64_t panel_stride, n_in;
    int height;  // rows of a tile; of two, all
    int32_t *sums;  // [rows][TILE_COLUMNS]
};

template <int n, typename Each>
inline void repeat(Each each) {
    [&]<int... i>(std::integer_sequence<int, i...>) { (each(std::integral_constant<int, i>{}), ...); }
    (std::make_integer_sequence<int, n>{});
}

// Tiles 0 to 3 are sums, then come those of rows, then those of weights, in turn.
template <int n_rows, int n_panels>
struct Places {
    static constexpr int sums(int r, int p) { return r * n_panels + p; }
    static constexpr int row(int r) { return 4 + r; }
    static constexpr int weights(int p) { return 4 + n_rows + p % (4 - n_rows); }
};

template <int n_rows, int n_panels>
inline void multiply_step(const uint8_t *row, int64_t stride, const void *weight, int64_t panel_stride) {
    using At = Places<n_rows, n_panels>;
    repeat<n_rows>([&](auto r) { tiles::load<At::row(r)>(row + r * tiles::ROWS * stride, stride); });
    repeat<n_panels>([&](auto p) {
        tiles::load<At::weights(p)>((const char *)weight + p * panel_stride, tiles::BYTES);
        repeat<n_rows>([&](auto r) { tiles::multiply<At::sums(r, p), At::row(r), At::weights(p)>(); });
    });
}

template <int n_rows, int n_panels>
void multiply_rest(const Block &b, int64_t done) {
    Rest rest{};
    const int64_t n = b.n_in - done;
    for (int r = 0; r < n_rows * b.height; ++r) std::memcpy(rest.rows[r / tiles::ROWS][r % tiles::ROWS], b.row + r * b.stride + done, n);
    for (int p = 0; p < n_panels; ++p)
        std::memcpy(rest.weights[p], b.weight + p * b.panel_stride + done * NC_PANEL, n * NC_PANEL);
    multiply_step<n_rows, n_panels>(rest.rows[0][0], K, rest.weights, PANEL_BYTES);
}

template <int n_rows, int n_panels>
void multiply_block(const Block &b) {
    using At = Places<n_rows, n_panels>;
    repeat<n_rows * n_panels>([](auto sums) { tiles::clear<sums>(); });
    int64_t k = 0;
    for (; k + K <= b.n_in; k += K)
        multiply_step<n_rows, n_panels>(b.row + k, b.stride, b.weight + k * NC_PANEL, b.panel_stride);
    if (k < b.n_in) multiply_rest<n_rows, n_panels>(b, k);
    repeat<n_rows>([&](auto r) {
        repeat<n_panels>([&](auto p) {
            tiles::store<At::sums(r, p)>(b.sums + r * tiles::ROWS * TILE_COLUMNS + p * NC_PANEL, TILE_COLUMNS * sizeof *b.sums);
        });
    });
}

// Two rows of tiles by one or two panels, from panel `first` of the block's on.
void multiply_two(Block b, int64_t first, int64_t n_panels) {
    b.weight += first * b.panel_stride, b.sums += first * NC_PANEL;
    n_panels - first > 1 ? multiply_block<2, 2>(b) : multiply_block<2, 1>(b);
}

void multiply_one(const Block &b, int64_t n_panels) {
    switch (n_panels) {
        case 1: return multiply_block<1, 1>(b);
        case 2: return multiply_block<1, 2>(b);
        case 3: return multiply_block<1, 3>(b);
        default: return multiply_block<1, 4>(b);
    }
}

// Sums of one row from memory to registers.
template <int vectors, typename Finish>
inline void finish_row(const int32_t *sums, const nc::Rows &x, int64_t row, const nc_product &product, int64_t column, const Finish &finish) {
    I total[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) total[v] = ::load(sums + v * LANES);
    finish_sums(total, x, row, product, column, finish);
}

template <typename Finish>
inline void finish_row(const int32_t *sums, const nc::Rows &x, int64_t row, const nc_product &product, int64_t column, int64_t n,
                       const Finish &finish) {
    static_assert(NC_PANEL == LANES);
    if (n == TILE_COLUMNS) return finish_row<4>(sums, x, row, product, column, finish);
    int64_t c = 0;
    for (; c + 2 * LANES <= n; c += 2 * LANES) finish_row<2>(sums + c, x, row, product, column + c, finish);
    if (c < n) finish_row<1>(sums + c, x, row, product, column + c, finish);
}

// Rows that are whole tiles of `height`, by `n` columns from `column` on; TILE_COLUMNS at most.
template <typename Finish>
void multiply_columns(const nc::Rows &x, const nc_product &product, nc::Range rows, int height, int64_t column, int64_t n,
                      const Finish &finish) {
    alignas(64) int32_t sums[2 * tiles::ROWS * TILE_COLUMNS];
    const int64_t n_panels = n / NC_PANEL;
    Block block{nullptr, x.stride, (const int8_t *)product.weight + column * product.n_in, (int64_t)NC_PANEL * product.n_in,
                product.n_in, height, sums};
    for (int64_t row = rows.first, n_rows; row < rows.last; row += n_rows) {
        block.row = x.row<uint8_t>(row);
        n_rows = rows.last - row < 2 * tiles::ROWS ? height : 2 * tiles::ROWS;
        if (n_rows > tiles::ROWS)
            for (int64_t panel = 0; panel < n_panels; panel += 2) multiply_two(block, panel, n_panels);
        else
            multiply_one(block, n_panels);
        for (int64_t r = 0; r < n_rows; ++r) finish_row(sums + r * TILE_COLUMNS, x, row + r, product, column, n, finish);
    }
}

// Rows that are whole tiles of `height`.
template <typename Finish>
void multiply_rows(const nc::Rows &x, const nc_product &product, nc::Range rows, int height, nc::Range columns, const Finish &finish) {
    if (rows.first == rows.last) return;
    tiles::Shapes shapes;
    for (int tile = 0; tile < 8; ++tile) shapes.set(tile, tile < 5 ? height : tiles::ROWS);
    tiles::begin(shapes);
    for (int64_t column = columns.first; column < columns.last; column += TILE_COLUMNS) {
        const int64_t n = columns.last - column < TILE_COLUMNS ? columns.last - column : TILE_COLUMNS;
        multiply_columns(x, product, rows, height, column, n, finish);
    }
    tiles::end();
}

template <typename Finish>
void multiply_tiles(const nc::Rows &x, const nc_product &product, nc::Range rows, nc::Range columns, const Finish &finish) {
    const int rest = (int)((rows.last - rows.first) % tiles::ROWS);
    const int64_t whole = rows.last - rest;
    multiply_rows(x, product, {rows.first, whole}, tiles::ROWS, columns, finish);
    multiply_rows(x, product, {whole, rows.last}, rest, columns, finish);
}

}  // namespace
