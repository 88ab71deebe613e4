#include <algorithm>
#include <cmath>
#include <limits>

#include "reference.h"
#include "suite.h"

using reference::Doubles;
using suite::Random;

namespace {

constexpr float kUntouched = -12345;
constexpr int32_t kHead = 3;  // of six that read two: both neighbours must stay as they were

struct Shape {
    int32_t head_size;
    bool bias = false, rotary = false, norms = false, norm_bias = false, causal = false;
    int32_t window = NC_UNBOUNDED, n_heads = 6, n_key_heads = 2;
    int32_t norm = NC_LAYER_NORM;
};

struct Text {
    Text(Random &random, int64_t n_tokens, const Shape &shape, float size = 1)
        : n(n_tokens), stride((shape.n_heads + 2 * shape.n_key_heads) * shape.head_size), width(shape.n_heads * shape.head_size),
          longest(n_tokens + 5), qkv(random.floats(n * stride, -size, size)),
          bias(random.floats(shape.n_heads * (2 * longest - 1), -3, 3)),
          angles(random.floats(longest * shape.head_size / 2, -3, 3)), cosines(angles.size()), sines(angles.size()),
          norms(random.floats(6 * shape.head_size, 0.5f, 1.5f)), out(n * width, kUntouched),
          offsets{0, n} {
        for (size_t i = 0; i < angles.size(); ++i) cosines[i] = std::cos(angles[i]), sines[i] = std::sin(angles[i]);
        model.max_positions = (int32_t)longest, model.norm = shape.norm, model.epsilon = 1e-6f;
        if (shape.bias) model.distance_bias = bias.data();
        layer.n_heads = shape.n_heads, layer.n_key_heads = shape.n_key_heads, layer.head_size = shape.head_size;
        layer.causal = shape.causal, layer.window = shape.window;
        if (shape.rotary) layer.cosines = cosines.data(), layer.sines = sines.data();
        const auto norm_of = [&](int part) -> nc_norm {
            const float *weight = norms.data() + 2 * part * shape.head_size;
            return {weight, shape.norm_bias ? weight + shape.head_size : nullptr};
        };
        if (shape.norms) layer.query_norm = norm_of(0), layer.key_norm = norm_of(1), layer.value_norm = norm_of(2);
    }
    Text(const Text &) = delete;

    nc::Attention task(const nc_kernels &kernels) {
        scratch = suite::aligned_bytes((size_t)kernels.attention_bytes(layer, n));
        return {model, layer, batch, (const char *)qkv.data(), 0, kHead, {0, n}, out.data() + kHead * layer.head_size, width, (char *)scratch.get()};
    }

    int64_t n, stride, width, longest;
    std::vector<float> qkv, bias, angles, cosines, sines, norms, out;
    std::vector<int64_t> offsets;
    std::shared_ptr<void> scratch;
    nc_batch batch{nullptr, nullptr, offsets.data(), 1};
    nc_model model{};
    nc_attention layer{};
};

void check_text(const nc_kernels &kernels, Text &text, double allowed) {
    kernels.attend(text.task(kernels));
    const Doubles expected = reference::attend(text.task(kernels));
    const int64_t size = text.layer.head_size;
    for (int64_t token = 0; token < text.n; ++token)
        for (int64_t i = 0; i < text.width; ++i) {
            const float got = text.out[token * text.width + i];
            if (i / size != kHead) {
                CHECK(got == kUntouched, "%ld tokens: another head's (%ld, %ld) was written", text.n, token, i);
                continue;
            }
            const double wanted = expected[token * size + i % size];
            CHECK(std::fabs(got - wanted) <= allowed, "%ld tokens of %ld, window %d, (%ld, %ld): %.9g, expected %.9g", text.n, size,
                  text.layer.window, token, i % size, got, wanted);
        }
}

void check_lengths(const nc_kernels &kernels, const Shape &shape, std::vector<int64_t> more = {64, 127, 128, 129, 300}) {
    Random random((uint64_t)(shape.head_size * 4 + shape.bias * 2 + shape.rotary));
    for (int64_t n = 1; n <= 40; ++n) more.push_back(n);
    for (int64_t n : more) {
        Text text(random, n, shape);
        check_text(kernels, text, 3e-5);
    }
}

}  // namespace

