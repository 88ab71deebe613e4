// The instructions of AMX. Tiles are 16 rows of 64 bytes at most; the eight of them hold nothing from a call of the kernels to the
// next, so a thread that is not in one has no tiles that the system must save.
//
// As asm: GCC's intrinsics are macros that take numbers alone. NEURALCORE_EMULATE, for tests on other machines, computes the same
// in C++, and stops where the CPU would.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {
namespace tiles {

constexpr int ROWS = 16, BYTES = 64;

// What `ldtilecfg` reads (Intel's manual, volume 1, "Programming with Intel AMX").
struct alignas(64) Shapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    void set(int tile, int n_rows) { rows[tile] = (uint8_t)n_rows, row_bytes[tile] = BYTES; }
};
static_assert(sizeof(Shapes) == 64);

#ifdef NEURALCORE_EMULATE

inline thread_local Shapes shapes;
inline thread_local bool is_configured = false;
inline thread_local uint8_t data[8][ROWS][BYTES];

inline void need(bool holds) {
    if (!holds) std::abort();  // an invalid operation
}

inline void begin(const Shapes &asked) {
    shapes = asked, is_configured = true;
    std::memset(data, 0, sizeof data);
}

inline void end() { is_configured = false; }

template <int tile>
void load(const void *from, int64_t stride) {
    need(is_configured && shapes.rows[tile]);
    std::memset(data[tile], 0, sizeof data[tile]);
    for (int r = 0; r < shapes.rows[tile]; ++r) std::memcpy(data[tile][r], (const char *)from + r * stride, shapes.row_bytes[tile]);
}

template <int tile>
void clear() {
    need(is_configured && shapes.rows[tile]);
    std::memset(data[tile], 0, sizeof data[tile]);
}

template <int tile>
void store(void *to, int64_t stride) {
    need(is_configured && shapes.rows[tile]);
    for (int r = 0; r < shapes.rows[tile]; ++r) std::memcpy((char *)to + r * stride, data[tile][r], shapes.row_bytes[tile]);
}

template <int sums, int rows, int weights>
void multiply() {
    need(is_configured && shapes.rows[sums] == shapes.rows[rows] && shapes.rows[weights] * 4 == shapes.row_bytes[rows]);
    for (int r = 0; r < shapes.rows[rows]; ++r)
        for (int c = 0; c < BYTES / 4; ++c) {
            int32_t total;
            std::memcpy(&total, data[sums][r] + 4 * c, 4);
            for (int k = 0; k < shapes.row_bytes[rows]; ++k) total += data[rows][r][k] * (int8_t)data[weights][k / 4][4 * c + k % 4];
            std::memcpy(data[sums][r] + 4 * c, &total, 4);
        }
}

#else

// All tiles become 0.
inline void begin(const Shapes &shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes)); }

inline void end() { asm volatile("tilerelease"); }

template <int tile>
void load(const void *from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
}

template <int tile>
void clear() {
    asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}

template <int tile>
void store(void *to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
}

// sums += rows * weights: of u8 and s8, four neighbours of a row at a time.
template <int sums, int rows, int weights>
void multiply() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(rows), "i"(weights));
}

#endif

}  // namespace tiles
}  // namespace
