// The formats of quantised tiles ([P] §3.3.2, §3.3.3) on the device: codes, scales, and the division between them. E4M3 and E5M2 are
// the chip's own; HiF8 and E5M6 are made here of integer arithmetic. The trap is the division: a product with the reciprocal
// differs from the quotient in the last bit, and so now and then in the code.
#pragma once
#include "common.cuh"

constexpr int TileLength = 128;
constexpr uint32_t MagnitudeMask = 0x7fffffffu;
constexpr uint32_t SingleInfinity = 0x7f800000u;

// ---- HiFloat8 (arXiv 2409.16626) ----

// Mantissa bits fewer than three at an exponent's size.
__device__ __forceinline__ int hif8_narrower(int size) { return (size > 3) + (size > 7) + (size > 15); }

// Half away from zero, saturating at 2^15. Half of the last kept bit is added and exponent and mantissa are read off the sum.
__device__ __forceinline__ uint32_t hif8_from_float(float x)
{
    constexpr uint32_t Smallest = (127 - 22) << 23, SmallestHalf = (127 - 23) << 23, Largest = (127 + 15) << 23;
    uint32_t bits = __float_as_uint(x), magnitude = bits & MagnitudeMask;
    if (magnitude > SingleInfinity) return 0x80;
    if (magnitude < SmallestHalf) return 0;
    uint32_t bounded = min(max(magnitude, Smallest), Largest);
    uint32_t rounded = bounded + (1u << (19 + hif8_narrower(abs(static_cast<int>(bounded >> 23) - 127))));
    int exponent = static_cast<int>(rounded >> 23) - 127, size = abs(exponent), narrower = hif8_narrower(size);
    uint32_t minus = exponent < 0 ? 0x10u : 0u;
    uint32_t start = size == 0 ? 0x08u
        : size == 1 ? 0x10u | minus >> 1
        : size < 4 ? 0x10u + minus + (size << 3)
        : size < 8 ? 0x30u + minus + (size << 2)
        : size < 16 ? 0x50u + minus + (size << 1)
        : 23u - size;
    return start + ((rounded & 0x7fffffu) >> (20 + narrower)) | bits >> 31 << 7;
}

__device__ __forceinline__ float to_float(hif8 x)
{
    uint32_t code = x.bits & 0x7f, sign = static_cast<uint32_t>(x.bits >> 7) << 31;
    if (code == 0) return sign != 0 ? __uint_as_float(0x7fc00000u) : 0.0f;
    if (code == 0x6f) return __uint_as_float(sign | SingleInfinity);
    // Exponent's size and mantissa bits by the code's binade; bit 4 says that the exponent is negative.
    int size, width;
    bool negative = (code & 0x10) != 0;
    uint32_t low = code & 0x0f;
    if (code < 0x08) { size = 23 - code; width = 0; negative = true; }
    else if (code < 0x10) { size = 0; width = 3; negative = false; }
    else if (code < 0x20) { size = 1; width = 3; negative = code >= 0x18; }
    else if (code < 0x40) { size = low >> 3 | 2; width = 3; }
    else if (code < 0x60) { size = low >> 2 | 4; width = 2; }
    else { size = low >> 1 | 8; width = 1; }
    uint32_t mantissa = code & ((1u << width) - 1);
    return __uint_as_float(sign | static_cast<uint32_t>(127 + (negative ? -size : size)) << 23 | mantissa << (23 - width));
}

template <> __device__ __forceinline__ hif8 from_float<hif8>(float x) { return {static_cast<uint8_t>(hif8_from_float(x))}; }

// ---- E5M6 ----

// Two values in three bytes, the first in the low bits.
struct e5m6x2 { uint8_t bytes[3]; };

