// The C interface: which kernels there are, and calls into the encoder.
#include <cstring>
#include <new>
#include <string>

#include "encoder.h"
#include "kernels.h"
#include "profile.h"
#include "self_test.h"
#include "team.h"

#define NC_DECLARE(name) extern const nc_kernels kernels_##name;
#define NC_POINT(name) &kernels_##name,

#if defined(__x86_64__)
#define NC_OF_THIS_MACHINE(each)                                                                                     \
    each(amx) each(avx512vnni) each(avxvnni) each(avx512bf16) each(avx512_fp32) each(avx512_fp16) each(avx2) each(avx2_fp32) \
    each(avx2_fp16)
#elif defined(__aarch64__)
#define NC_OF_THIS_MACHINE(each) each(neon) each(neon_fp32) each(neon_fp16)
#else
#define NC_OF_THIS_MACHINE(each)
#endif
#define NC_ALL(each) NC_OF_THIS_MACHINE(each) each(scalar) each(scalar_fp32) each(scalar_fp16) each(scalar_bf16)

NC_ALL(NC_DECLARE)

namespace {

// Best first; the precisions of an instruction set one after the other.
const nc_kernels *const compiled[] = {NC_ALL(NC_POINT)};

std::string names() {
    std::string all;
    const char *last = "";
    for (const nc_kernels *kernels : compiled) {
        if (!std::strcmp(kernels->name, last)) continue;
        if (!all.empty()) all += ' ';
        all += last = kernels->name;
    }
    return all;
}

}  // namespace

extern "C" {

int32_t nc_abi_version(void) { return NC_ABI_VERSION; }

const char *nc_compiled(void) {
    static const std::string all = names();
    return all.c_str();
}

const nc_kernels *nc_find(const char *name, int32_t precision) {
    for (const nc_kernels *kernels : compiled)
        if (!std::strcmp(kernels->name, name) && kernels->precision == precision) return kernels->supported() ? kernels : nullptr;
    return nullptr;
}

int32_t nc_self_test(const nc_kernels *kernels) {
    try {
        return nc::is_right(*kernels);
    } catch (const std::bad_alloc &) {
        return 0;
    }
}

double nc_measure(const nc_kernels *kernels) {
    try {
        return nc::measure_speed(*kernels);
    } catch (const std::bad_alloc &) {
        return 0;
    }
}

size_t nc_workspace_bytes(const nc_kernels *kernels, const nc_model *model, int64_t n_tokens, int64_t n_texts, int64_t longest,
                          int32_t n_threads) {
    return nc::workspace_bytes(*kernels, *model, n_tokens, n_texts, longest, n_threads);
}

void nc_count_cycles(int32_t on) {
    for (std::atomic<int64_t> &each : nc::cycles) each = 0;
    nc::counts_cycles = on != 0;
}

void nc_read_cycles(int64_t *cycles) {
    for (int i = 0; i < NC_N_STAGES; ++i) cycles[i] = nc::cycles[i];
}

nc_team *nc_make_team(int32_t n_threads) {
    try {
        return new nc_team(n_threads);
    } catch (...) {
        return nullptr;
    }
}

void nc_stop_team(nc_team *team) {
    if (!team->is_left_behind()) team->stop();
}

void nc_free_team(nc_team *team) {
    if (!team->is_left_behind()) delete team;  // else its memory is all that is here of its threads
}

int32_t nc_encode(const nc_kernels *kernels, const nc_model *model, const nc_batch *batch, float *out, void *workspace,
                  nc_team *team) {
    try {
        const nc::Taken taken(team);
        nc::encode(*kernels, *model, *batch, out, workspace, taken.team());
        return 0;
    } catch (const nc_team::Unable &) {
        return 1;
    }
}
}
