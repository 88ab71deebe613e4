// Whether an instruction set computes right on this CPU, and how fast, before it is used: emulators, hypervisors and new CPUs
// have been wrong about either.
#pragma once

#include "kernels.h"

namespace nc {

// Whether a small product of random numbers equals plain loops': of integers exactly, of floats to rounding.
bool is_right(const nc_kernels &);

// Operations a second (a multiplication and an addition are two) of a small product on this thread, the best of a few times.
double measure_speed(const nc_kernels &);

}  // namespace nc
