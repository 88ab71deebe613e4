// Where a batch's values lie in the caller's memory.
#pragma once

#include <algorithm>

#include "kernels.h"

namespace nc {

constexpr int64_t kDenseTexts = 8;  // vectors that go through the steps after pooling together: weights are read once for them
constexpr int64_t kTeamRows = 256;  // rows that a team takes through the steps between two attentions together

// The most that any layer needs.
struct Widths {
    int64_t hidden, heads = 0, wide = 0, vector = 0;
    bool inner_norms = false;

    explicit Widths(const nc_model &);
    int64_t input() const { return std::max(hidden, heads); }  // of the products of attention, and of `up`
};

struct Workspace {
    float *x;        // [tokens][hidden], the residual stream
    float *context;  // [tokens][heads], of attention
    char *heads;     // queries, keys and values, as the kernels keep them
    Rows input;      // [tokens], of the next product
    Rows inner;      // [block rows], of `down`
    float *wide;     // [block rows][wide], on the way there
    float *result;   // [block rows][hidden], of a sublayer before its norm, where there are such norms
    float *row;      // [row_stride] of one thread after the other
    int64_t row_stride;
    char *attention; // of one thread after the other
    int64_t attention_stride;
    float *vectors[2]; // [kDenseTexts][vector_stride], where there are steps after pooling
    int64_t vector_stride;
    int64_t block_rows;
    size_t n_bytes;

    // From null, it only counts.
    Workspace(void *memory, const nc_kernels &, const nc_model &, int64_t n_tokens, int64_t n_texts, int64_t longest, int n_threads);
};

// Bytes from one row of n components to the next: an odd number of cache lines, since at a power of two all rows of a tile would
// fall into one set of a cache.
inline int64_t row_bytes(const nc_kernels &kernels, int64_t n) { return (round_up(n * kernels.input_bytes, 64) / 64 | 1) * 64; }

// The same memory for rows of another size, from some row on.
inline Rows rows_of(const nc_kernels &kernels, const Rows &rows, int64_t n, int64_t first = 0) {
    const int64_t stride = row_bytes(kernels, n);
    return {rows.values + first * stride, stride, rows.scale + first, rows.zero + first};
}

}  // namespace nc