// To nearest even, saturating at 65024. A power of two is added whose last mantissa bit weighs as much as the format's last bit in
// the value's binade, so that the sum's lower bits count the steps.
__device__ __forceinline__ uint32_t e5m6_from_float(float x)
{
    constexpr int Shift = 23 - 6;
    constexpr uint32_t Rebias = (127 - 15) << 23, SmallestNormal = Rebias + (1u << 23), Largest = (0x7bfu << Shift) + Rebias;
    uint32_t bits = __float_as_uint(x), bounded = min(bits & MagnitudeMask, Largest);
    uint32_t binade = max(bounded & SingleInfinity, SmallestNormal), magic = binade + (Shift << 23);
    uint32_t steps = __float_as_uint(__fadd_rn(__uint_as_float(bounded), __uint_as_float(magic))) - magic;
    return steps + (binade >> Shift) - (SmallestNormal >> Shift) | bits >> 31 << 11;
}

// A code is a half without its last four bits.
__device__ __forceinline__ void floats_from_e5m6x2(uint32_t pair, float& low, float& high)
{
    uint32_t halves = pair << 4 & 0xfff0u | pair << 8 & 0xfff00000u;
    low = ptx::float_from_half(static_cast<uint16_t>(halves));
    high = ptx::float_from_half(static_cast<uint16_t>(halves >> 16));
}

// ---- Codes in memory ----

// What a format's largest magnitude in a tile is scaled to (HiF8: the end of the binades with three mantissa bits), the bytes of two
// values, and both ways between them and two singles.
template <typename Q> struct Format;

template <> struct Format<e4m3>
{
    static constexpr float Target = 448;
    static constexpr int PairBytes = 2;
    __device__ __forceinline__ static uint32_t encode(float low, float high) { return ptx::e4m3x2_from_floats(low, high); }
    __device__ __forceinline__ static void decode(uint32_t pair, float& low, float& high)
    {
        uint32_t halves = ptx::halfx2_from_e4m3x2(static_cast<uint16_t>(pair));
        low = ptx::float_from_half(static_cast<uint16_t>(halves));
        high = ptx::float_from_half(static_cast<uint16_t>(halves >> 16));
    }
};

template <> struct Format<e5m2>
{
    static constexpr float Target = 57344;
    static constexpr int PairBytes = 2;
    __device__ __forceinline__ static uint32_t encode(float low, float high) { return ptx::e5m2x2_from_floats(low, high); }
    __device__ __forceinline__ static void decode(uint32_t pair, float& low, float& high)
    {
        low = ptx::float_from_half(static_cast<uint16_t>(pair << 8));
        high = ptx::float_from_half(static_cast<uint16_t>(pair & 0xff00u));
    }
};

template <> struct Format<hif8>
{
    static constexpr float Target = 15;
    static constexpr int PairBytes = 2;
    __device__ __forceinline__ static uint32_t encode(float low, float high) { return hif8_from_float(low) | hif8_from_float(high) << 8; }
    __device__ __forceinline__ static void decode(uint32_t pair, float& low, float& high)
    {
        low = to_float(hif8{static_cast<uint8_t>(pair)});
        high = to_float(hif8{static_cast<uint8_t>(pair >> 8)});
    }
};

template <> struct Format<e5m6x2>
{
    static constexpr float Target = 65024;
    static constexpr int PairBytes = 3;
    __device__ __forceinline__ static uint32_t encode(float low, float high) { return e5m6_from_float(low) | e5m6_from_float(high) << 12; }
    __device__ __forceinline__ static void decode(uint32_t pair, float& low, float& high)
    {
        floats_from_e5m6x2(pair, low, high);
    }
};

// Bytes of a number of values that is even, or any number where a value has a byte of its own.
template <typename Q> __device__ __forceinline__ int64_t code_bytes(int64_t values)
{
    return Format<Q>::PairBytes == 2 ? values : values / 2 * 3;
}

