// Kernels of clusters and of stores by the copy engine, for the emulator's own test. A module of their own: one with __shared__ variables
// cannot be launched in clusters.
#include "common.cuh"
#include "hopper.cuh"

using hopper::Barrier, hopper::TensorMap;

__device__ __forceinline__ unsigned char* aligned(unsigned char* memory) { return memory + (1024 - ptx::shared_address(memory) % 1024) % 1024; }

// Element (row, column) of a tile of rows of 32 floats, as the copy engine permutes them.
__device__ __forceinline__ float& element(unsigned char* tile, int row, int column)
{
    return reinterpret_cast<float*>(tile)[row * 32 + ((column / 4) ^ (row % 8)) * 4 + column % 4];
}

// Every block of a cluster needs the 32 columns of a step of all 8 * Size rows of its cluster, loads 8 of the rows for all of them, and
// adds up what came: sums[block][t] = sum of (step + 1) (rank + 1) x[row][column], over columns t % 32, t % 32 + ... and rows t / 32, t / 32 + 2, ...
// Two stages; a stage is loaded again when all warps of all blocks have read it, Wait; without, before they have: the second warp is slow.
template <int Size, bool Wait>
__global__ void __launch_bounds__(64) sum_for_all(const __grid_constant__ TensorMap map, float* sums, int steps)
{
    constexpr int Part = 8 * 128;
    DYNAMIC_SHARED(memory);
    unsigned char* tiles = aligned(memory);
    auto filled = reinterpret_cast<Barrier*>(tiles + 2 * Size * Part), emptied = filled + 2;
    uint32_t rank = hopper::cluster_rank();
    int lane = threadIdx.x % 32, firstRow = (blockIdx.x - rank) * 8;
    if (threadIdx.x == 0)
    {
        for (int i = 0; i < 2; i++)
        {
            hopper::barrier_make(&filled[i], 1);
            hopper::barrier_make(&emptied[i], 2 * Size);
        }
        hopper::barriers_made();
    }
    hopper::cluster_sync();
    float sum = 0;
    for (int step = 0; step < steps; step++)
    {
        int stage = step % 2;
        uint32_t parity = step / 2 % 2;
        unsigned char* tile = tiles + stage * Size * Part;
        if (threadIdx.x == 0)
        {
            if (Wait) hopper::barrier_wait(&emptied[stage], parity ^ 1);
            hopper::load_tile_for((1 << Size) - 1, tile + rank * Part, &map, &filled[stage], step * 32, firstRow + rank * 8);
            hopper::barrier_arrive_expecting(&filled[stage], Size * Part);
        }
        __syncwarp();
        hopper::barrier_wait(&filled[stage], parity);
        for (int i = 0; i < 8 * static_cast<int>(threadIdx.x / 32); i++) __nanosleep(100);
        for (int row = threadIdx.x / 32; row < 8 * Size; row += 2) sum += (step + 1) * (rank + 1) * element(tile, row, lane);
        __syncwarp();
        if (lane < Size) hopper::barrier_arrive_at(&emptied[stage], lane);
    }
    sums[blockIdx.x * 64 + threadIdx.x] = sum;
    hopper::cluster_sync();
}

// What the blocks of a cluster left in global memory before a barrier of all. The last thread exits before it; blocks of 45 threads have a
// part of a warp, whose lanes are not those of the next block.
template <bool Sync>
__global__ void neighbours(int* ranks, int* sums, int size)
{
    int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y, rank = hopper::cluster_rank();
    if (thread == threads - 1) return;
    int lanes = __popc(__activemask());
    ranks[blockIdx.x * threads + thread] = rank;
    if (Sync) hopper::cluster_sync();
    else __syncthreads();
    int sum = lanes * 1000;
    for (int i = 0; i < size; i++) sum += (i + 1) * ranks[(blockIdx.x - rank + i) * threads + thread];
    sums[blockIdx.x * threads + thread] = sum;
}

