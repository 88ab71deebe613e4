// Attention of one head over one text, in integers: softmax(q k^T + bias) v.
//
// Scores are exact sums of 8-bit products times the scales of query and key, and to the exponent of 2 that they are comes the
// exponent of the value's scale. The softmax's weights, each with its value's scale in it, are rounded to WEIGHT_MOST steps of
// the largest one; their products with the values are exact sums, too:
//
//     WEIGHT_MOST * VALUE_MOST * BLOCK_KEYS < 2^31
//
// Longer texts go through in blocks of so many keys, each with a largest weight of its own, whose results are added in fp32 from
// the first to the last. Blocks lie where they lie in the text, so that a query's result depends on no other query.
// QUERY_ROWS queries share each pass over the keys, and keys that none of them sees are left out.
#pragma once

#include "heads.h"
#include "span.h"
#include "words.h"

namespace {

constexpr int64_t QUERY_ROWS = 12;
constexpr int64_t BLOCK_KEYS = 128;
constexpr int WEIGHT_MOST = 8191;
static_assert((int64_t)WEIGHT_MOST * VALUE_MOST * BLOCK_KEYS < 2147483648);
constexpr int64_t SCORE_STRIDE = BLOCK_KEYS + KEYS;  // of 9 cache lines: not a power of two
constexpr float UNSEEN = -3e38f;

int64_t attention_bytes(const nc_attention &, int64_t) { return QUERY_ROWS * SCORE_STRIDE * (int64_t)sizeof(float); }

// 2^x for x <= 0, times just below WEIGHT_MOST, to 2^-13.7 of itself: the same error is in a weight and in the sum that it is
// divided by. NaN gives 2^-100 or so, like everything below.
inline F weight_of(F x) {
    constexpr float most = WEIGHT_MOST - 1;
    x = larger(x, splat(-100.0f));
    const F shifted = x + 12582912.0f;  // the nearest integer in the lowest bits (see nearest)
    const F rest = x - (shifted - 12582912.0f);
    F y = splat(0.055171646f * most);
    y = y * rest + 0.24261117f * most;
    y = y * rest + 0.69326097f * most;
    y = y * rest + 0.99992806f * most;
    return as_float(as_int(y) + (as_int(shifted) << 23));
}

// Weights of 16 keys, rounded, as 8 words: those of keys i and i + 8 in one.
inline void put_weights(int32_t *to, const F (&weights)[KEYS / LANES]) {
    I q[KEYS / LANES];
    for (int i = 0; i < KEYS / LANES; ++i) q[i] = as_int(weights[i] + 12582912.0f);
    if constexpr (LANES == KEYS) {
        I order{};
        for (int i = 0; i < LANES; ++i) order[i] = i ^ 8;
        const I words = (q[0] & 0xFFFF) | __builtin_shuffle(q[0], order) << 16;
        std::memcpy(to, &words, KEYS / 2 * sizeof *to);
    } else {
        constexpr int half = KEYS / LANES / 2;
        for (int i = 0; i < half; ++i) store(to + i * LANES, (q[i] & 0xFFFF) | q[half + i] << 16);
    }
}

// What the values of keys are.
struct Values {
    const float *exponent, *inverse;
};

// A query's way through the blocks of keys.
struct Softmax {
    float highest = UNSEEN, sum = 0;
    float keep = 1, take = 0;  // factors of what was there before the last block, and of the block's own sums

