// Stands in for src/Fathom.Compute/Cuda/Kernels/ptx.cuh: the same functions, each doing in C++ what its instruction does. Signatures
// must stay the same in both files. Sections are those of the PTX ISA.
#pragma once

#define DYNAMIC_SHARED(name) unsigned char* const name = emulated::current->block->dynamicShared

namespace ptx {

// ---- Conversions (9.7.9.22 cvt) ----

namespace detail {

inline void require_aligned(const void* p, unsigned bytes, const char* file, int line)
{
    if (reinterpret_cast<uintptr_t>(p) % bytes != 0)
        emulated::fail(emulated::Failure::MisalignedAddress, {file, static_cast<uint32_t>(line), 0}, "address %p is not aligned to %u bytes", p, bytes);
}

// What an instruction of global memory would do with shared memory.
inline void require_global(const void* p, const char* file, int line)
{
    const auto& block = *emulated::current->block;
    auto within = [p](const unsigned char* start, size_t bytes) { return p >= start && p < start + bytes; };
    if (within(block.dynamicShared, block.dynamicSharedBytes) || within(block.variables, block.variableBytes))
        emulated::fail(emulated::Failure::IllegalAddress, {file, static_cast<uint32_t>(line), 0}, "address %p is in shared memory, and not in global memory", p);
}

// To nearest even with `mantissa` bits after the point and exponents from `lowest` up, in which subnormals lie. x is finite and not
// negative. The result counts in units of the last place of the lowest exponent, exponents taking 2^mantissa units each: the code of
// an IEEE-like format, before it saturates.
inline uint32_t small_float(float x, int mantissa, int lowest)
{
    int exponent = x == 0 ? lowest : std::ilogb(x);
    if (exponent < lowest) exponent = lowest;
    // Exact: a power of two times x; then the only rounding, to nearest even by the mode of the processor.
    double units = std::nearbyint(std::ldexp(static_cast<double>(x), mantissa - exponent));
    return (static_cast<uint32_t>(exponent - lowest) << mantissa) + static_cast<uint32_t>(units);
}

inline uint8_t e4m3(float x)
{
    if (x != x) return 0x7f;
    uint8_t sign = std::signbit(x) ? 0x80 : 0;
    float magnitude = fminf(fabsf(x), 448);
    return static_cast<uint8_t>(sign | small_float(magnitude, 3, -6));
}

inline uint8_t e5m2(float x)
{
    if (x != x) return 0x7f;
    uint8_t sign = std::signbit(x) ? 0x80 : 0;
    float magnitude = fminf(fabsf(x), 57344);
    return static_cast<uint8_t>(sign | small_float(magnitude, 2, -14));
}

inline uint16_t half_from_e4m3(uint8_t code)
{
    uint16_t sign = static_cast<uint16_t>((code & 0x80) << 8);
    int exponent = code >> 3 & 15, mantissa = code & 7;
    if ((code & 0x7f) == 0x7f) return 0x7fff;
    if (exponent != 0) return static_cast<uint16_t>(sign | (exponent + 8) << 10 | mantissa << 7);
    if (mantissa == 0) return sign;
    // A subnormal, mantissa * 2^-9, is a normal half.
    int shift = std::countl_zero(static_cast<uint8_t>(mantissa)) - 4;
    return static_cast<uint16_t>(sign | (9 - shift) << 10 | ((mantissa << shift) & 7) << 7);
}

inline float e4m3_value(uint8_t code)
{
    static const auto table = []
    {
        struct { float values[256]; } table;
        for (int i = 0; i < 256; i++)
        {
            int exponent = i >> 3 & 15, mantissa = i & 7;
            float magnitude = (i & 0x7f) == 0x7f ? NAN : exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
            table.values[i] = i & 0x80 ? -magnitude : magnitude;
        }
        return table;
    }();
    return table.values[code];
}

inline float bf16_value(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }

}

inline uint16_t bf16_from_float(float x)
{
    uint32_t bits = __float_as_uint(x);
    if (x != x) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline uint32_t bf16x2_from_floats(float low, float high)
{
    return static_cast<uint32_t>(bf16_from_float(high)) << 16 | bf16_from_float(low);
}

inline uint16_t e4m3x2_from_floats(float low, float high)
{
    return static_cast<uint16_t>(detail::e4m3(high) << 8 | detail::e4m3(low));
}

inline uint16_t e5m2x2_from_floats(float low, float high)
{
    return static_cast<uint16_t>(detail::e5m2(high) << 8 | detail::e5m2(low));
}

inline float float_from_half(uint16_t bits)
{
    float magnitude = (bits & 0x7c00) == 0x7c00 ? (bits & 0x3ff ? NAN : INFINITY)
        : (bits & 0x7c00) == 0 ? std::ldexp(static_cast<float>(bits & 0x3ff), -24)
        : std::ldexp(static_cast<float>(1024 + (bits & 0x3ff)), (bits >> 10 & 31) - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
}

inline uint32_t halfx2_from_e4m3x2(uint16_t codes)
{
    return static_cast<uint32_t>(detail::half_from_e4m3(static_cast<uint8_t>(codes >> 8))) << 16 | detail::half_from_e4m3(static_cast<uint8_t>(codes));
}

inline uint32_t halfx2_from_e5m2x2(uint16_t codes)
{
    return static_cast<uint32_t>(codes & 0xff00) << 16 | static_cast<uint32_t>(codes & 0xff) << 8;
}

// The numbers that the codes are, by arithmetic; the code of NaN is one more number.
inline void bf16x4_from_numbers(uint32_t codes, uint32_t& low, uint32_t& high)
{
    auto number = [](uint32_t code)
    {
        uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
        float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9) : std::ldexp(static_cast<float>(8 + mantissa), static_cast<int>(exponent) - 10);
        return code & 0x80 ? -magnitude : magnitude;
    };
    low = bf16x2_from_floats(number(codes & 0xff), number(codes >> 8 & 0xff));
    high = bf16x2_from_floats(number(codes >> 16 & 0xff), number(codes >> 24));
}

// ---- Magnitudes (9.7.3.12 max, 9.7.4.9 max) ----

inline float larger_magnitude(float a, float b)
{
    return a != a || b != b ? __uint_as_float(0x7fffffffu) : fmaxf(a, fabsf(b));
}

inline uint32_t larger_magnitudes_bf16x2(uint32_t a, uint32_t b)
{
    auto larger = [](uint32_t x, uint32_t y)
    {
        y &= 0x7fff;
        return x > 0x7f80 || y > 0x7f80 ? 0x7fffu : x > y ? x : y;
    };
    return larger(a & 0xffff, b & 0xffff) | larger(a >> 16, b >> 16) << 16;
}

// ---- Threads (10.1 %tid) ----

inline int thread_again() { return static_cast<int>(threadIdx.x); }

// ---- Functions ----

inline float exp2_approximately(float x)
{
    float y = exp2f(x);
    return y < 0x1p-126f ? 0 : y;
}

inline float reciprocal_approximately(float x) { return x > 0x1p126f ? 0 : 1 / x; }

// ---- Stores to global memory (9.7.9.12 st) ----

template <int Words> inline void store_words(void* to, const uint32_t (&words)[Words], EMULATED_SITE)
{
    static_assert(Words == 1 || Words == 2 || Words == 4);
    detail::require_aligned(to, sizeof(words), file, line);
    detail::require_global(to, file, line);
    std::memcpy(to, words, sizeof(words));
}

// ---- Between blocks (8 memory consistency model; 9.7.9.8 ld, 9.7.9.12 st, 9.7.13.7 red) ----

// Who waits for another block's value lets the thread of the system go: blocks of other threads go on.
inline uint32_t load_acquired(const uint32_t* p)
{
    sched_yield();
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

inline void store_released(uint32_t* p, uint32_t x) { __atomic_store_n(p, x, __ATOMIC_RELEASE); }

template <int Offset> inline void add_four(float* p, float x0, float x1, float x2, float x3, EMULATED_SITE)
{
    p += Offset / 4;
    detail::require_aligned(p, 16, file, line);
    detail::require_global(p, file, line);
    const float x[4] = {x0, x1, x2, x3};
    for (int i = 0; i < 4; i++) emulated_update(reinterpret_cast<uint32_t*>(p + i), [&](uint32_t old) { return __float_as_uint(__uint_as_float(old) + x[i]); });
}

inline void load_four(const float* p, float (&x)[4], EMULATED_SITE)
{
    detail::require_aligned(p, 16, file, line);
    detail::require_global(p, file, line);
    std::memcpy(x, p, sizeof(x));
}

// ---- Asynchronous copies to shared memory (9.7.9.25 cp.async) ----

// The lower half of the address: good for alignments and differences.
inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p)); }

