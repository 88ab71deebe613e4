// A little random encoder of any family, and the same in float64.
#pragma once

#include <deque>

#include "product.h"
#include "rows.h"

namespace suite {

enum class Positions { Learned, Distance, Rotary };

struct Shape {
    const char *name;
    Positions positions;
    int32_t activation, pooling, normalize, hidden, wide, n_heads;
};

constexpr Shape kShapes[] = {
    {"BERT", Positions::Learned, NC_GELU, NC_POOL_MEAN, 1, 64, 256, 2},
    {"MPNet", Positions::Distance, NC_GELU, NC_POOL_CLS, 1, 96, 208, 3},
    {"NomicBERT", Positions::Rotary, NC_SWIGLU, NC_POOL_MEAN, 1, 64, 80, 4},
    {"BERT, gelu_tanh", Positions::Learned, NC_GELU_TANH, NC_POOL_LAST, 0, 48, 32, 3},
    {"BERT, relu", Positions::Learned, NC_RELU, NC_POOL_MAX, 0, 128, 512, 2},
};

constexpr int32_t kVocabulary = 50, kLongest = 140, kLayers = 3;

class Model {
public:
    explicit Model(const Shape &shape, uint64_t seed = 1) : random_(seed) {
        const int64_t hidden = shape.hidden, half = hidden / shape.n_heads / 2;
        words.resize(kVocabulary * hidden);
        for (int8_t &w : words) w = (int8_t)random_.integer(-127, 127);
        word_scale = random_.floats(kVocabulary, 5e-3f, 2e-2f);
        view = {};
        view.words = words.data(), view.word_scale = word_scale.data(), view.embedding_norm = norm(hidden);
        view.epsilon = 1e-12f, view.n_layers = kLayers, view.hidden = shape.hidden, view.wide = shape.wide;
        view.n_heads = shape.n_heads, view.max_positions = kLongest, view.activation = shape.activation;
        view.pooling = shape.pooling, view.normalize = shape.normalize;
        if (shape.positions == Positions::Learned) view.positions = keep(random_.floats(kLongest * hidden, -1, 1));
        if (shape.positions == Positions::Distance)
            view.distance_bias = keep(random_.floats(shape.n_heads * (2 * kLongest - 1), -2, 2));
        if (shape.positions == Positions::Rotary) turn(half);
        for (int i = 0; i < kLayers; ++i) layers.push_back(layer(shape));
        view.layers = layers.data();
    }
    Model(const Model &) = delete;

    std::vector<int8_t> words;
    std::vector<float> word_scale;
    std::vector<nc_layer> layers;
    std::deque<Product> products;
    nc_model view;

private:
    const float *keep(std::vector<float> values) { return kept_.emplace_back(std::move(values)).data(); }

    nc_norm norm(int64_t n) { return {keep(random_.floats(n, 0.5f, 1.5f)), keep(random_.floats(n, -0.2f, 0.2f))}; }

    void turn(int64_t half) {
        std::vector<float> cosines, sines;
        for (int64_t i = 0; i < kLongest * half; ++i) {
            const double angle = (double)(i / half) * std::pow(1e4, -(double)(i % half) / (double)half);
            cosines.push_back((float)std::cos(angle)), sines.push_back((float)std::sin(angle));
        }
        view.cosines = keep(cosines), view.sines = keep(sines);
    }

    // Weights of some size, so that outputs are about as large as inputs.
    nc_product product(int64_t n_in, int64_t n_out) {
        Product &p = products.emplace_back(n_in, n_out);
        p.fill([&](int64_t, int64_t) { return random_.integer(-127, 127); });
        for (float &scale : p.column_scale) scale = random_.uniform(0.5f, 1.5f) / 73 / std::sqrt((float)(n_in * reference::block_of(n_in)));
        for (float &b : p.bias) b = random_.uniform(-0.3f, 0.3f);
        return p.view;
    }

    nc_layer layer(const Shape &s) {
        nc_layer l{};
        l.qkv = product(s.hidden, 3 * s.hidden), l.out = product(s.hidden, s.hidden);
        l.up = product(s.hidden, s.wide), l.down = product(s.wide, s.hidden);
        if (s.activation == NC_SWIGLU) l.gate = product(s.hidden, s.wide);
        l.attention_norm = norm(s.hidden), l.output_norm = norm(s.hidden);
        return l;
    }

