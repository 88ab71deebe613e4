// The table of one instruction set: everything above, as seen by the encoder.
#pragma once

#include "attention.h"
#include "multiply.h"
#include "pooling.h"
#include "rows.h"

#define NC_TABLE(name, supported) \
    {name, supported, Dot::OFFSET, embed, normalize, add, quantize, multiply, attend, pool, run_dense, scale_to_unit}