// One warp writes or adds its block's 8x32 tiles: value = 1000 z + 100 y + x + blockIdx.z. Two tiles in turn; a tile is written again when
// at most Pending groups of stores have yet to read, 1 being right.
template <bool Add, int Pending, bool Commit>
__global__ void __launch_bounds__(32) write_tiles(const __grid_constant__ TensorMap map, int tiles)
{
    DYNAMIC_SHARED(memory);
    unsigned char* start = aligned(memory);
    int lane = threadIdx.x, y = static_cast<int>(blockIdx.y) * 8 - 3, z = blockIdx.x;
    for (int i = 0; i < tiles; i++)
    {
        unsigned char* tile = start + i % 2 * 1024;
        int x = i * 32 - 8;
        if (lane == 0) hopper::await_stores_read<Pending>();
        __syncwarp();
        for (int row = 0; row < 8; row++) element(tile, row, lane) = 1000 * z + 100 * (y + row) + x + lane + static_cast<int>(blockIdx.z);
        hopper::fence_async();
        __syncwarp();
        if (lane == 0)
        {
            if (Add) hopper::add_tile(&map, tile, x, y, z);
            else hopper::store_tile(&map, tile, x, y, z);
            if (Commit) hopper::commit_stores();
        }
    }
    if (lane == 0) hopper::await_stores_read<0>();
}

// A tile of BF16, 16x8 and not swizzled, of values that count up.
__global__ void write_plain(const __grid_constant__ TensorMap map, int add)
{
    DYNAMIC_SHARED(memory);
    auto values = reinterpret_cast<uint16_t*>(memory);
    for (int i = 0; i < 4; i++) values[threadIdx.x * 4 + i] = static_cast<uint16_t>(threadIdx.x * 4 + i);
    hopper::fence_async();
    __syncwarp();
    if (threadIdx.x != 0) return;
    if (add) hopper::add_tile(&map, memory, 8, 4, 1);
    else hopper::store_tile(&map, memory, 8, 4, 1);
    hopper::commit_stores();
    hopper::await_stores_read<0>();
}

// ---- What must be reported ----

// Exits without waiting for its stores.
__global__ void store_and_exit(const __grid_constant__ TensorMap map)
{
    DYNAMIC_SHARED(memory);
    if (threadIdx.x != 0) return;
    hopper::store_tile(&map, aligned(memory), 0, 0, 0);
    hopper::commit_stores();
}

// Block 1 of a cluster reaches into block 0, which may have exited: by an arrival or by a copy.
__global__ void reach_exited(const __grid_constant__ TensorMap map, int* flag, int copy)
{
    DYNAMIC_SHARED(memory);
    unsigned char* tile = aligned(memory);
    auto barrier = reinterpret_cast<Barrier*>(tile + 1024);
    if (threadIdx.x == 0) hopper::barrier_make(barrier, 1);
    hopper::cluster_sync();
    if (threadIdx.x != 0) return;
    if (hopper::cluster_rank() == 0) { atomicExch(flag, 1); return; }
    while (atomicAdd(flag, 0) == 0) __nanosleep(100);
    __nanosleep(100);
    if (copy) hopper::load_tile_for(1, tile, &map, barrier, 0, 0);
    else hopper::barrier_arrive_at(barrier, 0);
}

// Arrives at a block that the cluster does not have, or at memory that no other block has.
__global__ void reach_outside(int rank, int local)
{
    DYNAMIC_SHARED(memory);
    auto barrier = reinterpret_cast<Barrier*>(memory);
    Barrier ofThread;
    hopper::barrier_make(barrier, 1);
    hopper::cluster_sync();
    hopper::barrier_arrive_at(local ? &ofThread : barrier, rank);
    hopper::cluster_sync();
}

// A copy arrives at a block that exits without waiting for it.
__global__ void copy_unawaited(const __grid_constant__ TensorMap map)
{
    DYNAMIC_SHARED(memory);
    unsigned char* tile = aligned(memory);
    auto barrier = reinterpret_cast<Barrier*>(tile + 1024);
    hopper::barrier_make(barrier, 1);
    hopper::cluster_sync();
    if (hopper::cluster_rank() == 0) hopper::load_tile_for(2, tile, &map, barrier, 0, 0);
    hopper::cluster_sync();
}

// Half of block 1 never comes to the barrier of the cluster.
__global__ void cluster_deadlock()
{
    if (hopper::cluster_rank() == 1 && threadIdx.x >= 32) __syncthreads();
    else hopper::cluster_sync();
}

// Every block waits for an arrival of the next, but that of the last is at a barrier that nobody waits for.
__global__ void cluster_hang(int size)
{
    DYNAMIC_SHARED(memory);
    auto barriers = reinterpret_cast<Barrier*>(memory);
    int rank = hopper::cluster_rank();
    if (threadIdx.x == 0) { hopper::barrier_make(&barriers[0], 1); hopper::barrier_make(&barriers[1], 1); }
    hopper::cluster_sync();
    if (threadIdx.x == 0) hopper::barrier_arrive_at(&barriers[rank == size - 1], (rank + 1) % size);
    hopper::barrier_wait(&barriers[0], 0);
    hopper::cluster_sync();
}

__global__ void nothing() { }
