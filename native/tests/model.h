// A little random encoder of any family, and the same in float64.
#pragma once

#include <deque>
#include <utility>

#include "floats.h"
#include "product.h"
#include "rows.h"

namespace suite {

enum class Positions { Learned, Distance, Rotary, None };
enum Place { kBefore = 1, kInner = 2, kAfter = 4 };

struct Step {
    int32_t n_out, activation;
    bool bias = true, residual = false;
};

struct Shape {
    const char *name;
    Positions positions = Positions::Learned;
    int32_t hidden = 64, wide = 96, n_heads = 2, n_key_heads = n_heads, head_size = hidden / n_heads;
    int32_t activation = NC_GELU;
    bool gated = false;
    int32_t norm = NC_LAYER_NORM;
    int places = kAfter;           // of norms around each sublayer
    bool first_before = true;      // the first layer has a norm before attention, where others do
    bool embedding_norm = true, end_norm = false, norm_bias = true;
    bool query_norm = false, key_norm = false, value_norm = false;
    bool causal = false;
    int32_t window = NC_UNBOUNDED; // of all layers but the last
    std::vector<int32_t> poolings = {NC_POOL_MEAN};
    std::vector<Step> steps = {};
    int32_t normalize = 1;
};

inline const Shape kShapes[] = {
    {.name = "BERT", .wide = 256},
    {.name = "MPNet", .positions = Positions::Distance, .hidden = 96, .wide = 208, .n_heads = 3, .poolings = {NC_POOL_CLS}},
    {.name = "NomicBERT", .positions = Positions::Rotary, .wide = 80, .n_heads = 4, .activation = NC_SILU, .gated = true},
    {.name = "BERT, gelu_tanh", .hidden = 48, .wide = 32, .n_heads = 3, .activation = NC_GELU_TANH, .poolings = {NC_POOL_LAST},
     .normalize = 0},
    {.name = "BERT, relu", .hidden = 128, .wide = 512, .activation = NC_RELU, .poolings = {NC_POOL_MAX}, .normalize = 0},
    {.name = "GTE", .positions = Positions::Rotary, .gated = true, .poolings = {NC_POOL_CLS}},
    {.name = "ModernBERT", .positions = Positions::Rotary, .gated = true, .places = kBefore, .first_before = false,
     .end_norm = true, .norm_bias = false, .window = 5},
    {.name = "Qwen3", .positions = Positions::Rotary, .hidden = 48, .n_heads = 6, .n_key_heads = 2, .head_size = 16,
     .activation = NC_SILU, .gated = true, .norm = NC_RMS_NORM, .places = kBefore, .embedding_norm = false, .end_norm = true,
     .norm_bias = false, .query_norm = true, .key_norm = true, .causal = true, .poolings = {NC_POOL_LAST}},
    {.name = "Gemma 3", .positions = Positions::Rotary, .hidden = 80, .wide = 112, .n_heads = 3, .n_key_heads = 1,
     .head_size = 48, .activation = NC_GELU_TANH, .gated = true, .norm = NC_RMS_NORM, .places = kBefore | kInner,
     .embedding_norm = false, .end_norm = true, .norm_bias = false, .query_norm = true, .key_norm = true, .window = 7,
     .steps = {{240, NC_IDENTITY, false}, {80, NC_IDENTITY, false}}},
    {.name = "every norm, causal windows, every pooling, steps with and without a residual", .hidden = 32, .wide = 176,
     .n_heads = 4, .n_key_heads = 4, .head_size = 32, .activation = NC_RELU, .gated = true,
     .places = kBefore | kInner | kAfter, .end_norm = true, .query_norm = true, .key_norm = true, .value_norm = true,
     .causal = true, .window = 3,
     .poolings = {NC_POOL_WEIGHTED, NC_POOL_ROOT, NC_POOL_MEAN, NC_POOL_CLS, NC_POOL_MAX, NC_POOL_LAST},
     .steps = {{37, NC_TANH, true, true}, {37, NC_GELU, true, true}, {50, NC_SIGMOID}, {23, NC_SILU, false}}, .normalize = 0},
    {.name = "no norms but the last, heads wider than hidden states, silu", .positions = Positions::None, .hidden = 16,
     .wide = 16, .n_heads = 5, .n_key_heads = 1, .head_size = 16, .activation = NC_SILU, .norm = NC_RMS_NORM, .places = 0,
     .embedding_norm = false, .end_norm = true, .poolings = {NC_POOL_ROOT, NC_POOL_WEIGHTED},
     .steps = {{5, NC_RELU, true, true}}},
};

constexpr int32_t kVocabulary = 50, kLongest = 140, kLayers = 3;

class Model {
public:
    explicit Model(const Shape &shape, int32_t precision = NC_INT8, uint64_t seed = 1)
        : precision(precision), shape_(shape), random_(seed) {
        const int64_t hidden = shape.hidden;
        words.resize(kVocabulary * hidden);
        for (int8_t &w : words) w = (int8_t)random_.integer(-127, 127);
        word_scale = random_.floats(kVocabulary, 5e-3f, 2e-2f);
        view = {};
        view.words = words.data(), view.word_scale = word_scale.data();
        if (precision != NC_INT8) use_float_words();
        view.embedding_norm = norm(hidden, shape.embedding_norm), view.end_norm = norm(hidden, shape.end_norm);
        view.epsilon = 1e-12f, view.n_layers = kLayers, view.hidden = shape.hidden, view.max_positions = kLongest;
        view.norm = shape.norm, view.activation = shape.activation, view.normalize = shape.normalize;
        view.poolings = shape_.poolings.data(), view.n_poolings = (int32_t)shape_.poolings.size();
        if (shape.positions == Positions::Learned) view.positions = keep(random_.floats(kLongest * hidden, -1, 1));
        if (shape.positions == Positions::Distance)
            view.distance_bias = keep(random_.floats(shape.n_heads * (2 * kLongest - 1), -2, 2));
        for (int i = 0; i < kLayers; ++i) layers.push_back(layer(i));
        view.layers = layers.data();
        int32_t size = view.n_poolings * shape.hidden;
        for (const Step &step : shape_.steps) steps.push_back(dense(step, size)), size = step.n_out;
        view.dense = steps.data(), view.n_dense = (int32_t)steps.size();
    }
    Model(const Model &) = delete;

