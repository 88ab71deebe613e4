// Integer products of attention: rows of words (4 bytes: four components of 8 bits or two of 16) by columns of such words.
#pragma once

#include <type_traits>

#include "fold.h"

namespace {

// Columns of words: [columns / 16][steps][16] with `panel` words from one 16 to the next, `step` from one step to the next.
struct Columns {
    const int32_t *first;
    int64_t step, panel;

    const int32_t *vector(int64_t v) const { return first + v * LANES / NC_PANEL * panel + v * LANES % NC_PANEL; }
};

// The sums of a tile stay in registers: `rows` rows of a by `vectors` vectors of columns, from `first` on.
template <typename Dot, int rows, int vectors>
inline void multiply_words(const int32_t *a, int64_t a_stride, const Columns &b, int64_t first, int64_t n_steps, I (&total)[rows][vectors]) {
    const int32_t *row[rows], *column[vectors];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) row[r] = a + r * a_stride;
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) column[v] = b.vector(first + v);
    for (int64_t step = 0; step < n_steps; ++step) {
        I w[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) {
            w[v] = load(column[v]);
            column[v] += b.step;
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const I word = splat(row[r][step]);
#pragma GCC unroll 16
            for (int v = 0; v < vectors; ++v) Dot::add(total[r][v], word, w[v]);
        }
    }
}

// work(n) with n known when compiled, 1 to `most`.
template <int most, typename Work>
inline void with_constant(int64_t n, const Work &work) {
    if constexpr (most > 1)
        if (n < most) return with_constant<most - 1>(n, work);
    work(std::integral_constant<int, most>{});
}

// work(row, rows, column, vectors) on all tiles of some rows and vectors of columns; rows and vectors are known when compiled. Where
// there are few columns, tiles are twice as high.
template <typename Dot, typename Work>
inline void each_tile(int64_t n_rows, int64_t n_vectors, const Work &work) {
    for (int64_t v = 0; v < n_vectors; v += Dot::VECTORS)
        with_constant<Dot::VECTORS>(n_vectors - v, [&](auto vectors) {
            int64_t row = 0;
            if constexpr (2 * vectors() <= Dot::VECTORS)
                for (; row + 2 * Dot::ROWS <= n_rows; row += 2 * Dot::ROWS)
                    work(row, std::integral_constant<int, 2 * Dot::ROWS>{}, v, vectors);
            for (; row < n_rows; row += Dot::ROWS)
                with_constant<Dot::ROWS>(n_rows - row, [&](auto rows) { work(row, rows, v, vectors); });
        });
}

}  // namespace
