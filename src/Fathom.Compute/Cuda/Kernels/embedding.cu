// Rows of the embedding table out, gradients back in. A token that occurs often gets the sum over its places in the order of the
// places, in F32, rounded once: whoever holds the first place adds all later ones, so no two blocks write one row.
#include "elementwise.cuh"
#include "faults.cuh"

// y[i] = table[ids[i]]. A block a token.
template <typename T, typename Y, int N>
__global__ void embedding(
    const int32_t* ids, const T* table, int64_t tableStride, int64_t vocabulary, Y* y, int64_t yStride, int64_t columns, Fault* fault)
{
    int64_t token = blockIdx.x;
    int32_t id = ids[token];
    bool known = in_range(id, vocabulary, token, EmbeddingFault, fault);
    table += known ? id * tableStride : 0;
    y += token * yStride;
    for (int64_t column = static_cast<int64_t>(threadIdx.x) * N; column < columns; column += static_cast<int64_t>(blockDim.x) * N)
    {
        float a[N];
        if (known) read(a, table + column);
#pragma unroll
        for (int i = 0; i < N; i++) a[i] = known ? a[i] : not_a_number();
        write(y + column, a);
    }
}

constexpr int IdsOfBlock = 128;

// later[i] = how many places after i have the same id, or -1 where one before it has (its block adds this one) or where the id is
// not of the vocabulary. One thread a place; each compares its id with all others: 16 M comparisons for 4096 tokens.
__global__ void __launch_bounds__(IdsOfBlock) embedding_places(
    const int32_t* ids, int32_t tokens, int64_t vocabulary, int32_t* later, Fault* fault)
{
    __shared__ int32_t others[IdsOfBlock];
    int64_t own = static_cast<int64_t>(blockIdx.x) * IdsOfBlock, place = own + threadIdx.x;
    int32_t id = place < tokens ? ids[place] : -1;
    bool known = place < tokens && in_range(id, vocabulary, place, EmbeddingGradientFault, fault);
    int before = 0, after = 0;
    for (int64_t start = 0; start < tokens; start += IdsOfBlock)
    {
        int64_t other = start + threadIdx.x;
        others[threadIdx.x] = other < tokens ? ids[other] : -1;
        __syncthreads();
        if (start == own)
        {
            for (int i = 0; i < IdsOfBlock; i++)
            {
                before += others[i] == id && i < static_cast<int>(threadIdx.x) ? 1 : 0;
                after += others[i] == id && i > static_cast<int>(threadIdx.x) ? 1 : 0;
            }
        }
        else
        {
            int same = 0;
#pragma unroll 16
            for (int i = 0; i < IdsOfBlock; i++) same += others[i] == id ? 1 : 0;
            before += start < own ? same : 0;
            after += start < own ? 0 : same;
        }

        __syncthreads();
    }

    if (place < tokens) later[place] = known && before == 0 ? after : -1;
}

constexpr int MostThreads = 256;

// dtable[ids[i]] += dy[i], summed over the places of an id by the block of the first one. Grid: tokens, tiles of columns.
template <typename T, typename D, int N>
__global__ void __launch_bounds__(MostThreads) embedding_gradient(
    const int32_t* ids, int32_t tokens, const int32_t* later, const T* dy, int64_t dyStride, D* dtable, int64_t tableStride,
    int64_t columns)
{
    __shared__ int32_t places[MostThreads];
    __shared__ int32_t found[MostThreads / WarpSize];
    int64_t place = blockIdx.x;
    int32_t remaining = later[place];
    if (remaining < 0) return;
    int32_t id = ids[place];
    int64_t column = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * N;
    bool mine = column < columns;
    D* row = dtable + id * tableStride + column;
    dy += column;
    float sum[N], term[N];
    if (mine)
    {
        read(sum, row);
        read(term, dy + place * dyStride);
#pragma unroll
        for (int i = 0; i < N; i++) sum[i] += term[i];
    }

    // As many ids at a time as there are threads: those that match are listed in order, then added in order.
    int warp = threadIdx.x / WarpSize, lane = threadIdx.x % WarpSize, warps = blockDim.x / WarpSize;
    for (int64_t start = place + 1; remaining > 0; start += blockDim.x)
    {
        int64_t other = start + threadIdx.x;
        bool same = other < tokens && ids[other] == id;
        uint32_t matches = __ballot_sync(AllLanes, same);
        if (lane == 0) found[warp] = __popc(matches);
        __syncthreads();
        int before = 0, listed = 0;
        for (int i = 0; i < warps; i++)
        {
            before += i < warp ? found[i] : 0;
            listed += found[i];
        }

        if (same) places[before + __popc(matches & ((1u << lane) - 1))] = static_cast<int32_t>(other);
        __syncthreads();
        if (mine)
        {
#pragma unroll 4
            for (int i = 0; i < listed; i++)
            {
                read(term, dy + places[i] * dyStride);
#pragma unroll
                for (int j = 0; j < N; j++) sum[j] += term[j];
            }
        }

        remaining -= listed;
        __syncthreads();
    }

    if (mine) write(row, sum);
}
