// What an instruction set provides: one table of functions each, filled in isa/ from the templates in kernels/.
#pragma once

#include <cstdint>

#include "neuralcore.h"

namespace nc {

// What happens to a product's result before it is stored.
enum class Finish { Plain, Gelu, GeluTanh, Relu, Silu, Add, Times };

// Quantized rows. A byte is q + nc_kernels::offset: some instruction sets multiply signed ones, some unsigned.
struct Quantized {
    uint8_t *values;  // [rows][stride]
    float *scale;     // [rows]
    int32_t *zero;    // [rows]
    int64_t stride;
};

// A norm of some model.
struct Norm {
    nc_norm weights;
    int32_t kind;  // nc_norm_kind
    float epsilon;

    explicit operator bool() const { return weights.weight; }
};

// One head of queries over one text.
struct Attention {
    const nc_model &model;
    const nc_attention &layer;
    const float *qkv;  // [tokens][(n_heads + 2 n_key_heads) * head_size]
    float *out;        // [tokens][n_heads * head_size]
    int64_t n_tokens, head;
    float *scratch;    // attention_floats(n_tokens, head_size)
};

constexpr int64_t kScoreRows = 12;   // queries that share a pass over the keys
constexpr int64_t kWidest = 16;      // lanes of the widest vector

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Keys of one component side by side, in an odd number of cache lines: at a power of two, all of a key's components would fall
// into one set of a cache.
constexpr int64_t key_stride(int64_t n_tokens) { return (round_up(n_tokens, kWidest) / kWidest | 1) * kWidest; }

constexpr int64_t attention_floats(int64_t n_tokens, int64_t head_size) {
    const int64_t padded = key_stride(n_tokens);
    return 3 * padded * head_size + kScoreRows * padded;  // queries, keys (transposed), values; scores
}

}  // namespace nc

struct nc_kernels {
    const char *name;
    bool (*supported)();
    int32_t offset;
    // What goes into the first layer, for tokens `first` to `last` of the batch.
    void (*embed)(const nc_model &, const nc_batch &, float *x, int64_t first, int64_t last);
    // to = norm(x), rows `first` to `last`; `to` may be x.
    void (*normalize)(const float *x, float *to, const nc::Norm &, int64_t n, int64_t first, int64_t last);
    // x += y, rows `first` to `last`.
    void (*add)(float *x, const float *y, int64_t n, int64_t first, int64_t last);
    // Integers of the transformed rows `first` to `last`; scratch holds n floats.
    void (*quantize)(const float *x, float *scratch, nc::Quantized, int64_t n, int64_t first, int64_t last);
    // Panels `first` to `last` of rows 0 to n_rows. `other` is out itself for Add, what is multiplied by for Times.
    void (*multiply)(nc::Quantized, const nc_product &, nc::Finish, float *out, int64_t out_stride, const float *other,
                     int64_t n_rows, int64_t first, int64_t last);
    void (*attend)(const nc::Attention &);
    // All poolings of one text, side by side.
    void (*pool)(const nc_model &, const float *x, int64_t n_tokens, float *out);
    // Columns `first` to `last` of n_rows rows, one after the other.
    void (*run_dense)(const nc_dense &, const float *x, int64_t x_stride, float *out, int64_t out_stride, int64_t n_rows,
                      int64_t first, int64_t last);
    // One vector, to length 1.
    void (*scale_to_unit)(float *x, int64_t n);
};
