// Tokens to experts and back: a stable counting sort of the slots (token · K + k) by expert, and the copies and sums of rows that
// follow from it. Indices are those of the sort and are not checked here.
#include "rows.cuh"

// ---- Counting sort ----

constexpr int SlotsAtOnce = 8;

__device__ __forceinline__ int inclusive_scan(int x)
{
    int lane = threadIdx.x % WarpSize;
#pragma unroll
    for (int distance = 1; distance < WarpSize; distance *= 2)
    {
        int before = __shfl_up_sync(AllLanes, x, distance);
        if (lane >= distance) x += before;
    }

    return x;
}

// The sum of x in the threads before this one, and of all.
__device__ __forceinline__ int exclusive_scan(int x, int& total)
{
    __shared__ int ends[WarpSize];
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize, warps = blockDim.x / WarpSize;
    int sum = inclusive_scan(x);
    if (lane == WarpSize - 1) ends[warp] = sum;
    __syncthreads();
    if (warp == 0)
    {
        int scanned = inclusive_scan(lane < warps ? ends[lane] : 0);
        ends[lane] = scanned;
    }

    __syncthreads();
    total = ends[warps - 1];
    int before = warp > 0 ? ends[warp - 1] : 0;
    __syncthreads();
    return before + sum - x;
}

// One block, since a step sorts no more than some ten thousand numbers: every warp has a stretch of slots, counts its experts, and after
// a scan over experts and warps puts its slots in their places. Lanes with the same expert find each other by ballots over the bits
// of its number, so that equal experts keep their order. Shared memory: counters [warps, E].
__global__ void __launch_bounds__(1024) sort_slots(
    const int32_t* experts, int64_t slots, int64_t slotsOfWarp, int32_t count, int32_t bits, int32_t* rowOffsets, int32_t* slotOfRow, int32_t* rowOfSlot)
{
    DYNAMIC_SHARED(shared);
    int32_t* counters = reinterpret_cast<int32_t*>(shared);
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize, warps = blockDim.x / WarpSize;
    int32_t* counter = counters + static_cast<int64_t>(warp) * count;
    int64_t first = warp * slotsOfWarp, end = min(slots, first + slotsOfWarp);
    for (int e = lane; e < count; e += WarpSize) counter[e] = 0;
    __syncwarp();

    for (int64_t start = first; start < end; start += WarpSize * SlotsAtOnce)
    {
#pragma unroll
        for (int i = 0; i < SlotsAtOnce; i++)
        {
            int64_t slot = start + i * WarpSize + lane;
            if (slot < end) atomicAdd(&counter[experts[slot]], 1);
        }
    }

    __syncthreads();
    int begun = 0;
    for (int firstExpert = 0; firstExpert < count; firstExpert += blockDim.x)
    {
        int e = firstExpert + threadIdx.x, own = 0, all;
        for (int w = 0; w < warps && e < count; w++) own += counters[static_cast<int64_t>(w) * count + e];
        int place = begun + exclusive_scan(own, all);
        if (e < count) rowOffsets[e] = place;
        for (int w = 0; w < warps && e < count; w++)
        {
            int32_t& ofWarp = counters[static_cast<int64_t>(w) * count + e];
            int next = place + ofWarp;
            ofWarp = place;
            place = next;
        }

        begun += all;
    }

    if (threadIdx.x == 0) rowOffsets[count] = begun;
    __syncthreads();
    for (int64_t start = first; start < end; start += WarpSize * SlotsAtOnce)
    {
        int32_t chosen[SlotsAtOnce];
#pragma unroll
        for (int i = 0; i < SlotsAtOnce; i++)
        {
            int64_t slot = start + i * WarpSize + lane;
            chosen[i] = slot < end ? experts[slot] : -1;
        }

#pragma unroll
        for (int i = 0; i < SlotsAtOnce; i++)
        {
            uint32_t peers = __ballot_sync(AllLanes, chosen[i] >= 0);
            for (int bit = 0; bit < bits; bit++)
            {
                bool set = (chosen[i] >> bit & 1) != 0;
                uint32_t setLanes = __ballot_sync(AllLanes, set);
                peers &= set ? setLanes : ~setLanes;
            }

            int64_t slot = start + i * WarpSize + lane;
            int place = 0;
            if (chosen[i] >= 0)
            {
                place = counter[chosen[i]] + __popc(peers & ((1u << lane) - 1));
                slotOfRow[place] = static_cast<int32_t>(slot);
                rowOfSlot[slot] = place;
            }

            __syncwarp();
            // The last of the peers leaves the next place.
            if (chosen[i] >= 0 && peers >> lane == 1) counter[chosen[i]] = place + 1;
            __syncwarp();
        }
    }
}

