// How rows that are copied, converted or summed are dealt to threads (RowCut.cs on the host).
#pragma once
#include "common.cuh"

// A block has rowsOfBlock rows, width threads each, and blockIdx.y says which piece of a row. A thread's chunks lie width apart.
struct RowPlace
{
    int64_t row;
    int64_t first;  // the thread's first chunk
    bool valid;
};

__device__ __forceinline__ RowPlace row_place(int64_t rows, int width, int rowsOfBlock, int chunksOfThread)
{
    int inBlock = threadIdx.x / width;
    int64_t row = static_cast<int64_t>(blockIdx.x) * rowsOfBlock + inBlock;
    return {row, static_cast<int64_t>(blockIdx.y) * chunksOfThread * width + (threadIdx.x - inBlock * width), inBlock < rowsOfBlock && row < rows};
}