    Random random_;
    std::deque<std::vector<float>> kept_;
};

// The encoder in float64; `quantized` rounds activations as the header says, else they stay as they are.
class Reference {
public:
    Reference(const nc_model &model, bool quantized) : m_(model), quantized_(quantized) {}

    reference::Doubles encode(const std::vector<int32_t> &ids) const {
        Rows x;
        for (size_t i = 0; i < ids.size(); ++i) x.push_back(reference::embed(m_, ids[i], (int32_t)i));
        for (int i = 0; i < m_.n_layers; ++i) run(m_.layers[i], x);
        return reference::pool(m_, x);
    }

private:
    using Rows = std::vector<reference::Doubles>;

    void run(const nc_layer &l, Rows &x) const {
        add(x, multiply(l.out, attend(multiply(l.qkv, x))), l.attention_norm);
        Rows inner = multiply(l.up, x);
        const Rows gate = m_.activation == NC_SWIGLU ? multiply(l.gate, x) : Rows{};
        for (size_t r = 0; r < inner.size(); ++r)
            for (size_t c = 0; c < inner[r].size(); ++c) inner[r][c] = activate(inner[r][c], gate.empty() ? 0 : gate[r][c]);
        add(x, multiply(l.down, inner), l.output_norm);
    }

    double activate(double y, double gate) const {
        switch (m_.activation) {
            case NC_GELU_TANH: return reference::gelu_tanh(y);
            case NC_RELU: return std::max(y, 0.0);
            case NC_SWIGLU: return y * reference::silu(gate);
            default: return reference::gelu(y);
        }
    }

    void add(Rows &x, const Rows &y, const nc_norm &norm) const {
        for (size_t r = 0; r < x.size(); ++r) {
            for (size_t i = 0; i < x[r].size(); ++i) x[r][i] += y[r][i];
            x[r] = reference::normalize(x[r], norm, m_.epsilon);
        }
    }

    reference::Doubles rounded(const reference::Doubles &x) const {
        reference::Doubles y = reference::hadamard(x);
        if (!quantized_) return y;
        double low = 0, high = 0;
        for (double value : y) low = std::min(low, value), high = std::max(high, value);
        const double scale = std::max((high - low) / (NC_HIGHEST - NC_LOWEST), 1e-30);
        const double zero = std::nearbyint(-low / scale) + NC_LOWEST;
        for (double &value : y)
            value = (std::clamp(std::nearbyint(value / scale) + zero, (double)NC_LOWEST, (double)NC_HIGHEST) - zero) * scale;
        return y;
    }

    Rows multiply(const nc_product &p, const Rows &rows) const {
        Rows all;
        for (const reference::Doubles &row : rows) {
            const reference::Doubles x = rounded(row);
            reference::Doubles &y = all.emplace_back(p.n_out);
            for (int64_t c = 0; c < p.n_out; ++c) {
                for (int64_t k = 0; k < p.n_in; ++k) y[c] += x[k] * p.weight[reference::packed_place(k, c, p.n_in)];
                y[c] = y[c] * p.column_scale[c] + p.bias[c];
            }
        }
        return all;
    }

    Rows attend(const Rows &qkv) const {
        std::vector<float> flat;
        for (const reference::Doubles &row : qkv) flat.insert(flat.end(), row.begin(), row.end());
        const int64_t size = m_.hidden / m_.n_heads, n = (int64_t)qkv.size();
        Rows out(n, reference::Doubles(m_.hidden));
        for (int64_t head = 0; head < m_.n_heads; ++head) {
            const float *bias = m_.distance_bias ? m_.distance_bias + head * (2 * m_.max_positions - 1) : nullptr;
            const reference::Doubles y = reference::attend(
                {flat.data(), nullptr, bias, m_.cosines, m_.sines, n, m_.hidden, size, head, m_.max_positions, nullptr});
            for (int64_t i = 0; i < n * size; ++i) out[i / size][head * size + i % size] = y[i];
        }
        return out;
    }

    const nc_model &m_;
    const bool quantized_;
};

}  // namespace suite
