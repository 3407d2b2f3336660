// Bytes of matrices transposed: tensor cores take 8-bit operands along the sum only, so weights, which lie across that of an input gradient,
// are turned first, once after every change. Bound by memory: each byte is read once and written once.
#include "formats.cuh"

// Four rows of four codes as four columns: byte j of word i becomes byte i of word j.
__device__ __forceinline__ void transpose4(uint32_t (&w)[4])
{
    uint32_t a = (w[0] & 0x00ff00ffu) | (w[1] & 0x00ff00ffu) << 8, b = (w[0] >> 8 & 0x00ff00ffu) | (w[1] & 0xff00ff00u);
    uint32_t c = (w[2] & 0x00ff00ffu) | (w[3] & 0x00ff00ffu) << 8, d = (w[2] >> 8 & 0x00ff00ffu) | (w[3] & 0xff00ff00u);
    w[0] = (a & 0xffffu) | c << 16;
    w[1] = (b & 0xffffu) | d << 16;
    w[2] = a >> 16 | (c & 0xffff0000u);
    w[3] = b >> 16 | (d & 0xffff0000u);
}

// to[e, j, i] = from[e, i, j], bytes; a block has 128 rows of 128 columns of matrix blockIdx.z. The words of four rows lie in shared memory by
// column, exchanged in fours so that neither side meets a bank twice.
template <bool Vector>
__global__ void __launch_bounds__(256) transpose_bytes(
    const uint8_t* from, int64_t fromStride, int64_t fromMatrix, int64_t rows, int32_t columns, uint8_t* to, int64_t toStride)
{
    __shared__ __align__(16) uint32_t words[TileLength][TileLength / 4];
    uint32_t columnTiles = (static_cast<uint32_t>(columns) + TileLength - 1) / TileLength, tile = blockIdx.x / columnTiles;
    int firstColumn = static_cast<int>(blockIdx.x - tile * columnTiles) * TileLength;
    int64_t first = static_cast<int64_t>(tile) * TileLength;
    int count = static_cast<int>(min(rows - first, static_cast<int64_t>(TileLength)));
    from += blockIdx.z * fromMatrix;
    to += blockIdx.z * static_cast<int64_t>(columns) * toStride;
    int piece = threadIdx.x % 8, line = threadIdx.x / 8;

    // Four rows of sixteen columns.
    Pack<uint32_t, 4> in[4];
    int column = firstColumn + 16 * piece;
    const uint8_t* source = from + first * fromStride + column;
#pragma unroll
    for (int i = 0; i < 4; i++)
    {
        in[i] = {};
        int row = 4 * line + i;
        if (row >= count) continue;
        if constexpr (Vector)
        {
            if (column < columns) in[i] = *reinterpret_cast<const Pack<uint32_t, 4>*>(source + row * fromStride);
        }
        else
        {
#pragma unroll
            for (int j = 0; j < 16; j++)
            {
                if (column + j < columns) in[i].values[j / 4] |= static_cast<uint32_t>(source[row * fromStride + j]) << (8 * (j % 4));
            }
        }
    }

#pragma unroll
    for (int j = 0; j < 4; j++)
    {
        uint32_t square[4] = {in[0].values[j], in[1].values[j], in[2].values[j], in[3].values[j]};
        transpose4(square);
#pragma unroll
        for (int i = 0; i < 4; i++) words[16 * piece + 4 * j + i][line ^ 4 * piece] = square[i];
    }

    __syncthreads();
    int64_t firstRow = first + 16 * piece;
#pragma unroll
    for (int pass = 0; pass < 4; pass++)
    {
        int inTile = line + 32 * pass;
        if (firstColumn + inTile >= columns) break;
        Pack<uint32_t, 4> out = *reinterpret_cast<const Pack<uint32_t, 4>*>(&words[inTile][4 * (piece ^ inTile / 16)]);
        uint8_t* target = to + (firstColumn + inTile) * toStride + firstRow;
        if constexpr (Vector)
        {
            if (firstRow < rows) *reinterpret_cast<Pack<uint32_t, 4>*>(target) = out;
        }
        else
        {
#pragma unroll
            for (int j = 0; j < 16; j++)
            {
                if (firstRow + j < rows) target[j] = static_cast<uint8_t>(out.values[j / 4] >> (8 * (j % 4)));
            }
        }
    }
}
