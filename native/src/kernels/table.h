// The table of one instruction set for INT8: everything above, as seen by the encoder.
#pragma once

#include "attention.h"
#include "integers.h"
#include "multiply.h"
#include "pooling.h"

namespace {

constexpr int64_t BLOCK_TOKENS = 48;

// Whole rows of floats; attention gathers what it needs of them.
void project(const nc::Rows &x, const nc_model &, const nc_attention &layer, const nc_batch &batch, char *heads, nc::Range which) {
    multiply(x, layer.qkv, Finish::Plain, (float *)heads, layer.qkv.n_out, (float *)heads, {0, batch.offsets[batch.n_texts]},
             {which.first * layer.head_size, which.last * layer.head_size});
}

}  // namespace

#define NC_TABLE(name, supported)                                                                                          \
    {name, NC_INT8, supported, Dot::OFFSET, 1, BLOCK_TOKENS, embed, prepare, normalize, add, multiply, expand, settle, heads_bytes, \
     project, attention_bytes, attend, pool, run_dense, scale_to_unit}