TEST("attention equals float64 for heads of 16 to 256") {
    for (int32_t size : {16, 32, 48, 64}) check_lengths(kernels, {.head_size = size});
    for (int32_t size : {80, 128, 256}) check_lengths(kernels, {.head_size = size}, {});
}
TEST("attention with relative bias equals float64") { check_lengths(kernels, {.head_size = 32, .bias = true}); }
TEST("attention with rotary positions equals float64") { check_lengths(kernels, {.head_size = 64, .rotary = true}); }

TEST("attention with norms of queries, keys and values equals float64") {
    for (int32_t kind : {NC_LAYER_NORM, NC_RMS_NORM})
        for (bool rotary : {false, true})
            for (bool bias : {false, true})
                check_lengths(kernels, {.head_size = 32, .rotary = rotary, .norms = true, .norm_bias = bias, .norm = kind}, {});
}

TEST("heads that share keys, all of them or none, read their own") {
    for (int32_t n_key_heads : {1, 2, 3, 6}) check_lengths(kernels, {.head_size = 16, .n_key_heads = n_key_heads}, {});
}

TEST("causal attention equals float64") {
    for (bool bias : {false, true}) check_lengths(kernels, {.head_size = 32, .bias = bias, .causal = true});
}

TEST("windows of any width equal float64, causal or not") {
    for (int32_t window : {0, 1, 2, 5, 11, 12, 13, 16, 31, 64, 200, 2147483647})
        for (bool causal : {false, true})
            check_lengths(kernels, {.head_size = 16, .bias = window % 2 == 1, .causal = causal, .window = window}, {100, 300});
}

// What is far outside holds NaN, which would come through even with a weight of 0.
TEST("keys far outside of a window are not looked at") {
    Random random(23);
    for (bool causal : {false, true}) {
        Text text(random, 700, {.head_size = 16, .causal = causal, .window = 64}), clean(random, 700, {.head_size = 16});
        clean.qkv = text.qkv, clean.layer.causal = causal, clean.layer.window = 64;
        const int64_t damaged = 350, key = damaged * text.stride + 6 * 16, size = text.layer.head_size;
        std::fill_n(text.qkv.begin() + key, 4 * size, std::nanf(""));
        kernels.attend(text.task(kernels));
        kernels.attend(clean.task(kernels));
        for (int64_t token = 0; token < text.n; ++token) {
            const float *row = &text.out[token * text.width + kHead * size], *same = &clean.out[token * text.width + kHead * size];
            const int64_t distance = std::abs(token - damaged);
            if (distance > 64 + 12 + nc::kWidest)
                CHECK(std::equal(row, row + size, same), "a token %ld away changed", distance);
            if (token == damaged) CHECK(std::isnan(row[0]), "a key of its own is not looked at");
        }
    }
}

TEST("scores of 10,000 and more give the softmax of float64") {
    Random random(21);
    for (int64_t n : {1, 2, 13, 33}) {
        Text text(random, n, {.head_size = 32, .bias = true});
        for (size_t i = 0; i < text.bias.size(); ++i) text.bias[i] = i % 3 == 0 ? 1e4f : i % 3 == 1 ? -1e4f : 0;
        check_text(kernels, text, 2e-3);  // 1e4 itself has steps of 1e-3 in float32
        for (float &b : text.bias) b = -3e37f;  // all equal: plain means
        check_text(kernels, text, 2e-5);
    }
}

TEST("scores that are NaN or infinite do not crash attention") {
    Random random(22);
    for (float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), 3e38f})
        for (int32_t window : {NC_UNBOUNDED, 3}) {
            Text text(random, 20, {.head_size = 16, .causal = true, .window = window});
            text.qkv[5 * text.stride + kHead * 16] = bad;
            text.qkv[7 * text.stride + (6 + 1) * 16] = bad;
            kernels.attend(text.task(kernels));
            CHECK(text.out[0] == kUntouched, "another head was written");
        }
}
