#include <limits>

#include "heads.h"

using reference::Doubles;
using suite::Heads;
using suite::HeadsShape;
using suite::Random;

namespace {

constexpr int64_t kHead = 3;  // of six that read two

// Attention of one head, against float64 with queries, keys and values rounded as the header says. What is left is the rounding
// of weights to 1 / 8190 of the largest, and a component now and then that is rounded the other way.
void check_text(Heads &heads, double allowed) {
    heads.project();
    const std::vector<float> products = heads.products(), got = heads.attend(0, kHead);
    const Doubles expected = reference::attend(heads.task(0, kHead, products.data()), true);
    double most = 1;
    for (double x : expected) most = std::max(most, std::fabs(x));
    for (size_t i = 0; i < expected.size(); ++i)
        CHECK(std::fabs(got[i] - expected[i]) <= allowed * most, "%ld tokens of %ld, window %d, (%zu, %zu): %.9g, expected %.9g", heads.n_tokens(0),
              heads.size, heads.layer.window, i / heads.size, i % heads.size, got[i], expected[i]);
}

void check_lengths(const nc_kernels &kernels, const HeadsShape &shape, std::vector<int64_t> more = {64, 127, 128, 129, 256, 257, 530}) {
    Random random((uint64_t)(shape.head_size * 4 + shape.bias * 2 + shape.rotary));
    for (int64_t n = 1; n <= 40; ++n) more.push_back(n);
    for (int64_t n : more) {
        Heads heads(kernels, random, {n}, shape);
        check_text(heads, 2e-3);
    }
}

bool same_bits(const std::vector<float> &a, const std::vector<float> &b) {
    return a.size() == b.size() && !std::memcmp(a.data(), b.data(), a.size() * sizeof(float));
}

std::vector<float> part(const std::vector<float> &all, int64_t first, int64_t n) {
    return {all.begin() + first, all.begin() + first + n};
}

}  // namespace

TEST("attention equals float64 with the same roundings for heads of 16 to 256") {
    for (int32_t size : {16, 32, 48, 64}) check_lengths(kernels, {.head_size = size});
    for (int32_t size : {80, 128, 256}) check_lengths(kernels, {.head_size = size}, {300});
}
TEST("attention with relative bias equals float64") { check_lengths(kernels, {.head_size = 32, .bias = true}); }
TEST("attention with rotary positions equals float64") {
    for (int32_t size : {16, 64}) check_lengths(kernels, {.head_size = size, .rotary = true});
}

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

TEST("keys outside of a window are not looked at") {
    Random random(23);
    for (bool causal : {false, true}) {
        Heads heads(kernels, random, {700}, {.head_size = 16, .causal = causal, .window = 64});
        heads.project();
        const std::vector<float> clean = heads.attend(0, kHead);
        const int64_t damaged = 350;
        heads.rows.scale[damaged] *= -3;
        heads.project();
        const std::vector<float> changed = heads.attend(0, kHead);
        for (int64_t token = 0; token < 700; ++token) {
            const bool sees = reference::sees(heads.layer, token, damaged), same = same_bits(part(clean, token * 16, 16), part(changed, token * 16, 16));
            CHECK(same != sees, "token %ld sees it: %d, and its bits are the same: %d", token, sees, same);
        }
    }
}

TEST("scores of 10,000 and more give the softmax of float64") {
    Random random(21);
    for (int64_t n : {1, 2, 13, 33, 300}) {
        Heads heads(kernels, random, {n}, {.head_size = 32, .bias = true});
        for (size_t i = 0; i < heads.distance_bias.size(); ++i) heads.distance_bias[i] = i % 3 == 0 ? 1e4f : i % 3 == 1 ? -1e4f : 0;
        check_text(heads, 5e-3);  // 1e4 itself has steps of 1e-3 in float32
    }
}

TEST("a query alone has the bits that it has among others") {
    Random random(24);
    for (const HeadsShape &shape : {HeadsShape{.head_size = 48}, {.head_size = 16, .causal = true, .window = 20}, {.head_size = 32, .bias = true}})
        for (int64_t n : {1, 5, 31, 300, 600}) {
            Heads heads(kernels, random, {n}, shape);
            heads.project();
            const std::vector<float> all = heads.attend(0, kHead);
            for (int64_t query = 0; query < n; query += n < 40 ? 1 : 37)
                CHECK(same_bits(heads.attend(0, kHead, {query, query + 1}), part(all, query * heads.size, heads.size)), "query %ld of %ld %d: %.9g %.9g", query, n, (int)heads.size, heads.attend(0, kHead, {query, query + 1})[0], all[query * heads.size]);
        }
}

TEST("a text in a batch, projected in any pieces, has the bits that it has alone") {
    Random random(25);
    const std::vector<int64_t> lengths{1, 15, 16, 17, 1, 2, 31, 33, 290, 3};
    for (int32_t size : {16, 32, 80}) {
        const HeadsShape shape{.head_size = size, .bias = true, .rotary = true, .norms = true};
        Heads batch(kernels, random, lengths, shape);
        for (int64_t piece : {1, 3, 100}) {
            batch.project(piece);
            for (size_t i = 0; i < lengths.size(); ++i) {
                Random again(26);
                Heads alone(kernels, again, {lengths[i]}, shape);
                alone.product.weight = batch.product.weight, alone.product.column_scale = batch.product.column_scale;
                alone.product.column_sum = batch.product.column_sum, alone.product.bias = batch.product.bias;
                alone.layer = batch.layer, alone.layer.qkv = alone.product.view, alone.model = batch.model;
                for (int64_t row = 0; row < lengths[i]; ++row) {
                    const int64_t from = batch.offsets[i] + row;
                    alone.rows.scale[row] = batch.rows.scale[from], alone.rows.zero[row] = batch.rows.zero[from];
                    for (int64_t k = 0; k < 32; ++k) alone.rows.set(row, k, batch.rows.get(from, k));
                }
                alone.project();
                for (int64_t head = 0; head < 6; ++head)
                    CHECK(same_bits(batch.attend((int64_t)i, head), alone.attend(0, head)), "text %zu, head %ld, pieces of %ld", i, head, piece);
            }
        }
    }
}

