// The table of one instruction set for INT8: everything above, as seen by the encoder.
#pragma once

#include "attend.h"
#include "expand.h"
#include "pooling.h"
#include "project.h"

namespace {

constexpr int64_t BLOCK_TOKENS = 48;

}  // namespace

#define NC_TABLE(name, supported)                                                                                          \
    {name, NC_INT8, supported, Dot::OFFSET, 1, BLOCK_TOKENS, embed, prepare, normalize, add, multiply, expand, settle, heads_bytes, \
     project, attention_bytes, attend, pool, run_dense, scale_to_unit}
