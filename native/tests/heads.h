// Queries, keys and values of a batch in INT8, by way of a product whose results are known.
#pragma once

#include <algorithm>
#include <cmath>

#include "product.h"
#include "rows.h"

namespace suite {

struct HeadsShape {
    int32_t head_size;
    bool bias = false, rotary = false, norms = false, norm_bias = false, causal = false;
    int32_t window = NC_UNBOUNDED, n_heads = 6, n_key_heads = 2;
    int32_t norm = NC_LAYER_NORM;
};

// Texts of some lengths with random rows, or where `apart`, with rows that `set` gives any integers.
class Heads {
public:
    Heads(const nc_kernels &kernels, Random &random, const std::vector<int64_t> &lengths, const HeadsShape &shape, bool apart = false)
        : kernels_(kernels), size(shape.head_size), width(shape.n_heads * size), offsets(1, 0),
          n_rows_(total(lengths)), n_in_(apart ? 8 * nc::round_up(n_rows_, 2) : 32),
          product(n_in_, width + 2 * shape.n_key_heads * size), rows(kernels, n_rows_, nc::round_up(n_in_, 64)),
          longest(*std::max_element(lengths.begin(), lengths.end()) + 5),
          distance_bias(random.floats(shape.n_heads * (2 * longest - 1), -3, 3)), norms_(random.floats(6 * size, 0.5f, 1.5f)) {
        for (int64_t n : lengths) offsets.push_back(offsets.back() + n);
        for (float angle : random.floats(longest * size / 2, -3, 3)) cosines_.push_back(std::cos(angle)), sines_.push_back(std::sin(angle));
        apart ? fill_apart() : fill(random);
        batch = {nullptr, nullptr, offsets.data(), (int32_t)lengths.size()};
        model.max_positions = (int32_t)longest, model.norm = shape.norm, model.epsilon = 1e-6f;
        if (shape.bias) model.distance_bias = distance_bias.data();
        layer.qkv = product.view, layer.n_heads = shape.n_heads, layer.n_key_heads = shape.n_key_heads, layer.head_size = shape.head_size;
        layer.causal = shape.causal, layer.window = shape.window;
        if (shape.rotary) layer.cosines = cosines_.data(), layer.sines = sines_.data();
        const auto norm_of = [&](int part) -> nc_norm {
            const float *weight = norms_.data() + 2 * part * size;
            return {weight, shape.norm_bias ? weight + size : nullptr};
        };
        if (shape.norms) layer.query_norm = norm_of(0), layer.key_norm = norm_of(1), layer.value_norm = norm_of(2);
    }
    Heads(const Heads &) = delete;

    // A row's component before biases and scales, of a batch whose rows are `apart`.
    void set(int64_t row, int64_t column, int8_t weight) {
        int8_t &at = product.weight[reference::packed_place(8 * row, column, n_in_)];
        product.column_sum[column] += weight - at;
        at = weight;
    }

    // Heads are projected in pieces of so many.
    void project(int64_t piece = 1 << 20) {
        memory_ = aligned_bytes((size_t)kernels_.heads_bytes(layer, n_rows_, batch.n_texts));
        const int64_t n = layer.n_heads + 2 * layer.n_key_heads;
        for (int64_t head = 0; head < n; head += piece)
            kernels_.project(rows.view(), model, layer, batch, (char *)memory_.get(), {head, std::min(n, head + piece)});
    }

    // What `project` makes heads of, as float rows.
    std::vector<float> products() {
        std::vector<float> all(n_rows_ * product.view.n_out);
        kernels_.multiply(rows.view(), product.view, false, all.data(), {0, n_rows_}, {0, product.view.n_out / NC_PANEL});
        return all;
    }

    nc::Attention task(int64_t text, int64_t head, const float *products = nullptr) const {
        return {model, layer, batch, products ? (const char *)products : (const char *)memory_.get(), text, head, {0, n_tokens(text)}, nullptr, 0, nullptr};
    }

    // [queries][head size]; memory beside it is looked after.
    std::vector<float> attend(int64_t text, int64_t head, nc::Range queries) {
        constexpr float untouched = -12345;
        const int64_t n = queries.last - queries.first, stride = 3 * size;
        std::vector<float> out(n * stride, untouched), own;
        const auto scratch = aligned_bytes((size_t)kernels_.attention_bytes(layer, n_tokens(text)));
        kernels_.attend({model, layer, batch, (const char *)memory_.get(), text, head, queries, out.data() + size, stride, (char *)scratch.get()});
        for (int64_t i = 0; i < n * stride; ++i)
            if (i % stride / size == 1)
                own.push_back(out[i]);
            else
                CHECK(out[i] == untouched, "another head's component was written: %ld", i);
        return own;
    }
    std::vector<float> attend(int64_t text, int64_t head) { return attend(text, head, {0, n_tokens(text)}); }

    int64_t n_tokens(int64_t text) const { return offsets[text + 1] - offsets[text]; }

private:
    static int64_t total(const std::vector<int64_t> &lengths) {
        int64_t n = 0;
        for (int64_t length : lengths) n += length;
        return n;
    }

    // Components of about 1, queries so that scores are.
    void fill(Random &random) {
        product.fill([&](int64_t, int64_t) { return random.integer(-127, 127); });
        for (int64_t c = 0; c < product.view.n_out; ++c) {
            product.column_scale[c] = random.uniform(0.5f, 1.5f) / 40000 / (c < width ? std::sqrt((float)size) : 1);
            product.bias[c] = random.uniform(-0.3f, 0.3f) / (c < width ? std::sqrt((float)size) : 1);
        }
        for (int64_t row = 0; row < n_rows_; ++row) {
            rows.scale[row] = random.uniform(0.5f, 2), rows.zero[row] = (int32_t)random.integer(-30, 30);
            for (int64_t k = 0; k < n_in_; ++k) rows.set(row, k, (int32_t)random.integer(NC_LOWEST, NC_HIGHEST));
        }
    }

    // Row r reads input 8 r alone.
    void fill_apart() {
        for (int64_t row = 0; row < n_rows_; ++row) {
            rows.scale[row] = 1, rows.zero[row] = 0;
            for (int64_t k = 0; k < n_in_; ++k) rows.set(row, k, k == 8 * row);
        }
    }

    const nc_kernels &kernels_;

public:
    const int64_t size, width;
    std::vector<int64_t> offsets;

private:
    const int64_t n_rows_, n_in_;

public:
    Product product;
    Rows rows;
    const int64_t longest;
    std::vector<float> distance_bias;
    nc_batch batch;
    nc_model model{};
    nc_attention layer{};

private:
    std::vector<float> norms_, cosines_, sines_;
    std::shared_ptr<void> memory_;
};

}  // namespace suite