    const int32_t precision;
    std::vector<int8_t> words;
    std::vector<float> word_scale;
    std::vector<nc_layer> layers;
    std::vector<nc_dense> steps;
    std::deque<Product> products;  // of INT8
    std::deque<FloatProduct> float_products;
    std::shared_ptr<void> float_words;
    nc_model view;

private:
    const float *keep(std::vector<float> values) { return kept_.emplace_back(std::move(values)).data(); }

    nc_norm norm(int64_t n, bool is_there = true) {
        if (!is_there) return {};
        const float *weight = keep(random_.floats(n, 0.5f, 1.5f));
        return {weight, shape_.norm_bias ? keep(random_.floats(n, -0.2f, 0.2f)) : nullptr};
    }

    nc_norms norms(bool before) {
        return {norm(shape_.hidden, before), norm(shape_.hidden, shape_.places & kInner), norm(shape_.hidden, shape_.places & kAfter)};
    }

    void turn(nc_attention &attention, double base) {
        const int64_t half = attention.head_size / 2;
        std::vector<float> cosines, sines;
        for (int64_t i = 0; i < kLongest * half; ++i) {
            const double angle = (double)(i / half) * std::pow(base, -(double)(i % half) / (double)half);
            cosines.push_back((float)std::cos(angle)), sines.push_back((float)std::sin(angle));
        }
        attention.cosines = keep(cosines), attention.sines = keep(sines);
    }

