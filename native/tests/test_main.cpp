// test_kernels [INSTRUCTION SET...]: runs every test for these in each precision that they know, and fails if one of them cannot
// run here; without arguments, for all that can.
#include <chrono>
#include <cstring>
#include <sstream>

#include "suite.h"

namespace {

constexpr const char *kPrecisions[] = {"int8", "fp32", "fp16", "bf16"};

std::vector<std::string> words(const char *text) {
    std::istringstream stream(text);
    std::vector<std::string> all;
    for (std::string word; stream >> word;) all.push_back(word);
    return all;
}

bool run(const suite::Test &test, const nc_kernels &kernels) {
    const long failures = suite::n_failures, checks = suite::n_checks;
    const auto start = std::chrono::steady_clock::now();
    test.run(kernels);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const bool passed = suite::n_failures == failures && suite::n_checks > checks;
    if (suite::n_checks == checks) ++suite::n_failures;  // a test that checks nothing
    std::printf("  %-6s %-74s %5.2f s\n", passed ? "ok" : "FAILED", test.name, seconds);
    std::fflush(stdout);
    return passed;
}

int run_all(const nc_kernels &kernels) {
    std::printf("%s, %s\n", kernels.name, kPrecisions[kernels.precision]);
    int n_failed = 0;
    for (const suite::Test &test : suite::tests)
        if (test.concerns(kernels.precision)) n_failed += !run(test, kernels);
    return n_failed;
}

}  // namespace

int main(int argc, char **argv) {
    std::vector<std::string> names(argv + 1, argv + argc);
    const bool asked = !names.empty();
    if (!asked) names = words(nc_compiled());
    int n_sets = 0, n_failed = 0;
    for (const std::string &name : names) {
        const int before = n_sets;
        for (int precision : {NC_INT8, NC_FP32, NC_FP16, NC_BF16})
            if (const nc_kernels *kernels = nc_find(name.c_str(), precision)) ++n_sets, n_failed += run_all(*kernels);
        if (n_sets == before) std::printf("%s: this CPU lacks it, or it is not compiled in\n", name.c_str()), n_failed += asked;
    }
    std::printf("%zu tests of %d instruction sets, %ld checks, %d failed\n", suite::tests.size(), n_sets, suite::n_checks.load(),
                n_failed);
    return n_failed || !n_sets;
}
