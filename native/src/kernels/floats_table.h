// Tables of one instruction set for the precisions of floats.
#pragma once

#include "floats_attention.h"
#include "pooling.h"

namespace {
namespace floats {

constexpr int64_t BLOCK_TOKENS = 192;

}  // namespace floats
}  // namespace

#define NC_FLOAT_TABLE(name, precision, Kind, supported)                                                                          \
    {name, precision, supported, 0, sizeof(floats::Kind::Input), floats::BLOCK_TOKENS, embed, floats::prepare<floats::Kind>,      \
     normalize, add, floats::multiply<floats::Kind>, floats::expand<floats::Kind>, floats::settle, floats::heads_bytes,           \
     floats::project<floats::Kind>, floats::attention_bytes, floats::attend, pool, run_dense, scale_to_unit}
