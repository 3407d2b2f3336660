// Rows of the paged latent cache, [latent, rotary key], in and out, in one type or with the latent in codes (LatentRow on the host). A
// token's row is a block's.
#include "elementwise.cuh"
#include "faults.cuh"
#include "formats.cuh"

// Whether a token's slot is a row of the cache, asked by every thread of its block; one of them notes a slot that is not.
__device__ __forceinline__ bool slot_known(const int32_t* slots, int64_t token, int64_t cacheRows, int32_t code, Fault* fault)
{
    int32_t slot = slots[token];
    return threadIdx.x == 0 ? in_range(slot, cacheRows, token, code, fault) : slot >= 0 && slot < cacheRows;
}

template <typename T, typename C, int N>
__global__ void cache_store(
    const T* latent, int64_t latentStride, const T* rope, int64_t ropeStride, const int32_t* slots, C* cache, int64_t cacheStride,
    int64_t cacheRows, int32_t rank, int32_t columns, Fault* fault)
{
    int64_t token = blockIdx.x, slot = slots[token];
    if (!slot_known(slots, token, cacheRows, CacheStoreFault, fault)) return;
    latent += token * latentStride;
    rope += token * ropeStride;
    cache += slot * cacheStride;
    for (int column = threadIdx.x * N; column < columns; column += blockDim.x * N)
    {
        float a[N];
        read(a, column < rank ? latent + column : rope + (column - rank));
        write(cache + column, a);
    }
}

template <typename T, typename C, int N>
__global__ void cache_load(
    const C* cache, int64_t cacheStride, int64_t cacheRows, const int32_t* slots, T* latent, int64_t latentStride, T* rope,
    int64_t ropeStride, int32_t rank, int32_t columns, Fault* fault)
{
    int64_t token = blockIdx.x, slot = slots[token];
    bool known = slot_known(slots, token, cacheRows, CacheLoadFault, fault);
    latent += token * latentStride;
    rope += token * ropeStride;
    for (int column = threadIdx.x * N; column < columns; column += blockDim.x * N)
    {
        float a[N];
        if (known) read(a, cache + slot * cacheStride + column);
#pragma unroll
        for (int i = 0; i < N; i++) a[i] = known ? a[i] : not_a_number();
        write(column < rank ? latent + column : rope + (column - rank), a);
    }
}

// ---- Rows of codes: codes of the latent, an F32 scale for each 128 of them, the rotary key in BF16 ----

__device__ __forceinline__ int64_t rope_offset(int32_t rank) { return rank + sizeof(float) * ((rank + TileLength - 1) / TileLength); }

// A warp has a tile, a lane four of its numbers; rank is a multiple of four, so a lane has all four or none.
template <typename T>
__global__ void cache_store_codes(
    const T* latent, int64_t latentStride, const T* rope, int64_t ropeStride, const int32_t* slots, uint8_t* cache, int64_t cacheStride,
    int64_t cacheRows, int32_t rank, int32_t ropeColumns, float leastAmax, Fault* fault)
{
    constexpr int Each = TileLength / WarpSize;
    int64_t token = blockIdx.x, slot = slots[token];
    if (!slot_known(slots, token, cacheRows, CacheStoreFault, fault)) return;
    latent += token * latentStride;
    rope += token * ropeStride;
    cache += slot * cacheStride;
    float* scales = reinterpret_cast<float*>(cache + rank);
    bf16* key = reinterpret_cast<bf16*>(cache + rope_offset(rank));
    int lane = threadIdx.x % WarpSize;
    for (int tile = threadIdx.x / WarpSize; tile * TileLength < rank; tile += blockDim.x / WarpSize)
    {
        int column = tile * TileLength + lane * Each;
        float x[Each] = {};
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < Each && column < rank; i++)
        {
            x[i] = to_float(latent[column + i]);
            largest = max(largest, __float_as_uint(x[i]) & MagnitudeMask);
        }

        float scale = tile_scale<e4m3>(warp_reduce<Max>(largest), leastAmax, false);
        if (lane == 0) scales[tile] = scale;
        if (column >= rank) continue;
        Divisor divisor(scale);
#pragma unroll
        for (int i = 0; i < Each; i++) x[i] = divisor.quotient(divisor.moved(x[i]));
        store_codes<e4m3, Each>(cache + column, x);
    }

    for (int column = threadIdx.x; column < ropeColumns; column += blockDim.x) key[column] = from_float<bf16>(to_float(rope[column]));
}

template <typename T>
__global__ void cache_load_codes(
    const uint8_t* cache, int64_t cacheStride, int64_t cacheRows, const int32_t* slots, T* latent, int64_t latentStride, T* rope,
    int64_t ropeStride, int32_t rank, int32_t ropeColumns, Fault* fault)
{
    int64_t token = blockIdx.x, slot = slots[token];
    bool known = slot_known(slots, token, cacheRows, CacheLoadFault, fault);
    latent += token * latentStride;
    rope += token * ropeStride;
    cache += known ? slot * cacheStride : 0;
    const float* scales = reinterpret_cast<const float*>(cache + rank);
    const bf16* key = reinterpret_cast<const bf16*>(cache + rope_offset(rank));
    for (int column = threadIdx.x; column < rank; column += blockDim.x)
        latent[column] = from_float<T>(known ? __fmul_rn(to_float(e4m3{cache[column]}), scales[column / TileLength]) : not_a_number());
    for (int column = threadIdx.x; column < ropeColumns; column += blockDim.x)
        rope[column] = from_float<T>(known ? to_float(key[column]) : not_a_number());
}
