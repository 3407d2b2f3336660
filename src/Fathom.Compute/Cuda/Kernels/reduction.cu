// Sums, fills and copies at the speed of memory. Sums run in F64: every thread over its own elements, then block by block in order.
#include "elementwise.cuh"

struct Identity { __device__ static double of(double x) { return x; } };
struct Square { __device__ static double of(double x) { return x * x; } };

// sums[block]; the number of blocks depends on the number of elements alone.
template <typename Moment, int N>
__global__ void sum_blocks(const float* x, int64_t count, double* sums)
{
    double sum = 0;
    int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * N;
#pragma unroll 4
    for (int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N; i < count; i += step)
    {
        float a[N];
        read(a, x + i);
#pragma unroll
        for (int j = 0; j < N; j++) sum += Moment::of(a[j]);
    }

    sum = block_reduce<Sum>(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// total = sum of the blocks' sums. One block.
__global__ void sum_total(const double* sums, int32_t count, double* total)
{
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
    sum = block_reduce<Sum>(sum);
    if (threadIdx.x == 0) *total = sum;
}

// found = 1 where an element is infinite or NaN, else left alone.
template <typename T, int N>
__global__ void find_not_finite(const T* x, int64_t xStride, int64_t rows, int64_t columns, int32_t* found)
{
    Place place = place_of_thread<N>(rows, columns);
    bool any = false;
    if (place.valid)
    {
        float a[N];
        read(a, x + place.row * xStride + place.column);
#pragma unroll
        for (int i = 0; i < N; i++) any = any || !(fabsf(a[i]) <= 3.402823466e38f);
    }

    if (__any_sync(AllLanes, any) && threadIdx.x % WarpSize == 0) *found = 1;
}

// y = a + b; y may be either.
template <typename T, int N>
__global__ void add(const T* a, int64_t aStride, const T* b, int64_t bStride, T* y, int64_t yStride, int64_t rows, int64_t columns)
{
    Place place = place_of_thread<N>(rows, columns);
    if (!place.valid) return;
    float left[N], right[N];
    read(left, a + place.row * aStride + place.column);
    read(right, b + place.row * bStride + place.column);
#pragma unroll
    for (int i = 0; i < N; i++) left[i] += right[i];
    write(y + place.row * yStride + place.column, left);
}

template <typename X, typename Y, int N>
__global__ void convert(const X* x, int64_t xStride, Y* y, int64_t yStride, int64_t rows, int64_t columns)
{
    Place place = place_of_thread<N>(rows, columns);
    if (!place.valid) return;
    float a[N];
    read(a, x + place.row * xStride + place.column);
    write(y + place.row * yStride + place.column, a);
}