    // bfloat16 has halves for words.
    void use_float_words() {
        view.word_precision = precision == NC_BF16 ? NC_FP16 : precision, view.word_scale = nullptr;
        float_words = aligned_bytes(words.size() * bytes_of(view.word_precision));
        for (size_t i = 0; i < words.size(); ++i)
            write_float(float_words.get(), (int64_t)i, random_.uniform(-1, 1), view.word_precision);
        view.words = float_words.get();
    }

    // Weights of some size, so that outputs are about as large as inputs.
    nc_product product(int64_t n_in, int64_t n_out) {
        if (precision != NC_INT8)
            return float_products.emplace_back(random_, n_in, n_out, precision, 1.7f / std::sqrt((float)n_in)).view;
        Product &p = products.emplace_back(n_in, n_out);
        p.fill([&](int64_t, int64_t) { return random_.integer(-127, 127); });
        for (float &scale : p.column_scale) scale = random_.uniform(0.5f, 1.5f) / 73 / std::sqrt((float)(n_in * reference::block_of(n_in)));
        for (float &b : p.bias) b = random_.uniform(-0.3f, 0.3f);
        return p.view;
    }

    nc_attention attention(int number) {
        const Shape &s = shape_;
        const int32_t width = s.n_heads * s.head_size;
        nc_attention a{};
        a.qkv = product(s.hidden, width + 2 * s.n_key_heads * s.head_size), a.out = product(width, s.hidden);
        a.query_norm = norm(s.head_size, s.query_norm), a.key_norm = norm(s.head_size, s.key_norm);
        a.value_norm = norm(s.head_size, s.value_norm);
        a.n_heads = s.n_heads, a.n_key_heads = s.n_key_heads, a.head_size = s.head_size, a.causal = s.causal;
        a.window = number + 1 < kLayers ? s.window : NC_UNBOUNDED;
        if (s.positions == Positions::Rotary) turn(a, a.window == NC_UNBOUNDED ? 1e4 : 1e3);
        return a;
    }

    nc_layer layer(int number) {
        nc_layer l{};
        l.attention = attention(number);
        l.up = product(shape_.hidden, shape_.wide), l.down = product(shape_.wide, shape_.hidden);
        if (shape_.gated) l.gate = product(shape_.hidden, shape_.wide);
        l.attention_norms = norms(shape_.places & kBefore && (number || shape_.first_before));
        l.feed_forward_norms = norms(shape_.places & kBefore);
        return l;
    }

    nc_dense dense(const Step &step, int32_t n_in) {
        const int64_t n = (int64_t)n_in * step.n_out;
        const float most = 1.7f / std::sqrt((float)n_in);
        nc_dense d{keep(random_.floats(n, -most, most)), nullptr, nullptr, n_in, step.n_out, step.activation, step.residual};
        if (step.bias) d.bias = keep(random_.floats(step.n_out, -0.3f, 0.3f));
        if (step.residual && n_in != step.n_out) d.residual = keep(random_.floats(n, -most, most));
        return d;
    }

    const Shape shape_;
    Random random_;
    std::deque<std::vector<float>> kept_;
};

// The encoder in float64; `rounds` rounds activations as the header says, else they stay as they are.
class Reference {
public:
    Reference(const nc_model &model, int32_t precision, bool rounds) : m_(model), precision_(precision), rounds_(rounds) {}

    reference::Doubles encode(const std::vector<int32_t> &ids) const {
        Rows x;
        for (size_t i = 0; i < ids.size(); ++i) x.push_back(reference::embed(m_, ids[i], (int32_t)i));
        for (int i = 0; i < m_.n_layers; ++i) run(m_.layers[i], x);
        return reference::finish(m_, normalized(x, m_.end_norm));
    }

private:
    using Rows = std::vector<reference::Doubles>;

