// The table of one instruction set: everything above, as seen by the encoder.
#pragma once

#include "attention.h"
#include "multiply.h"
#include "rows.h"

#define NC_TABLE(name, supported) \
    {name, supported, Dot::OFFSET, embed, normalize, quantize, multiply, attend, pool}