    void join(float block_highest, float block_sum) {
        constexpr float inverse = 1.0f / (WEIGHT_MOST - 1);
        keep = take = 1;
        if (sum == 0) {
            highest = block_highest, sum = block_sum;
        } else if (block_highest > highest) {
            keep = weight_of(splat(highest - block_highest))[0] * inverse;
            highest = block_highest, sum = sum * keep + block_sum;
        } else {
            take = weight_of(splat(block_highest - highest))[0] * inverse;
            sum += block_sum * take;
        }
    }
    void divide() { keep /= sum, take /= sum; }
};

// The head of a text, and some queries of it.
class Attend {
public:
    explicit Attend(const nc::Attention &task)
        : task_(task), heads_(task.layer, (char *)task.heads, task.batch.offsets[task.batch.n_texts], task.batch.n_texts),
          place_(Heads::place(task.start(), task.text)), scores_((float *)task.scratch) {
        const int64_t key_head = task.head / (task.layer.n_heads / task.layer.n_key_heads);
        query_ = task.head * heads_.n_places + place_, key_ = key_head * heads_.n_places + place_;
    }

    void run() {
        const nc::Range all = task_.queries;
        for (int64_t first = all.first; first < all.last; first += QUERY_ROWS)
            run_rows(first, all.last - first < QUERY_ROWS ? all.last - first : QUERY_ROWS);
    }

private:
    void run_rows(int64_t first, int64_t rows) {
        const Span seen{seen_by(task_, first).first, seen_by(task_, first + rows - 1).last};
        Softmax softmax[QUERY_ROWS];
        float *out = task_.out + (first - task_.queries.first) * task_.out_stride;
        const int64_t first_block = seen.first / BLOCK_KEYS * BLOCK_KEYS;
        for (int64_t block = first_block; block < seen.last; block += BLOCK_KEYS) {
            const Span keys = seen.within({block, block + BLOCK_KEYS}).widened(KEYS);
            score(first, rows, keys);
            for (int64_t r = 0; r < rows; ++r) weigh(first + r, keys, scores_ + r * SCORE_STRIDE, softmax[r]);
            const bool is_last = block + BLOCK_KEYS >= seen.last;
            for (int64_t r = 0; is_last && r < rows; ++r) softmax[r].divide();
            block == first_block ? clear_rows(rows, out) : scale_rows(rows, softmax, out);
            add_values(rows, keys, softmax, out);
        }
    }

    // Scores of keys, in exponents of 2, from scores_ on.
    void score(int64_t first, int64_t rows, Span keys) {
        each_tile<Scores>(rows, (keys.last - keys.first) / LANES, [&](int64_t row, auto height, int64_t v, auto vectors) {
            score_tile<height(), vectors()>(first + row, scores_ + row * SCORE_STRIDE, keys.first, v);
        });
    }