// N codes at once: 8 or 4 (aligned to N bytes; of E5M6 to N / 2), or as few as a format allows, one by one.
template <typename Q, int N>
__device__ __forceinline__ void store_codes(uint8_t* to, const float (&x)[N])
{
    constexpr int PairBytes = Format<Q>::PairBytes;
    if constexpr (N == 1)
    {
        static_assert(PairBytes == 2);
        *to = static_cast<uint8_t>(Format<Q>::encode(x[0], 0));
    }
    else if constexpr (PairBytes == 2)
    {
        Pack<uint16_t, N / 2> pack;
#pragma unroll
        for (int i = 0; i < N / 2; i++) pack.values[i] = static_cast<uint16_t>(Format<Q>::encode(x[2 * i], x[2 * i + 1]));
        *reinterpret_cast<Pack<uint16_t, N / 2>*>(to) = pack;
    }
    else if constexpr (N == 8)
    {
        uint32_t pairs[4];
#pragma unroll
        for (int i = 0; i < 4; i++) pairs[i] = Format<Q>::encode(x[2 * i], x[2 * i + 1]);
        uint32_t* words = reinterpret_cast<uint32_t*>(to);
        words[0] = pairs[0] | pairs[1] << 24;
        words[1] = pairs[1] >> 8 | pairs[2] << 16;
        words[2] = pairs[2] >> 16 | pairs[3] << 8;
    }
    else if constexpr (N == 4)
    {
        uint32_t first = Format<Q>::encode(x[0], x[1]), second = Format<Q>::encode(x[2], x[3]);
        uint16_t* words = reinterpret_cast<uint16_t*>(to);
        words[0] = static_cast<uint16_t>(first);
        words[1] = static_cast<uint16_t>(first >> 16 | second << 8);
        words[2] = static_cast<uint16_t>(second >> 8);
    }
    else
    {
        static_assert(N == 2);
        uint32_t pair = Format<Q>::encode(x[0], x[1]);
#pragma unroll
        for (int i = 0; i < 3; i++) to[i] = static_cast<uint8_t>(pair >> (8 * i));
    }
}

template <typename Q, int N>
__device__ __forceinline__ void load_codes(float (&x)[N], const uint8_t* from)
{
    constexpr int PairBytes = Format<Q>::PairBytes;
    uint32_t pairs[(N + 1) / 2];
    if constexpr (N == 1) pairs[0] = *from;
    else if constexpr (PairBytes == 2)
    {
        Pack<uint16_t, N / 2> pack = *reinterpret_cast<const Pack<uint16_t, N / 2>*>(from);
#pragma unroll
        for (int i = 0; i < N / 2; i++) pairs[i] = pack.values[i];
    }
    else if constexpr (N == 8)
    {
        const uint32_t* words = reinterpret_cast<const uint32_t*>(from);
        uint32_t first = words[0], second = words[1], third = words[2];
        pairs[0] = first & 0xffffffu;
        pairs[1] = first >> 24 | (second & 0xffffu) << 8;
        pairs[2] = second >> 16 | (third & 0xffu) << 16;
        pairs[3] = third >> 8;
    }
    else if constexpr (N == 4)
    {
        const uint16_t* words = reinterpret_cast<const uint16_t*>(from);
        uint32_t first = words[0], second = words[1], third = words[2];
        pairs[0] = first | (second & 0xffu) << 16;
        pairs[1] = second >> 8 | third << 8;
    }
    else
    {
        static_assert(N == 2);
        pairs[0] = from[0] | from[1] << 8 | from[2] << 16;
    }

    if constexpr (N == 1)
    {
        float nothing;
        Format<Q>::decode(pairs[0], x[0], nothing);
    }
    else
    {
#pragma unroll
        for (int i = 0; i < N / 2; i++) Format<Q>::decode(pairs[i], x[2 * i], x[2 * i + 1]);
    }
}

// The values in BF16 that N codes of one tile are.
template <typename Q, int N>
__device__ __forceinline__ void load_values(float (&x)[N], const uint8_t* from, float scale)
{
    load_codes<Q, N>(x, from);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = to_float(from_float<bf16>(__fmul_rn(x[i], scale)));
}

// ---- Scales ----

// The smallest power of two that is not below a positive number.
__device__ __forceinline__ e8m0 e8m0_up(float x)
{
    uint32_t bits = __float_as_uint(x);
    return {static_cast<uint8_t>(bits <= 0x00400000u ? 0u : min((bits + 0x7fffffu) >> 23, 255u))};
}

