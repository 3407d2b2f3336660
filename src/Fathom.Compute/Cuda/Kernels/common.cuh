// What all kernels share: element types, conversions, and sums over warps and blocks. Sums run in a fixed order, so a kernel that
// uses nothing else gives the same bits in every run; where blocks add to one sum (hopper_attention_sums.cuh), they do so in turn.
#pragma once
#include "ptx.cuh"

constexpr int WarpSize = 32;
constexpr uint32_t AllLanes = 0xffffffffu;

// ---- Element types ----

struct bf16 { uint16_t bits; };
struct e4m3 { uint8_t bits; };
struct e5m2 { uint8_t bits; };
struct hif8 { uint8_t bits; };
struct e8m0 { uint8_t bits; };

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }
__device__ __forceinline__ float to_float(e4m3 x) { return ptx::float_from_half(static_cast<uint16_t>(ptx::halfx2_from_e4m3x2(x.bits))); }
__device__ __forceinline__ float to_float(e5m2 x) { return ptx::float_from_half(static_cast<uint16_t>(x.bits << 8)); }

// A power of two, 2^(bits - 127); 0xff is NaN and 0 is the subnormal 2^-127.
__device__ __forceinline__ float to_float(e8m0 x)
{
    return __uint_as_float(static_cast<uint32_t>(x.bits) << 23 | (x.bits % 0xff == 0 ? 0x00400000u : 0u));
}

// To nearest even; the 8-bit formats saturate.
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) { return {ptx::bf16_from_float(x)}; }
template <> __device__ __forceinline__ e4m3 from_float<e4m3>(float x) { return {static_cast<uint8_t>(ptx::e4m3x2_from_floats(x, 0))}; }
template <> __device__ __forceinline__ e5m2 from_float<e5m2>(float x) { return {static_cast<uint8_t>(ptx::e5m2x2_from_floats(x, 0))}; }

// N elements that are loaded and stored at once; 16 bytes are the widest access.
template <typename T, int N> struct __align__(sizeof(T) * N) Pack
{
    T values[N];
};

template <typename T, int N>
__device__ __forceinline__ void load(float (&to)[N], const T* from)
{
    Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_float(pack.values[i]);
}

// To global or shared memory.
template <typename T, int N>
__device__ __forceinline__ void store_anywhere(T* to, const float (&from)[N])
{
    Pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; i++) pack.values[i] = from_float<T>(from[i]);
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// To global memory, and nowhere else.
template <typename T, int N>
__device__ __forceinline__ void store(T* to, const float (&from)[N])
{
    if constexpr (sizeof(T) * N % 4 == 0 && sizeof(T) > 1)
    {
        constexpr int Words = sizeof(T) * N / 4;
        uint32_t words[Words];
#pragma unroll
        for (int i = 0; i < Words; i++)
        {
            if constexpr (sizeof(T) == 4) words[i] = __float_as_uint(from[i]);
            else words[i] = ptx::bf16x2_from_floats(from[2 * i], from[2 * i + 1]);
        }

        ptx::store_words(to, words);
    }
    else store_anywhere(to, from);
}

// ---- Sums ----

struct Sum { template <typename T> __device__ static T combine(T a, T b) { return a + b; } };
struct Max { template <typename T> __device__ static T combine(T a, T b) { return a > b ? a : b; } };

// The same value in every lane.
template <typename Op, typename T>
__device__ __forceinline__ T warp_reduce(T x)
{
#pragma unroll
    for (int distance = WarpSize / 2; distance > 0; distance /= 2) x = Op::combine(x, __shfl_xor_sync(AllLanes, x, distance));
    return x;
}

// The same value in every thread; blocks of a multiple of 32 threads, all of which call. Has barriers of its own at both ends, so
// calls may follow each other.
template <typename Op, typename T>
__device__ __forceinline__ T block_reduce(T x)
{
    __shared__ T partial[WarpSize];
    int warp = threadIdx.x / WarpSize, warps = blockDim.x / WarpSize;
    x = warp_reduce<Op>(x);
    if (threadIdx.x % WarpSize == 0) partial[warp] = x;
    __syncthreads();
    T total = partial[0];
    for (int i = 1; i < warps; i++) total = Op::combine(total, partial[i]);
    __syncthreads();
    return total;
}

__device__ __forceinline__ int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
