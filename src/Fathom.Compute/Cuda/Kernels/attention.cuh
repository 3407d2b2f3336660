// What the kernels of causal attention share: the operands of a call, and where their rows lie. The shape letters are those of
// IAttentionOperators; the key of a head is its own [dn] in kv and then the rotary part [dr] that all heads share.
#pragma once
#include "common.cuh"

constexpr float Log2E = 1.44269504088896341f, Ln2 = 0.693147180559945309f;
constexpr float Infinity = __builtin_bit_cast(float, 0x7f800000u);

// A matrix whose row i begins at first + i * stride elements.
struct Rows
{
    void* first;
    int64_t stride;

    template <typename T> __device__ __forceinline__ T* row(int64_t i) const { return static_cast<T*>(first) + i * stride; }
};

// CausalCall on the host, field by field.
struct Causal
{
    Rows q;         // [B T H, dn + dr]
    Rows kv;        // [B S H, dn + dv]
    Rows kRope;     // [B S, dr]
    Rows output;    // [B T H, dv]
    Rows doutput;   // [B T H, dv]
    Rows dq;        // [B T H, dn + dr]
    Rows dkv;       // [B T H, dn + dv]
    Rows dkRope;    // [B T, dr]
    float* logSumExp; // [B, H, T]; null where nobody asks
    float* delta;     // [B, H, T]: the row sums of doutput * output
    float* rotary;    // [groups of heads, B T, dr]: each group's sum of the rotary key's gradient; on Hopper one sum, as its threads hold it
    int32_t batch, heads, queries, keys, nope, rope, value;
    int32_t groupHeads; // heads of a group
    float scale;
    int32_t groups;

    __device__ __forceinline__ int64_t query_row(int b, int h, int i) const { return (static_cast<int64_t>(b) * queries + i) * heads + h; }
    __device__ __forceinline__ int64_t key_row(int b, int h, int j) const { return (static_cast<int64_t>(b) * keys + j) * heads + h; }
    __device__ __forceinline__ int64_t rope_row(int b, int j) const { return static_cast<int64_t>(b) * keys + j; }
    __device__ __forceinline__ int64_t statistic(int b, int h, int i) const { return (static_cast<int64_t>(b) * heads + h) * queries + i; }

    // The last key that query i sees.
    __device__ __forceinline__ int last_key(int i) const { return keys - queries + i; }
};
