// Which keys a query sees, and what is added to their scores.
#pragma once

#include "vector.h"

namespace {

struct Span {
    int64_t first, last;

    // With the ends moved out to multiples.
    Span widened(int64_t to) const { return {first / to * to, nc::round_up(last, to)}; }
    Span within(Span other) const {
        return {first > other.first ? first : other.first, last < other.last ? last : other.last};
    }
};

inline Span seen_by(const nc::Attention &task, int64_t query) {
    const int64_t window = task.layer.window, n = task.n_tokens();
    const int64_t last = task.layer.causal ? query + 1 : n;
    if (window == NC_UNBOUNDED) return {0, last};
    return {query > window ? query - window : 0, last - query - 1 > window ? query + window + 1 : last};
}

// The biases of a query, by key: they go by key - query, and their middle is distance 0.
inline const float *bias_of(const nc::Attention &task, int64_t query) {
    const int64_t n = task.model.max_positions;
    return task.model.distance_bias + task.head * (2 * n - 1) + n - 1 - query;
}

}  // namespace