    template <int rows, int vectors>
    __attribute__((noinline)) void score_tile(int64_t query, float *to, int64_t first_key, int64_t vector) {
        const int64_t n_words = heads_.size / QUERY_GROUP, key = key_ + first_key + vector * LANES, panel = (key_ + first_key) / KEYS;
        const Columns panels{(const int32_t *)heads_.keys + panel * KEYS * n_words, KEYS, KEYS * n_words};
        I total[rows][vectors];
#pragma GCC unroll 16
        for (int i = 0; i < vectors; ++i) {
            const I start = Scores::OFFSET ? load(heads_.key_start + key + i * LANES) : I{};
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r) total[r][i] = start;
        }
        const int32_t *queries = (const int32_t *)heads_.queries + (query_ + query) * n_words;
        multiply_words<Scores>(queries, n_words, panels, vector, n_words, total);
        const float *query_scale = heads_.query_scale + query_ + query;
#pragma GCC unroll 16
        for (int i = 0; i < vectors; ++i) {
            const F scale = load(heads_.key_scale + key + i * LANES), exponent = load(heads_.exponent + key + i * LANES);
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r)
                store(to + r * SCORE_STRIDE + (vector + i) * LANES, to_float(total[r][i]) * scale * query_scale[r] + exponent);
        }
    }

    // Scores of one query become weights, as words.
    void weigh(int64_t query, Span keys, float *scores, Softmax &softmax) {
        const Span seen = seen_by(task_, query).within(keys);
        int32_t *words = (int32_t *)scores;
        const int64_t n = keys.last - keys.first;
        if (seen.first >= seen.last) {
            std::memset(words, 0, n / 2 * sizeof *words);
            softmax.keep = 1, softmax.take = 0;
            return;
        }
        const Span own{seen.first - keys.first, seen.last - keys.first}, wide = own.widened(KEYS);
        if (task_.model.distance_bias) add_bias(scores, bias_of(task_, query) + keys.first, own);
        for (int64_t i = wide.first; i < own.first; ++i) scores[i] = UNSEEN;
        for (int64_t i = own.last; i < wide.last; ++i) scores[i] = UNSEEN;
        const float highest = largest_of(scores, wide);
        const float sum = round_weights(scores, wide, highest, heads_.inverse + key_ + keys.first, words);
        std::memset(words, 0, wide.first / 2 * sizeof *words);
        std::memset(words + wide.last / 2, 0, (n - wide.last) / 2 * sizeof *words);
        softmax.join(highest, sum);
    }

    static void add_bias(float *scores, const float *bias, Span keys) {
        for (int64_t i = keys.first; i < keys.last; ++i) scores[i] += bias[i] * LOG2_E;
    }

    static float largest_of(const float *scores, Span keys) {
        F highest = splat(UNSEEN);
        for (int64_t i = keys.first; i < keys.last; i += LANES) highest = larger(load(scores + i), highest);
        return fold_lanes(highest, [](F a, F b) { return larger(a, b); });
    }

    // Weights in place of their scores; returns their sum, of what they are without the scales of values.
    static float round_weights(const float *scores, Span keys, float highest, const float *inverse, int32_t *words) {
        F sum{};
        for (int64_t i = keys.first; i < keys.last; i += KEYS) {
            F weights[KEYS / LANES];
            for (int v = 0; v < KEYS / LANES; ++v) {
                weights[v] = weight_of(load(scores + i + v * LANES) - highest);
                sum += weights[v] * load(inverse + i + v * LANES);
            }
            put_weights(words + i / 2, weights);
        }
        return fold_lanes(sum, [](F a, F b) { return a + b; });
    }

    void clear_rows(int64_t rows, float *out) {
        for (int64_t r = 0; r < rows; ++r) std::memset(out + r * task_.out_stride, 0, heads_.size * sizeof *out);
    }

    // By themselves, so that it is one rounding whatever a compiler makes of a * b + c * d.
    void scale_rows(int64_t rows, const Softmax *softmax, float *out) {
        for (int64_t r = 0; r < rows; ++r, out += task_.out_stride)
            for (int64_t i = 0; i < heads_.size; i += LANES) store(out + i, load(out + i) * softmax[r].keep);
    }

    // out += weights @ values * take.
    void add_values(int64_t rows, Span keys, const Softmax *softmax, float *out) {
        each_tile<Pairs>(rows, heads_.size / LANES, [&](int64_t row, auto height, int64_t v, auto vectors) {
            values_tile<height(), vectors()>(row, keys, v, softmax + row, out + row * task_.out_stride + v * LANES);
        });
    }

    template <int rows, int vectors>
    __attribute__((noinline)) void values_tile(int64_t row, Span keys, int64_t vector, const Softmax *softmax, float *out) {
        const Columns values{(const int32_t *)heads_.values + (key_ + keys.first) / 2 * heads_.size, heads_.size, KEYS};
        I total[rows][vectors] = {};
        multiply_words<Pairs>((const int32_t *)scores_ + row * SCORE_STRIDE, SCORE_STRIDE, values, vector, (keys.last - keys.first) / 2, total);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r, out += task_.out_stride)
#pragma GCC unroll 16
            for (int i = 0; i < vectors; ++i) store(out + i * LANES, to_float(total[r][i]) * softmax[r].take + load(out + i * LANES));
    }

    const nc::Attention &task_;
    const Heads heads_;
    const int64_t place_;
    float *scores_;
    int64_t query_, key_;  // where the text begins, among queries and keys
};

void attend(const nc::Attention &task) { Attend(task).run(); }

}  // namespace
