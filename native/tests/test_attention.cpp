#include <cmath>
#include <limits>

#include "reference.h"
#include "suite.h"

using reference::Doubles;
using suite::Random;

namespace {

constexpr float kUntouched = -12345;
constexpr int64_t kHeads = 3, kHead = 1;  // the one in the middle: both neighbours must stay as they were

struct Text {
    Text(Random &random, int64_t n_tokens, int64_t head_size, float size)
        : n(n_tokens), hidden(kHeads * head_size), longest(n_tokens + 5), qkv(random.floats(n * 3 * hidden, -size, size)),
          bias(random.floats(2 * longest - 1, -3, 3)), angles(random.floats(longest * head_size / 2, -3, 3)),
          cosines(angles.size()), sines(angles.size()), out(n * hidden, kUntouched),
          scratch(nc::attention_floats(n, head_size), std::nanf("")) {
        for (size_t i = 0; i < angles.size(); ++i) cosines[i] = std::cos(angles[i]), sines[i] = std::sin(angles[i]);
        task = {qkv.data(), out.data(), nullptr, nullptr, nullptr, n, hidden, head_size, kHead, longest, scratch.data()};
    }
    Text(const Text &) = delete;

    int64_t n, hidden, longest;
    std::vector<float> qkv, bias, angles, cosines, sines, out, scratch;
    nc::Attention task;
};

void check_text(const nc_kernels &kernels, Text &text, double allowed) {
    kernels.attend(text.task);
    const Doubles expected = reference::attend(text.task);
    const int64_t size = text.task.head_size;
    for (int64_t token = 0; token < text.n; ++token)
        for (int64_t i = 0; i < text.hidden; ++i) {
            const float got = text.out[token * text.hidden + i];
            if (i / size != kHead) {
                CHECK(got == kUntouched, "%ld tokens: another head's (%ld, %ld) was written", text.n, token, i);
                continue;
            }
            const double wanted = expected[token * size + i % size];
            CHECK(std::fabs(got - wanted) <= allowed, "%ld tokens of %ld, (%ld, %ld): %.9g, expected %.9g", text.n, size, token,
                  i % size, got, wanted);
        }
}

void check_lengths(const nc_kernels &kernels, int64_t head_size, bool with_bias, bool rotary) {
    Random random((uint64_t)(head_size * 4 + with_bias * 2 + rotary));
    std::vector<int64_t> lengths;
    for (int64_t n = 1; n <= 40; ++n) lengths.push_back(n);
    for (int64_t n : {64, 127, 128, 129, 300}) lengths.push_back(n);
    for (int64_t n : lengths) {
        Text text(random, n, head_size, 1);
        if (with_bias) text.task.bias = text.bias.data();
        if (rotary) text.task.cosines = text.cosines.data(), text.task.sines = text.sines.data();
        check_text(kernels, text, 2e-5);
    }
}

}  // namespace

TEST("attention equals float64 for heads of 16, 32, 48 and 64") {
    for (int64_t size : {16, 32, 48, 64}) check_lengths(kernels, size, false, false);
}
TEST("attention with relative bias equals float64") { check_lengths(kernels, 32, true, false); }
TEST("attention with rotary positions equals float64") { check_lengths(kernels, 64, false, true); }

TEST("scores of 10,000 and more give the softmax of float64") {
    Random random(21);
    for (int64_t n : {1, 2, 13, 33}) {
        Text text(random, n, 32, 1);
        text.task.bias = text.bias.data();
        for (size_t i = 0; i < text.bias.size(); ++i) text.bias[i] = i % 3 == 0 ? 1e4f : i % 3 == 1 ? -1e4f : 0;
        check_text(kernels, text, 2e-3);  // 1e4 itself has steps of 1e-3 in float32
        for (float &b : text.bias) b = -3e37f;  // all equal: plain means
        check_text(kernels, text, 2e-5);
    }
}

TEST("scores that are NaN or infinite do not crash attention") {
    Random random(22);
    for (float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), 3e38f}) {
        Text text(random, 20, 16, 1);
        text.qkv[5 * 3 * text.hidden + 16] = bad;
        text.qkv[7 * 3 * text.hidden + 16 + text.hidden] = bad;
        kernels.attend(text.task);
        CHECK(text.out[0] == kUntouched, "another head was written");
    }
}