inline void copy_async16(void* shared, const void* global, bool valid, EMULATED_SITE)
{
    struct Copy { void* to; const void* from; bool valid; } copy{shared, global, valid};
    detail::require_aligned(shared, 16, file, line);
    detail::require_aligned(global, 16, file, line);
    emulated::services->defer(emulated::Queue::Copies, [](const void* data)
    {
        auto copy = static_cast<const Copy*>(data);
        if (copy->valid) std::memcpy(copy->to, copy->from, 16);
        else std::memset(copy->to, 0, 16);
    }, &copy, sizeof(copy));
}

inline void copy_async_commit() { emulated::services->commit(emulated::Queue::Copies); }

template <int Pending> inline void copy_async_wait() { emulated::services->wait(emulated::current, emulated::Queue::Copies, Pending); }

// ---- Matrix fragments and products of a warp (9.7.14 mma, ldmatrix) ----

namespace detail {

// Instructions of a whole warp: no lane may have exited.
inline void require_all(uint32_t present, const char* what)
{
    if (present == 0xffffffffu) return;
    char message[200];
    std::snprintf(message, sizeof(message), "%s needs all 32 lanes, and only 0x%08x are there", what, present);
    emulated::services->fail(emulated::Failure::LaunchFailed, message);
}

struct MatrixLoad { uint32_t* fragment; const void* row; };

// Matrix m has its row r at the address of lane 8m + r. Lane l receives in fragment[m] the elements (l / 4, 2(l % 4)) in the lower and
// (l / 4, 2(l % 4) + 1) in the upper half; transposed, elements (2(l % 4), l / 4) and (2(l % 4) + 1, l / 4).
template <bool Transposed> inline void load(MatrixLoad* const* lanes, uint32_t present)
{
    require_all(present, "load_matrices");
    for (int lane = 0; lane < 32; lane++)
    {
        for (int m = 0; m < 4; m++)
        {
            uint16_t pair[2];
            for (int i = 0; i < 2; i++)
            {
                int row = lane / 4, column = lane % 4 * 2 + i;
                if (Transposed) std::swap(row, column);
                pair[i] = static_cast<const uint16_t*>(lanes[8 * m + row]->row)[column];
            }
            lanes[lane]->fragment[m] = static_cast<uint32_t>(pair[1]) << 16 | pair[0];
        }
    }
}

struct MatrixProduct { float* d; const uint32_t* a; uint32_t b[2]; };

// Sums d[16x8] += a[16xK] b[Kx8] over fragments whose registers hold N elements each (K = 8 N):
// a: register r of lane l, element i is a[l / 4 + 8 (r % 2)][N (l % 4) + i + 4 N (r / 2)];
// b: register r of lane l, element i is b[N (l % 4) + i + 4 N r][l / 4];
// d: register r of lane l is d[l / 4 + 8 (r / 2)][2 (l % 4) + r % 2].
template <int N, typename Decode> inline void multiply(MatrixProduct* const* lanes, uint32_t present, Decode decode)
{
    require_all(present, "multiply");
    float a[16][8 * N], b[8 * N][8], d[16][8];
    for (int lane = 0; lane < 32; lane++)
    {
        for (int r = 0; r < 4; r++)
        {
            for (int i = 0; i < N; i++) a[lane / 4 + 8 * (r % 2)][N * (lane % 4) + i + 4 * N * (r / 2)] = decode(lanes[lane]->a[r], i);
            d[lane / 4 + 8 * (r / 2)][2 * (lane % 4) + r % 2] = lanes[lane]->d[r];
        }
        for (int r = 0; r < 2; r++)
            for (int i = 0; i < N; i++) b[N * (lane % 4) + i + 4 * N * r][lane / 4] = decode(lanes[lane]->b[r], i);
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 8 * N; k++)
            for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < 32; lane++)
        for (int r = 0; r < 4; r++) lanes[lane]->d[r] = d[lane / 4 + 8 * (r / 2)][2 * (lane % 4) + r % 2];
}

}