// ---- Rows ----

// y[s] = x[slotOfRow[s] / K], rows of `chunks` pieces of 16, 4 or 1 bytes; strides in bytes.
template <typename Piece>
__global__ void __launch_bounds__(256) dispatch_rows(
    const uint8_t* x, int64_t xStride, const int32_t* slotOfRow, int32_t topK, uint8_t* y, int64_t yStride, int64_t rows, int64_t chunks, int32_t width, int32_t rowsOfBlock)
{
    constexpr int ChunksOfThread = 4;
    RowPlace at = row_place(rows, width, rowsOfBlock, ChunksOfThread);
    if (!at.valid) return;
    const Piece* from = reinterpret_cast<const Piece*>(x + slotOfRow[at.row] / topK * xStride);
    Piece* to = reinterpret_cast<Piece*>(y + at.row * yStride);
    Piece pieces[ChunksOfThread];
#pragma unroll
    for (int i = 0; i < ChunksOfThread; i++)
    {
        if (at.first + i * width < chunks) pieces[i] = from[at.first + i * width];
    }

#pragma unroll
    for (int i = 0; i < ChunksOfThread; i++)
    {
        if (at.first + i * width < chunks) to[at.first + i * width] = pieces[i];
    }
}

// output[t] = Σ_k y[rowOfSlot[t, k]], k ascending, or += that; four rows are under way at a time.
template <typename T, int Chunk, bool Accumulate>
__global__ void __launch_bounds__(256) combine_rows(
    const T* y, int64_t yStride, const int32_t* rowOfSlot, int32_t topK, T* output, int64_t outputStride, int64_t tokens, int64_t chunks, int32_t width, int32_t rowsOfBlock)
{
    constexpr int RowsAtOnce = 4;
    RowPlace at = row_place(tokens, width, rowsOfBlock, 1);
    if (!at.valid || at.first >= chunks) return;
    int64_t column = at.first * Chunk;
    const int32_t* slots = rowOfSlot + at.row * topK;
    T* to = output + at.row * outputStride + column;
    float sum[Chunk] = {};
    for (int k = 0; k < topK; k += RowsAtOnce)
    {
        Pack<T, Chunk> rows[RowsAtOnce];
#pragma unroll
        for (int i = 0; i < RowsAtOnce; i++)
        {
            if (k + i < topK) rows[i] = *reinterpret_cast<const Pack<T, Chunk>*>(y + slots[k + i] * yStride + column);
        }

#pragma unroll
        for (int i = 0; i < RowsAtOnce; i++)
        {
            if (k + i >= topK) break;
#pragma unroll
            for (int j = 0; j < Chunk; j++) sum[j] = k + i == 0 ? to_float(rows[i].values[j]) : sum[j] + to_float(rows[i].values[j]);
        }
    }

    if constexpr (Accumulate)
    {
        float before[Chunk];
        load<T, Chunk>(before, to);
#pragma unroll
        for (int j = 0; j < Chunk; j++) sum[j] += before[j];
    }

    store<T, Chunk>(to, sum);
}

// ---- One number a slot ----

// to[s] = from[slotOfRow[s]].
__global__ void __launch_bounds__(256) slots_to_rows(const float* from, const int32_t* slotOfRow, float* to, int64_t slots)
{
    int64_t s = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (s < slots) to[s] = from[slotOfRow[s]];
}

// to[slotOfRow[s]] = from[s].
__global__ void __launch_bounds__(256) rows_to_slots(const float* from, const int32_t* slotOfRow, float* to, int64_t slots)
{
    int64_t s = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (s < slots) to[slotOfRow[s]] = from[s];
}
