// Queries, keys and values of a batch as integers, as `project` leaves them for `attend`.
//
//     query[t][i] ~ query_scale[t] * q[t][i],   key[t][i] ~ key_scale[t] * k[t][i]      -127 to 127
//     value[t][i] ~ 2^exponent[t] * v[t][i]                                              -VALUE_MOST to VALUE_MOST
//
// for each token and head by itself. A value's scale is a power of two, so that it can be added to a score: the weight of a key
// then has its value's scale in it.
//
// A text begins at a place that is a multiple of 16, and has room to the next one. Keys of one head lie in panels of 16, like a
// product's weights; of values, those of tokens t and t + 8 of 16 lie side by side.
#pragma once

#include "fold.h"

namespace {

constexpr int64_t KEYS = 16;           // of a panel
constexpr int SCORE_MOST = 127;        // of a query's or key's component
constexpr int VALUE_MOST = 2047;       // of a value's
constexpr int EXPONENT_MOST = 30;      // of a value's scale, and its negative is the least
constexpr float LOG2_E = 1.44269504f;
constexpr int64_t QUERY_GROUP = Scores::GROUP;  // components in a word

using Component = Scores::Component;
static_assert(sizeof(Component) * QUERY_GROUP == sizeof(int32_t));

struct Heads {
    Component *queries;   // [heads][places][size]
    Component *keys;      // [key heads][places / 16][size / group][16][group]
    int16_t *values;      // [key heads][places / 16][8][size][2]
    float *query_scale;   // [heads][places]; log2(e) is in it
    float *key_scale;     // [key heads][places]
    int32_t *key_start;   // the same: what the sums of scores start from
    float *exponent;      // the same, of values
    float *inverse;       // the same: 2^-exponent, and 0 past a text's end
    int64_t n_places, size, n_bytes = 0;

    Heads(const nc_attention &layer, char *memory, int64_t n_tokens, int64_t n_texts)
        : n_places(n_tokens / KEYS * KEYS + KEYS * n_texts), size(layer.head_size) {
        const int64_t n_queries = layer.n_heads * n_places, n_keys = layer.n_key_heads * n_places;
        take(memory, queries, n_queries * size), take(memory, keys, n_keys * size), take(memory, values, n_keys * size);
        take(memory, query_scale, n_queries), take(memory, key_scale, n_keys), take(memory, key_start, n_keys);
        take(memory, exponent, n_keys), take(memory, inverse, n_keys);
    }

    // Where a text that begins with this token lies.
    static int64_t place(int64_t offset, int64_t text) { return offset / KEYS * KEYS + KEYS * text; }

private:
    template <typename T>
    void take(char *memory, T *&piece, int64_t n) {
        piece = memory ? (T *)(memory + n_bytes) : nullptr;
        n_bytes += nc::round_up(n * (int64_t)sizeof(T), 64);
    }
};

int64_t heads_bytes(const nc_attention &layer, int64_t n_tokens, int64_t n_texts) {
    return Heads(layer, nullptr, n_tokens, n_texts).n_bytes;
}

// The text that holds a row, for rows that come in order.
class TextOf {
public:
    explicit TextOf(const nc_batch &batch) : offset_(batch.offsets) {}

    void move_to(int64_t row) {
        while (row >= offset_[1]) ++offset_, ++text_;
        token_ = row - *offset_;
    }
    int64_t token() const { return token_; }
    int64_t first_place() const { return Heads::place(*offset_, text_); }
    int64_t n_tokens() const { return offset_[1] - *offset_; }

private:
    const int64_t *offset_;
    int64_t text_ = 0, token_ = 0;
};

}  // namespace
