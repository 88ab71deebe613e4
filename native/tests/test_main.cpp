// test_kernels [INSTRUCTION SET...]: runs every test for these, and fails if one of them cannot run here; without arguments,
// for all that can.
#include <chrono>
#include <cstring>
#include <sstream>

#include "suite.h"

namespace {

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

}  // namespace

int main(int argc, char **argv) {
    std::vector<std::string> names(argv + 1, argv + argc);
    const bool asked = !names.empty();
    if (!asked) names = words(nc_compiled());
    int n_sets = 0, n_failed = 0;
    for (const std::string &name : names) {
        const nc_kernels *kernels = nc_find(name.c_str());
        std::printf("%s%s\n", name.c_str(), kernels ? "" : ": this CPU lacks it, or it is not compiled in");
        if (!kernels && asked) ++n_failed;
        if (!kernels) continue;
        ++n_sets;
        for (const suite::Test &test : suite::tests) n_failed += !run(test, *kernels);
    }
    std::printf("%zu tests of %d instruction sets, %ld checks, %d failed\n", suite::tests.size(), n_sets, suite::n_checks.load(),
                n_failed);
    return n_failed || !n_sets;
}