// All components of queries, keys and values are the largest that there are: with equal scores, sums are the largest, too.
TEST("sums at the ends of all ranges do not overflow") {
    Random random(27);
    for (int32_t size : {16, 64, 1024})
        for (int64_t n : {1, 16, 127, 128, 129, 256, 777})
            for (float value : {1022.0f / 512, -1022.0f / 512}) {
                if (size == 1024 && n > 257) continue;
                Heads heads(kernels, random, {n}, {.head_size = size, .n_heads = 1, .n_key_heads = 1});
                std::fill(heads.product.column_scale.begin(), heads.product.column_scale.end(), 0.0f);
                std::fill(heads.product.bias.begin(), heads.product.bias.end(), value);
                heads.project();
                for (float got : heads.attend(0, 0)) CHECK(std::fabs(got - value) < 1e-3f, "%ld keys of %d: %.9g, expected %.9g", n, size, got, value);
            }
}

// Queries and keys of 1 or -1: scores are integers times a scale, and a softmax over two kinds of keys is known.
TEST("scores of components at the ends of their range are exact") {
    Random random(28);
    for (int32_t size : {16, 64, 256}) {
        const int64_t n = 40;
        Heads heads(kernels, random, {n}, {.head_size = size, .n_heads = 1, .n_key_heads = 1}, true);
        const float step = std::sqrt(2.0f / (float)size) / 64;
        std::fill(heads.product.column_scale.begin(), heads.product.column_scale.end(), step);
        std::fill(heads.product.bias.begin(), heads.product.bias.end(), 0.0f);
        for (int64_t row = 0; row < n; ++row)
            for (int64_t c = 0; c < 3 * size; ++c) heads.set(row, c, row % 4 == 0 ? 64 : -64);
        heads.project();
        const std::vector<float> got = heads.attend(0, 0);
        const double weight = std::exp(4.0), v = 64 * step;  // of keys of the query's own sign: 10 or 30 of 40
        for (int64_t i = 0; i < n * size; ++i) {
            const bool few = i / size % 4 == 0;
            const double same = (few ? 10 : 30) * weight, other = few ? 30 : 10;
            const double expected = (few ? v : -v) * (same - other) / (same + other);
            CHECK(std::fabs(got[i] - expected) < 1e-3 * v, "heads of %d, query %ld: %.9g, expected %.9g", size, i / size, got[i], expected);
        }
    }
}

// Key i has a value of its own in component i, and a score by its distance to query 0.
TEST("weights equal float64 to a part of the largest, and vanish far below") {
    Random random(29);
    const int64_t n = 64;
    Heads heads(kernels, random, {n}, {.head_size = 64, .bias = true, .n_heads = 1, .n_key_heads = 1}, true);
    std::fill(heads.product.column_scale.begin(), heads.product.column_scale.end(), 1.0f);
    std::fill(heads.product.bias.begin(), heads.product.bias.end(), 0.0f);
    for (int64_t row = 0; row < n; ++row) heads.set(row, 2 * heads.size + row, 32);
    heads.project();
    for (int round = 0; round < 200; ++round) {
        std::vector<double> scores(n);
        for (int64_t i = 1; i < n; ++i) heads.distance_bias[heads.longest - 1 + i] = random.uniform(-12, 0), scores[i] = heads.distance_bias[heads.longest - 1 + i];
        heads.distance_bias[heads.longest - 1] = 0;
        heads.distance_bias[heads.longest] = -3e38f, scores[1] = -3e38;
        const Doubles expected = reference::softmax(scores);
        const std::vector<float> got = heads.attend(0, 0, {0, 1});
        CHECK(got[1] == 0, "a weight far below is %.9g", got[1]);
        for (int64_t i = 0; i < n; ++i) {
            const double allowed = (0.51 / 8190 + 2e-4 * std::exp(scores[i])) * expected[0];
            CHECK(std::fabs(got[i] / 32 - expected[i]) < allowed, "exp(%.9g) is %.9g, expected %.9g", scores[i], got[i] / 32, expected[i]);
        }
    }
}

TEST("rows that are zero, huge, infinite or NaN do not crash attention, and reach no other text") {
    Random random(22);
    const float inf = std::numeric_limits<float>::infinity();
    for (int32_t window : {NC_UNBOUNDED, 3})
        for (float bad : {0.0f, 1e-40f, 1e25f, 3e38f, inf, -inf, std::nanf("")}) {
            Heads heads(kernels, random, {20, 30, 270}, {.head_size = 16, .bias = true, .rotary = true, .causal = true, .window = window});
            heads.project();
            const std::vector<float> before = heads.attend(1, kHead);
            for (int64_t row : {5, 7, 100, 319}) heads.rows.scale[row] = bad;
            heads.project();
            CHECK(same_bits(heads.attend(1, kHead), before), "%g in another text changed this one", bad);
            for (int64_t text : {0, 2}) CHECK(!heads.attend(text, kHead).empty(), "%g", bad);
            heads.product.bias.assign(heads.product.bias.size(), bad);
            heads.project();
            for (int64_t text : {0, 1, 2}) CHECK(!heads.attend(text, kHead).empty(), "%g", bad);
        }
}
