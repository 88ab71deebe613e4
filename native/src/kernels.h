// What an instruction set provides: one table of functions each, filled in isa/ from the templates in kernels/.
#pragma once

#include <cstdint>

#include "neuralcore.h"

namespace nc {

// What happens to a product's result before it is stored.
enum class Finish { Plain, Gelu, GeluTanh, Relu, Add, Gate };

// Quantized rows. A byte is q + nc_kernels::offset: some instruction sets multiply signed ones, some unsigned.
struct Quantized {
    uint8_t *values;  // [rows][stride]
    float *scale;     // [rows]
    int32_t *zero;    // [rows]
    int64_t stride;
};

// The rows of one text's queries, keys and values, and where its result goes.
struct Attention {
    const float *qkv;          // [tokens][3 * hidden]
    float *out;                // [tokens][hidden]
    const float *bias;         // [2 * max_positions - 1] of this head, or null
    const float *cosines, *sines;
    int64_t n_tokens, hidden, head_size, head, max_positions;
    float *scratch;            // attention_floats(n_tokens, head_size)
};

constexpr int64_t kScoreRows = 12;   // queries that share a pass over the keys
constexpr int64_t kWidest = 16;      // lanes of the widest vector

constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

constexpr int64_t attention_floats(int64_t n_tokens, int64_t head_size) {
    const int64_t padded = round_up(n_tokens, kWidest);
    return 3 * padded * head_size + kScoreRows * padded;  // queries, keys (transposed), values; scores
}

}  // namespace nc

struct nc_kernels {
    const char *name;
    bool (*supported)();
    int32_t offset;
    // x = LayerNorm(words + positions) for tokens `first` to `last` of the batch.
    void (*embed)(const nc_model &, const nc_batch &, float *x, int64_t first, int64_t last);
    // x = LayerNorm(x), rows `first` to `last`.
    void (*normalize)(float *x, const nc_norm &, float epsilon, int64_t n, int64_t first, int64_t last);
    // Integers of the transformed rows `first` to `last`; scratch holds n floats.
    void (*quantize)(const float *x, float *scratch, nc::Quantized, int64_t n, int64_t first, int64_t last);
    // Panels `first` to `last` of rows 0 to n_rows. `other` is out itself for Add, the gate for Gate.
    void (*multiply)(nc::Quantized, const nc_product &, nc::Finish, float *out, int64_t out_stride, const float *other,
                     int64_t n_rows, int64_t first, int64_t last);
    void (*attend)(const nc::Attention &);
    void (*pool)(const nc_model &, const float *x, int64_t n_tokens, float *out);
};
