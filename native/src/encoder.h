// A text encoder as a walk over layers: what is done in which step, and how a step is shared by threads. It knows no
// instruction set and no precision; the work is done by the functions of `nc_kernels`.
#pragma once

#include <cstddef>

#include "kernels.h"
#include "team.h"

namespace nc {

size_t workspace_bytes(const nc_kernels &, const nc_model &, int64_t n_tokens, int64_t n_texts, int64_t longest, int n_threads);

void encode(const nc_kernels &, const nc_model &, const nc_batch &, float *out, void *workspace, nc_team *);

}  // namespace nc
