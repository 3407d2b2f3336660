// Values in registers as they lie in memory: BF16 in pairs, two to a register, of which singles are made when they are needed. A thread so
// has twice as many loads under way, and finds the largest magnitude of two values with one instruction.
#pragma once
#include "common.cuh"

template <typename X, int N> struct Held;

template <int N> struct Held<float, N>
{
    using Magnitudes = Held;

    float values[N];

    __device__ __forceinline__ float get(int i) const { return values[i]; }
    __device__ __forceinline__ void get(float& first, float& second, int pair) const { first = values[2 * pair], second = values[2 * pair + 1]; }
    __device__ __forceinline__ const Held& all() const { return *this; }

    // Each magnitude here, or the other's where that is larger; NaN where either is. All here are magnitudes already.
    __device__ __forceinline__ void raise(const Held& other)
    {
#pragma unroll
        for (int i = 0; i < N; i++) values[i] = ptx::larger_magnitude(values[i], other.values[i]);
    }

    // The largest of all, which are magnitudes.
    __device__ __forceinline__ float largest() const
    {
        float largest = values[0];
#pragma unroll
        for (int i = 1; i < N; i++) largest = ptx::larger_magnitude(largest, values[i]);
        return largest;
    }
};

template <int N> struct Held<bf16, N>
{
    static constexpr int Words = (N + 1) / 2;

    using Magnitudes = Held;

    uint32_t words[Words];

    // Braces alone would be read from memory.
    __device__ __forceinline__ static Held zeros()
    {
        Held held;
#pragma unroll
        for (int i = 0; i < Words; i++) held.words[i] = 0;
        return held;
    }

    __device__ __forceinline__ float get(int i) const { return __uint_as_float(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000u); }
    __device__ __forceinline__ void get(float& first, float& second, int pair) const { first = get(2 * pair), second = get(2 * pair + 1); }
    __device__ __forceinline__ const Held& all() const { return *this; }

    __device__ __forceinline__ void raise(const Held& other)
    {
#pragma unroll
        for (int i = 0; i < Words; i++) words[i] = ptx::larger_magnitudes_bf16x2(words[i], other.words[i]);
    }

    __device__ __forceinline__ float largest() const
    {
        uint32_t pair = words[0];
#pragma unroll
        for (int i = 1; i < Words; i++) pair = ptx::larger_magnitudes_bf16x2(pair, words[i]);
        return ptx::larger_magnitude(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
    }
};

// N values at once, aligned to their bytes, at most 16.
template <typename X, int N>
__device__ __forceinline__ Held<X, N> hold(const X* from)
{
    static_assert(N * sizeof(X) == sizeof(Held<X, N>) && sizeof(Held<X, N>) <= 16);
    constexpr int Words = N * sizeof(X) / 4;
    union { Pack<uint32_t, Words> pack; Held<X, N> held; } all;
    all.pack = *reinterpret_cast<const Pack<uint32_t, Words>*>(from);
    return all.held;
}

// The first count values one by one, and zeros behind them.
template <int N>
__device__ __forceinline__ Held<float, N> hold_singly(const float* from, int count)
{
    Held<float, N> held;
#pragma unroll
    for (int i = 0; i < N; i++) held.values[i] = i < count ? from[i] : 0;
    return held;
}

template <int N>
__device__ __forceinline__ Held<bf16, N> hold_singly(const bf16* from, int count)
{
    Held<bf16, N> held = {};
#pragma unroll
    for (int i = 0; i < N; i++)
    {
        if (i < count) held.words[i / 2] |= static_cast<uint32_t>(from[i].bits) << (i % 2 * 16);
    }

    return held;
}
