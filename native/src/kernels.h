// What an instruction set provides for one precision of products: one table of functions each, filled in isa/ from the
// templates in kernels/.
#pragma once

#include <cstdint>

#include "neuralcore.h"

namespace nc {

// Rows as a product takes them: integers, floats or bfloat16.
struct Rows {
    char *values;     // [rows][stride]
    int64_t stride;   // bytes
    float *scale;     // [rows], of integers alone
    int32_t *zero;    // the same

    template <typename T>
    T *row(int64_t i) const {
        return (T *)(values + i * stride);
    }
};

// Part of something that is cut: rows, panels, heads.
struct Range {
    int64_t first, last;
};

// A norm of some model.
struct Norm {
    nc_norm weights;
    int32_t kind;  // nc_norm_kind
    float epsilon;

    explicit operator bool() const { return weights.weight; }
};

// Queries of one head of one text, all of them or some.
struct Attention {
    const nc_model &model;
    const nc_attention &layer;
    const nc_batch &batch;
    const char *heads;    // what `project` made of the whole batch
    int64_t text, head;
    Range queries;        // tokens of the text
    float *out;           // of the first query, this head's first component
    int64_t out_stride;   // floats from one query to the next
    char *scratch;        // attention_bytes

    int64_t start() const { return batch.offsets[text]; }
    int64_t n_tokens() const { return batch.offsets[text + 1] - batch.offsets[text]; }
};

// The way into the feed-forward network and out of it: `values` is room for floats on the way, `to` the input of `down`.
struct Wide {
    float *values;   // [rows][stride], from the first row of a range on
    int64_t stride;
    Rows to;
};

// A half as the compiler knows it: GCC 12 has only this name for it in C++ on AArch64.
#if defined(__aarch64__)
using Half = __fp16;
#else
using Half = _Float16;
#endif

constexpr int64_t kWidest = 16;  // lanes of the widest vector

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace nc

struct nc_kernels {
    const char *name;
    int32_t precision;      // nc_precision
    bool (*supported)();
    int32_t offset;         // of integers: a byte of a row is q + offset
    int64_t input_bytes;    // of a component of a product's input
    int64_t block_rows;     // rows that go through the steps between two attentions together, on one thread
    // What goes into the first layer, for tokens of the batch.
    void (*embed)(const nc_model &, const nc_batch &, float *x, nc::Range rows);
    // Rows, one after the other: x = after(x), and `to` = the next product's input, before(x). Without one of the norms that step is
    // left out. scratch: n floats.
    void (*prepare)(float *x, const nc::Norm &after, const nc::Norm &before, float *scratch, const nc::Rows &to, int64_t n, nc::Range rows);
    // x = norm(x).
    void (*normalize)(float *x, const nc::Norm &, int64_t n, nc::Range rows);
    // x += y.
    void (*add)(float *x, const float *y, int64_t n, nc::Range rows);
    // out = x @ w + b, or with `add` out += that; of some rows and panels. `out` begins at the first row of all, and is dense.
    void (*multiply)(const nc::Rows &, const nc_product &, bool add, float *out, nc::Range rows, nc::Range panels);
    // Into the feed-forward network: activation(up(x)), or activation(gate(x)) * up(x); of some rows and blocks of NC_BLOCK columns
    // (the last one may be smaller). When all blocks of a row are there, `settle` ends what is to do.
    void (*expand)(const nc::Rows &, const nc_layer &, int32_t activation, const nc::Wide &, nc::Range rows, nc::Range blocks);
    void (*settle)(const nc::Wide &, int64_t n, nc::Range rows);
    // Queries, keys and values of a whole batch, in a form of its own; heads in the order of the product's columns.
    int64_t (*heads_bytes)(const nc_attention &, int64_t n_tokens, int64_t n_texts);
    void (*project)(const nc::Rows &, const nc_model &, const nc_attention &, const nc_batch &, char *heads, nc::Range which);
    int64_t (*attention_bytes)(const nc_attention &, int64_t longest);
    void (*attend)(const nc::Attention &);
    // All poolings of one text, side by side.
    void (*pool)(const nc_model &, const float *x, int64_t n_tokens, float *out);
    // Columns `first` to `last` of n_rows rows, one after the other.
    void (*run_dense)(const nc_dense &, const float *x, int64_t x_stride, float *out, int64_t out_stride, int64_t n_rows,
                      int64_t first, int64_t last);
    // One vector, to length 1.
    void (*scale_to_unit)(float *x, int64_t n);
};
