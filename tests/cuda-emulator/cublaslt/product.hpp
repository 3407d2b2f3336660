// D = alpha op(A) op(B) + beta C with FP8 operands under their scales: sums in F32, over 128 elements of K at a time, as the scales lie.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulated {

// Values of cudaDataType.
enum Type { F32 = 0, BF16 = 14, E4M3 = 28, E5M2 = 29 };

// Values of cublasLtMatmulMatrixScale_t. Vector128: scale (i, k / 128) of element (i, k) of op(X) lies at i + rows * (k / 128), rows
// being those of op(A) or the columns of op(B). Block128: scale (i / 128, k / 128) lies at k / 128 + L4 (i / 128), L4 the number of
// blocks of K rounded up to a multiple of 4.
enum ScaleMode { Scalar = 0, Outer = 3, Vector128 = 4, Block128 = 5 };

struct Layout
{
    int type;
    uint64_t rows, columns;
    int64_t stride; // of columns; of rows in order 1
    int order = 0;
    int batches = 1;
    int64_t batchStride = 0;

    int element_bytes() const { return type == F32 ? 4 : type == BF16 ? 2 : 1; }
    int64_t offset(uint64_t row, uint64_t column) const
    {
        return order == 0 ? static_cast<int64_t>(column) * stride + static_cast<int64_t>(row) : static_cast<int64_t>(row) * stride + static_cast<int64_t>(column);
    }
};

struct Factor
{
    const void* values;
    Layout layout;
    bool transposed;
    const float* scales; // null: none
    ScaleMode mode;
};

struct Product
{
    Factor a, b;
    const void* c;
    Layout layoutC;
    void* d;
    Layout layoutD;
    float alpha, beta;
    void* workspace;
    size_t workspaceBytes;

    void run() const;
};

}