    void run(const nc_layer &l, Rows &x) const {
        const Rows qkv = multiply(l.attention.qkv, normalized(x, l.attention_norms.before));
        add(x, multiply(l.attention.out, attend(l.attention, qkv)), l.attention_norms);
        const Rows input = normalized(x, l.feed_forward_norms.before);
        Rows inner = multiply(l.up, input), gate = l.gate.weight ? multiply(l.gate, input) : Rows{};
        for (size_t r = 0; r < inner.size(); ++r)
            for (size_t c = 0; c < inner[r].size(); ++c)
                inner[r][c] = gate.empty() ? reference::activate(m_.activation, inner[r][c])
                                           : inner[r][c] * reference::activate(m_.activation, gate[r][c]);
        add(x, multiply(l.down, inner), l.feed_forward_norms);
    }

    Rows normalized(Rows x, const nc_norm &norm) const {
        for (reference::Doubles &row : x) row = reference::normalize(row, norm, m_);
        return x;
    }

    void add(Rows &x, Rows y, const nc_norms &norms) const {
        y = normalized(y, norms.inner);
        for (size_t r = 0; r < x.size(); ++r)
            for (size_t i = 0; i < x[r].size(); ++i) x[r][i] += y[r][i];
        x = normalized(x, norms.after);
    }

    reference::Doubles rounded(const reference::Doubles &x) const {
        if (precision_ != NC_INT8) return rounded_floats(x);
        reference::Doubles y = reference::hadamard(x);
        if (!rounds_) return y;
        double low = 0, high = 0;
        for (double value : y) low = std::min(low, value), high = std::max(high, value);
        const double scale = std::max((high - low) / (NC_HIGHEST - NC_LOWEST), 1e-30);
        const double zero = std::nearbyint(-low / scale) + NC_LOWEST;
        for (double &value : y)
            value = (std::clamp(std::nearbyint(value / scale) + zero, (double)NC_LOWEST, (double)NC_HIGHEST) - zero) * scale;
        return y;
    }

    reference::Doubles rounded_floats(reference::Doubles x) const {
        if (precision_ == NC_BF16 && rounds_)
            for (double &value : x) value = from_bf16(to_bf16((float)value));
        return x;
    }

    double weight(const nc_product &p, int64_t k, int64_t c) const {
        if (precision_ != NC_INT8) return read_float(p.weight, float_place(k, c, p.n_in, precision_), precision_);
        return ((const int8_t *)p.weight)[reference::packed_place(k, c, p.n_in)] * (double)p.column_scale[c];
    }

    Rows multiply(const nc_product &p, const Rows &rows) const {
        reference::Doubles weights;
        for (int64_t c = 0; c < p.n_out; ++c)
            for (int64_t k = 0; k < p.n_in; ++k) weights.push_back(weight(p, k, c));
        Rows all;
        for (const reference::Doubles &row : rows) {
            const reference::Doubles x = rounded(row);
            reference::Doubles &y = all.emplace_back(p.n_out);
            for (int64_t c = 0; c < p.n_out; ++c) {
                for (int64_t k = 0; k < p.n_in; ++k) y[c] += x[k] * weights[c * p.n_in + k];
                y[c] += p.bias[c];
            }
        }
        return all;
    }

    Rows attend(const nc_attention &layer, const Rows &qkv) const {
        std::vector<float> flat;
        for (const reference::Doubles &row : qkv) flat.insert(flat.end(), row.begin(), row.end());
        const int64_t size = layer.head_size, n = (int64_t)qkv.size();
        Rows out(n, reference::Doubles(layer.n_heads * size));
        for (int64_t head = 0; head < layer.n_heads; ++head) {
            const int64_t offsets[] = {0, n};
            const nc_batch batch{nullptr, nullptr, offsets, 1};
            const reference::Doubles y = reference::attend({m_, layer, batch, (const char *)flat.data(), 0, head, {0, n}, nullptr, 0, nullptr}, rounds_ && precision_ == NC_INT8);
            for (int64_t i = 0; i < n * size; ++i) out[i / size][head * size + i % size] = y[i];
        }
        return out;
    }

    const nc_model &m_;
    const int32_t precision_;
    const bool rounds_;
};

}  // namespace suite
