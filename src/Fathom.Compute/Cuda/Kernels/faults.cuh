// What a kernel does with an index that is out of range: it leaves a note in page-locked host memory, which the host reads when it
// next waits for the GPU, and gives no result that could be taken for one. DeviceFaults.cs declares the same record.
#pragma once
#include "common.cuh"

// One 16-byte store, so that notes of several threads do not mix; the last one stays.
struct __align__(16) Fault
{
    int32_t code, value, place, limit;
};

constexpr int32_t EmbeddingFault = 1;
constexpr int32_t EmbeddingGradientFault = 2;
constexpr int32_t RotaryFault = 3;
constexpr int32_t LossFault = 4;
constexpr int32_t CacheStoreFault = 5;
constexpr int32_t CacheLoadFault = 6;
constexpr int32_t DecodeLengthFault = 7;
constexpr int32_t DecodeBlockFault = 8;
constexpr int32_t SamplingRowFault = 9;
constexpr int32_t SamplingMaskFault = 10;
constexpr int32_t SamplingChangeFault = 11;
constexpr int32_t SamplingTokenFault = 12;

// Whether an index is one of 0 to limit - 1; notes it otherwise.
__device__ __forceinline__ bool in_range(int32_t value, int64_t limit, int64_t place, int32_t code, Fault* fault)
{
    if (value >= 0 && value < limit) return true;
    uint4 note = make_uint4(code, value, static_cast<uint32_t>(place), static_cast<uint32_t>(limit));
    *reinterpret_cast<uint4*>(fault) = note;
    return false;
}

__device__ __forceinline__ float not_a_number() { return __uint_as_float(0x7fffffffu); }
