// Rows of the paged latent cache, [latent, rotary key], in and out. A token's row is a block's.
#include "elementwise.cuh"
#include "faults.cuh"

template <typename T, typename C, int N>
__global__ void cache_store(
    const T* latent, int64_t latentStride, const T* rope, int64_t ropeStride, const int32_t* slots, C* cache, int64_t cacheStride,
    int64_t cacheRows, int32_t rank, int32_t columns, Fault* fault)
{
    int64_t token = blockIdx.x, slot = slots[token];
    if (slot < 0 || slot >= cacheRows)
    {
        if (threadIdx.x == 0) in_range(slots[token], cacheRows, token, CacheStoreFault, fault);
        return;
    }

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
    bool known = slot >= 0 && slot < cacheRows;
    if (!known && threadIdx.x == 0) in_range(slots[token], cacheRows, token, CacheLoadFault, fault);
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