// x over the format's target, correctly rounded: as in Divisor, and a target is a small number times a power of two, whose multiples come
// close to no middle between two singles. Remainders of tiny numbers would be subnormal.
template <typename Q>
__device__ __forceinline__ float over_target(float x)
{
    constexpr float Target = Format<Q>::Target, Reciprocal = 1 / Target, Tiny = 1.0f / (1ull << 50) / (1ull << 50);
    if (x < Tiny) return __fdiv_rn(x, Target);
    float q = __fmul_rn(x, Reciprocal);
    return __fmaf_rn(-Reciprocal, __fmaf_rn(Target, q, -x), q);
}

// Scale of a tile from the bits of its largest magnitude; not a number where that is not finite.
template <typename Q>
__device__ __forceinline__ float tile_scale(uint32_t largest, float leastAmax, bool powerOfTwo)
{
    if (largest >= SingleInfinity) return __uint_as_float(0x7fc00000u);
    float scale = over_target<Q>(fmaxf(__uint_as_float(largest), leastAmax));
    return powerOfTwo ? to_float(e8m0_up(scale)) : scale;
}

// That a tile has a value which is not finite: the lowest place wins; -1, which none has yet, is the highest unsigned number.
__device__ __forceinline__ void report_tile(uint64_t* fault, int64_t place)
{
    if (fault != nullptr) atomicMin(reinterpret_cast<unsigned long long*>(fault), static_cast<unsigned long long>(place));
}

// Quotients by one scale: one correction by the remainder of a product with the correctly rounded reciprocal, which leaves a relative
// error of 2^-46 before the last rounding. That rounding differs from the quotient's own only beside the middle between two singles,
// and a code can notice only where one of those two is the middle between two codes, a number of at most eight bits. There are few
// quotients so close to one, and QuotientTests goes through all of them: each gives the bits of the division.
// Where the scale is small, values are moved up together with it, so that no remainder that a code could depend on is
// subnormal; where it is not a number, they become zeros. Quotients are at most a format's scale target; those below 2^-26 may be
// off, where every format has zero. The signs are such that zero keeps its own.
struct Divisor
{
    float up, scale, reciprocal;  // up: what values are multiplied by before; 0 where there is no scale

    Divisor() = default;

    __device__ __forceinline__ explicit Divisor(float tileScale)
    {
        constexpr float Small = 1.0f / (1ull << 32) / (1ull << 32), Up = 1.0f / Small;
        bool isNumber = tileScale == tileScale;
        up = !isNumber ? 0.0f : tileScale < Small ? Up : 1.0f;
        scale = isNumber ? __fmul_rn(tileScale, up) : 1.0f;
        reciprocal = __frcp_rn(scale);
    }

    // Whether values must be moved; hardly ever, so a caller may ask once for many.
    __device__ __forceinline__ bool moves() const { return up != 1.0f; }
    __device__ __forceinline__ float moved(float x) const { return up == 0.0f ? 0.0f : __fmul_rn(x, up); }

    // That of another of so many neighbouring lanes, but for what values are moved by.
    __device__ __forceinline__ Divisor of_lane(int lane, int width = WarpSize) const
    {
        Divisor other;
        other.scale = __shfl_sync(AllLanes, scale, lane, width);
        other.reciprocal = __shfl_sync(AllLanes, reciprocal, lane, width);
        return other;
    }

    // Of a value that was moved.
    __device__ __forceinline__ float quotient(float x) const
    {
        float q = __fmul_rn(x, reciprocal);
        return __fmaf_rn(-reciprocal, __fmaf_rn(scale, q, -x), q);
    }
};

// ---- Codes in memory ----

// Codes of a matrix with their scales; CodesArgument on the host.
struct Codes
{
    uint8_t* codes;
    int64_t stride;
    float* scales;
    int64_t scaleStride;
    uint64_t* fault;     // the first place among the scales with a value that is not finite; or null

    // What the largest magnitude of the tile at a place says of it.
    __device__ __forceinline__ void report(uint32_t largest, int64_t place) const
    {
        if (largest >= SingleInfinity) report_tile(fault, place);
    }
};
