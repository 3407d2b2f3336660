// Kernels of the emulator's own test: each shows one thing that the emulator must do, or must report.
#include "common.cuh"

template <typename T>
__global__ void add(const T* a, const T* b, T* c, int count)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) c[i] = from_float<T>(to_float(a[i]) + to_float(b[i]));
}

__global__ void __launch_bounds__(256) sum_rows(const float* x, int columns, float* sums, float* largest)
{
    float sum = 0, most = -1e30f;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
    {
        sum += x[static_cast<int64_t>(blockIdx.x) * columns + i];
        most = fmaxf(most, x[static_cast<int64_t>(blockIdx.x) * columns + i]);
    }
    sum = block_reduce<Sum>(sum);
    most = block_reduce<Max>(most);
    if (threadIdx.x == 0)
    {
        sums[blockIdx.x] = sum;
        largest[blockIdx.x] = most;
    }
}

// Tiles of 32x32 through shared memory, by blocks of 32x8 threads. Without the barrier, threads read what others have not written.
template <bool Barrier>
__global__ void transpose(const float* x, float* y, int rows, int columns)
{
    __shared__ float tile[32][33];
    int row = blockIdx.y * 32, column = blockIdx.x * 32;
    for (int i = threadIdx.y; i < 32; i += 8)
        if (row + i < rows && column + threadIdx.x < columns) tile[i][threadIdx.x] = x[(row + i) * columns + column + threadIdx.x];
    if (Barrier) __syncthreads();
    for (int i = threadIdx.y; i < 32; i += 8)
        if (column + i < columns && row + threadIdx.x < rows) y[(column + i) * rows + row + threadIdx.x] = tile[threadIdx.x][i];
}