inline void load_matrices(uint32_t (&fragment)[4], const void* row, EMULATED_SITE)
{
    detail::require_aligned(row, 16, file, line);
    detail::MatrixLoad record{fragment, row};
    emulated::collective(0xffffffffu, record, [](detail::MatrixLoad* const* lanes, uint32_t present) { detail::load<false>(lanes, present); }, "load_matrices", {file, line});
}

inline void load_matrices_transposed(uint32_t (&fragment)[4], const void* row, EMULATED_SITE)
{
    detail::require_aligned(row, 16, file, line);
    detail::MatrixLoad record{fragment, row};
    emulated::collective(0xffffffffu, record, [](detail::MatrixLoad* const* lanes, uint32_t present) { detail::load<true>(lanes, present); }, "load_matrices_transposed", {file, line});
}

inline void multiply_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMULATED_SITE)
{
    detail::MatrixProduct record{d, a, {b0, b1}};
    emulated::collective(0xffffffffu, record, [](detail::MatrixProduct* const* lanes, uint32_t present)
    {
        detail::multiply<2>(lanes, present, [](uint32_t bits, int i) { return detail::bf16_value(static_cast<uint16_t>(bits >> (16 * i))); });
    }, "multiply_bf16", {file, line});
}

inline void multiply_e4m3(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMULATED_SITE)
{
    detail::MatrixProduct record{d, a, {b0, b1}};
    emulated::collective(0xffffffffu, record, [](detail::MatrixProduct* const* lanes, uint32_t present)
    {
        detail::multiply<4>(lanes, present, [](uint32_t bits, int i) { return detail::e4m3_value(static_cast<uint8_t>(bits >> (8 * i))); });
    }, "multiply_e4m3", {file, line});
}

}
