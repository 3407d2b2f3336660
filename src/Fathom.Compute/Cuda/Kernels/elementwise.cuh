// How kernels that go over matrices element by element find their place, and how they take several elements of different types at
// once. The host has chosen the width N of an access: 16 bytes of the narrowest type where every row allows it, else one element.
#pragma once
#include "common.cuh"

// N consecutive elements as floats, in accesses of at most 16 bytes.
template <int N, typename T>
__device__ __forceinline__ void read(float (&to)[N], const T* from)
{
    constexpr int Step = N * sizeof(T) > 16 ? 16 / sizeof(T) : N;
#pragma unroll
    for (int i = 0; i < N; i += Step)
    {
        float part[Step];
        load(part, from + i);
#pragma unroll
        for (int j = 0; j < Step; j++) to[i + j] = part[j];
    }
}

template <int N, typename T>
__device__ __forceinline__ void write(T* to, const float (&from)[N])
{
    constexpr int Step = N * sizeof(T) > 16 ? 16 / sizeof(T) : N;
#pragma unroll
    for (int i = 0; i < N; i += Step)
    {
        float part[Step];
#pragma unroll
        for (int j = 0; j < Step; j++) part[j] = from[i + j];
        store(to + i, part);
    }
}

// A thread's N elements: columns column to column + N - 1 of a row.
struct Place
{
    int64_t row, column;
    bool valid;
};

// One access a thread. A short row shares its block with others; a long one has blocks of its own; a single row (all contiguous
// elements of a tensor) has no bounds but its length. Elementwise.Shape makes the grid that belongs to it.
template <int N>
__device__ __forceinline__ Place place_of_thread(int64_t rows, int64_t columns)
{
    if (rows == 1)
    {
        int64_t column = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
        return {0, column, column < columns};
    }

    uint32_t width = static_cast<uint32_t>(columns / N), row, access;
    if (width >= blockDim.x)
    {
        uint32_t blocks = (width + blockDim.x - 1) / blockDim.x;
        row = blockIdx.x / blocks;
        access = (blockIdx.x - row * blocks) * blockDim.x + threadIdx.x;
        return {row, static_cast<int64_t>(access) * N, access < width};
    }

    uint32_t rowsOfBlock = blockDim.x / width, rowInBlock = threadIdx.x / width;
    access = threadIdx.x - rowInBlock * width;
    int64_t place = static_cast<int64_t>(blockIdx.x) * rowsOfBlock + rowInBlock;
    return {place, static_cast<int64_t>(access) * N, rowInBlock < rowsOfBlock && place < rows};
}