// One warp: c[16x8] = a[16x16] b, b row-major [16x8] (transposed loads) or [8x16] (plain ones), through asynchronous copies.
template <bool RowMajor>
__global__ void product_bf16(const bf16* a, const bf16* b, float* c)
{
    DYNAMIC_SHARED(memory);
    bf16* sharedA = reinterpret_cast<bf16*>(memory);
    bf16* sharedB = sharedA + 256;
    int lane = threadIdx.x;
    ptx::copy_async16(sharedA + 8 * lane, a + 8 * lane, true);
    ptx::copy_async_commit();
    if (lane < 16) ptx::copy_async16(sharedB + 8 * lane, b + 8 * lane, true);
    ptx::copy_async_commit();
    ptx::copy_async_wait<0>();
    __syncwarp();
    uint32_t fragmentA[4], fragmentB[4];
    // Matrices: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15.
    ptx::load_matrices(fragmentA, sharedA + (lane % 16) * 16 + lane / 16 * 8);
    if (RowMajor) ptx::load_matrices_transposed(fragmentB, sharedB + (lane % 16) * 8);
    else ptx::load_matrices(fragmentB, sharedB + (lane % 8) * 16 + lane / 8 % 2 * 8);
    float sums[4] = {};
    ptx::multiply_bf16(sums, fragmentA, fragmentB[0], fragmentB[1]);
    for (int i = 0; i < 4; i++) c[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

// c[16x8] = a[16x32] b[8x32]^T, with the fragments read element by element.
__global__ void product_e4m3(const uint8_t* a, const uint8_t* b, float* c)
{
    int lane = threadIdx.x, row = lane / 4, k = lane % 4 * 4;
    auto word = [](const uint8_t* p) { return *reinterpret_cast<const uint32_t*>(p); };
    uint32_t fragment[4] = {word(a + row * 32 + k), word(a + (row + 8) * 32 + k), word(a + row * 32 + k + 16), word(a + (row + 8) * 32 + k + 16)};
    float sums[4] = {};
    ptx::multiply_e4m3(sums, fragment, word(b + row * 32 + k), word(b + row * 32 + k + 16));
    for (int i = 0; i < 4; i++) c[(row + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

__global__ void convert(const float* x, uint8_t* e4m3s, uint8_t* e5m2s, uint16_t* bf16s, int count)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    e4m3s[i] = static_cast<uint8_t>(ptx::e4m3x2_from_floats(0, x[i]) >> 8);
    e5m2s[i] = static_cast<uint8_t>(ptx::e5m2x2_from_floats(x[i], 0));
    bf16s[i] = ptx::bf16_from_float(x[i]);
}

// All 256 codes.
__global__ void widen(float* e4m3s, float* e5m2s)
{
    e4m3s[threadIdx.x] = to_float(e4m3{static_cast<uint8_t>(threadIdx.x)});
    e5m2s[threadIdx.x] = to_float(e5m2{static_cast<uint8_t>(threadIdx.x)});
}

struct Shape { int64_t count; int factor; };

extern "C" __global__ void __launch_bounds__(128) scale(const __grid_constant__ Shape shape, int* x, uint32_t* ticket, int* last)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < shape.count) x[i] *= shape.factor;
    __threadfence();
    if (threadIdx.x == 0 && atomicAdd(ticket, 1u) == gridDim.x - 1) *last = 1;
}

__global__ void warp_functions(int* out)
{
    int lane = threadIdx.x;
    out[lane] = __shfl_up_sync(AllLanes, lane, 1);
    out[32 + lane] = __shfl_down_sync(AllLanes, lane, 4, 8);
    out[64 + lane] = __shfl_sync(AllLanes, lane * 10, 5);
    out[96 + lane] = __shfl_xor_sync(AllLanes, lane, 3);
    out[128 + lane] = static_cast<int>(__ballot_sync(AllLanes, lane % 3 == 0));
    // Two halves that do not meet.
    if (lane < 16) out[160 + lane] = __any_sync(0x0000ffffu, lane == 3);
    else out[160 + lane] = __all_sync(0xffff0000u, lane != 20);
    if (lane < 16) out[192 + lane] = static_cast<int>(__reduce_max_sync(0x0000ffffu, static_cast<unsigned>(lane * 7 % 16)));
    else out[192 + lane] = static_cast<int>(__reduce_max_sync(0xffff0000u, 100u - lane));
}

// ---- What must be reported ----

__global__ void divergent_barrier(int* x)
{
    if (threadIdx.x < 40) __syncthreads();
    else if (threadIdx.x == 63) __syncwarp();
    x[threadIdx.x] = 1;
}

__global__ void two_barriers(int* x)
{
    if (threadIdx.x % 2 == 0) __syncthreads();
    else __syncthreads();
    x[threadIdx.x] = 1;
}

__global__ void missing_lane(float* x)
{
    if (threadIdx.x == 7) __syncthreads();
    else x[threadIdx.x] = warp_reduce<Sum>(x[threadIdx.x]);
}

__global__ void write_past(float* x, int count) { x[threadIdx.x + count] = 1; }

__global__ void misaligned(float* x)
{
    float values[4];
    load(values, x + 1);
    x[0] = values[0];
}

__global__ void outside_shared(float* x, int index)
{
    __shared__ float values[32];
    values[index] = x[0];
    __syncthreads();
    x[0] = values[threadIdx.x];
}

__global__ void outside_dynamic(float* x, int index)
{
    DYNAMIC_SHARED(memory);
    x[0] = reinterpret_cast<float*>(memory)[index];
}

// A store to global memory, which it is for one address of three.
__global__ void store_somewhere(float* x, int place)
{
    DYNAMIC_SHARED(memory);
    __shared__ __align__(16) float values[4];
    store<float, 4>(place == 0 ? x : place == 1 ? values : reinterpret_cast<float*>(memory), {1, 2, 3, 4});
}

// Reads the copied bytes without waiting for the copy.
__global__ void missing_wait(const float* x, float* y)
{
    DYNAMIC_SHARED(memory);
    float* values = reinterpret_cast<float*>(memory);
    ptx::copy_async16(values + 4 * threadIdx.x, x + 4 * threadIdx.x, true);
    ptx::copy_async_commit();
    y[threadIdx.x] = values[4 * threadIdx.x];
}

__global__ void busy(float* x)
{
    x[blockIdx.x] = block_reduce<Sum>(static_cast<float>(threadIdx.x));
}

// ---- Hopper ----

#include "hopper.cuh"

// One warpgroup: d[64x32] = a[64xK] b[32xK]^T of E4M3, K in tiles of 128 that thread 0 loads into two stages.
template <bool Wait>
__global__ void __launch_bounds__(128) hopper_e4m3(const __grid_constant__ hopper::TensorMap a, const __grid_constant__ hopper::TensorMap b, float* d, int tiles)
{
    DYNAMIC_SHARED(memory);
    unsigned char* start = memory + (1024 - ptx::shared_address(memory) % 1024) % 1024;
    __shared__ hopper::Barrier filled[2], emptied[2];
    if (threadIdx.x == 0)
    {
        for (int i = 0; i < 2; i++)
        {
            hopper::barrier_make(&filled[i], 1);
            hopper::barrier_make(&emptied[i], 4);
        }
        hopper::barriers_made();
    }
    __syncthreads();
    float sums[16];
    for (int tile = 0; tile < tiles; tile++)
    {
        int stage = tile % 2;
        uint32_t parity = tile / 2 % 2;
        unsigned char* ofA = start + stage * 12288;
        if (threadIdx.x == 0)
        {
            hopper::barrier_wait(&emptied[stage], parity ^ 1);
            hopper::barrier_arrive_expecting(&filled[stage], 12288);
            hopper::load_tile(ofA, &a, &filled[stage], tile * 128, 0);
            hopper::load_tile(ofA + 8192, &b, &filled[stage], tile * 128, 0);
        }
        __syncwarp();
        if (Wait) hopper::barrier_wait(&filled[stage], parity);
        hopper::begin_products();
        for (int step = 0; step < 4; step++)
            hopper::multiply_e4m3(sums, hopper::along_sum(ofA).plus(32 * step), hopper::along_sum(ofA + 8192).plus(32 * step), tile + step > 0);
        hopper::commit_products();
        hopper::finish_products(sums);
        if (threadIdx.x % 32 == 0) hopper::barrier_arrive(&emptied[stage]);
    }
    for (int i = 0; i < 16; i++)
    {
        int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8;
        d[row * 32 + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = sums[i];
    }
}

// d[64x128] = a[64x64] b[64x128] of BF16, a as it lies, b by rows of K in two boxes of 64 columns.
__global__ void __launch_bounds__(128) hopper_bf16(const __grid_constant__ hopper::TensorMap a, const __grid_constant__ hopper::TensorMap b, float* d)
{
    DYNAMIC_SHARED(memory);
    unsigned char* start = memory + (1024 - ptx::shared_address(memory) % 1024) % 1024;
    __shared__ hopper::Barrier filled;
    if (threadIdx.x == 0)
    {
        hopper::barrier_make(&filled, 1);
        hopper::barriers_made();
        hopper::barrier_arrive_expecting(&filled, 3 * 8192);
        hopper::load_tile(start, &a, &filled, 0, 0);
        hopper::load_tile(start + 8192, &b, &filled, 0, 0);
        hopper::load_tile(start + 16384, &b, &filled, 64, 0);
    }
    __syncthreads();
    hopper::barrier_wait(&filled, 0);
    float sums[64];
    hopper::begin_products();
    for (int step = 0; step < 4; step++)
        hopper::multiply_bf16<false, true>(sums, hopper::along_sum(start).plus(32 * step), hopper::across_sum(start + 8192, 8192).plus(2048 * step), step > 0);
    hopper::commit_products();
    hopper::finish_products(sums);
    for (int i = 0; i < 64; i++)
    {
        int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8;
        d[row * 128 + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = sums[i];
    }
}

// Waits for bytes that never come.
__global__ void hopper_hang(int* x)
{
    __shared__ hopper::Barrier filled;
    if (threadIdx.x == 0) hopper::barrier_make(&filled, 1);
    __syncthreads();
    hopper::barrier_wait(&filled, 0);
    x[0] = 1;
}
