// Codes for sums over rows (weight gradients): 128x1 tiles whose elements lie transposed, because the tensor cores take 8-bit operands along
// the sum only. From values, or from codes in 1x128 tiles as activations are kept, which become F32 values in registers and nowhere
// else: 2 bytes an element move where values written out, quantised and then transposed would be 12.
// A block has 128 rows of 128 columns, a thread 4 rows of 8 columns: 4 codes of a column are a word of the transpose.
#include "tile_rows.cuh"

constexpr int Threads = 512;
constexpr int PatchRows = 4, PatchColumns = 8;
constexpr int ThreadsOfRow = TileLength / PatchColumns;
constexpr int WordsOfColumn = TileLength / PatchRows;

// TransposedArguments of CudaQuantization.cs.
struct TransposedArguments
{
    const void* from;           // [rows, columns]: values, or codes
    int64_t fromStride;         // elements of values, bytes of codes
    const void* fromScales;     // of codes: [rows, columns / 128], float, or e8m0 where powersOfTwo
    int64_t fromScaleStride;
    uint8_t* codes;             // [columns, 128 tiles of rows]
    int64_t codeStride;
    float* scales;              // [tiles of rows, columns]
    int64_t scaleStride;
    const int32_t* rowOffsets;  // [groups + 1], or null
    uint64_t* fault;            // or null
    int64_t rows;
    int32_t columns;
    int32_t groups;
    int32_t powersOfTwo;
    float leastAmax;
};

template <typename S> struct IsCodes { static constexpr bool value = false; };
template <> struct IsCodes<e4m3> { static constexpr bool value = true; };
template <> struct IsCodes<e5m6x2> { static constexpr bool value = true; };

// Eight values of a row, of which left lie within the matrix; the others are zeros.
template <typename S, bool Wide>
__device__ __forceinline__ void load_values(float (&x)[PatchColumns], const TransposedArguments& p, int64_t row, int column, int left)
{
    if constexpr (IsCodes<S>::value)
    {
        // Columns are whole patches, and so is what is read.
        load_codes<S, PatchColumns>(x, static_cast<const uint8_t*>(p.from) + row * p.fromStride + code_bytes<S>(column));
        int64_t place = row * p.fromScaleStride + column / TileLength;
        float scale = p.powersOfTwo ? to_float(static_cast<const e8m0*>(p.fromScales)[place]) : static_cast<const float*>(p.fromScales)[place];
#pragma unroll
        for (int j = 0; j < PatchColumns; j++) x[j] = __fmul_rn(x[j], scale);
    }
    else
    {
        const S* from = static_cast<const S*>(p.from) + row * p.fromStride + column;
        constexpr int Step = 16 / sizeof(S);
        if constexpr (Wide)
        {
#pragma unroll
            for (int j = 0; j < PatchColumns; j += Step)
            {
                Pack<S, Step> pack = *reinterpret_cast<const Pack<S, Step>*>(from + j);
#pragma unroll
                for (int k = 0; k < Step; k++) x[j + k] = to_float(pack.values[k]);
            }
        }
        else
        {
#pragma unroll
            for (int j = 0; j < PatchColumns; j++) x[j] = j < left ? to_float(from[j]) : 0;
        }
    }
}

// Word w of column c lies at w ^ (c / 4): the 32 lanes that write a word each, and the 8 that read a column, meet in no bank.
template <typename S, bool Wide>
__global__ void __launch_bounds__(Threads) quantize_transposed(const __grid_constant__ TransposedArguments p)
{
    __shared__ __align__(16) uint32_t words[TileLength][WordsOfColumn];
    __shared__ uint32_t largest[TileLength];
    __shared__ float ups[TileLength], scales[TileLength], reciprocals[TileLength];
    uint32_t columnTiles = (static_cast<uint32_t>(p.columns) + TileLength - 1) / TileLength, tile = blockIdx.x / columnTiles;
    int firstColumn = static_cast<int>(blockIdx.x - tile * columnTiles) * TileLength;
    RowRange range = tile_rows(p.rowOffsets, p.groups, p.rows, tile);
    if (range.count == 0) return;
    if (threadIdx.x < TileLength) largest[threadIdx.x] = 0;
    int piece = threadIdx.x % ThreadsOfRow, line = threadIdx.x / ThreadsOfRow, inTile = piece * PatchColumns, left = p.columns - firstColumn - inTile;
    float x[PatchRows][PatchColumns];
#pragma unroll
    for (int i = 0; i < PatchRows; i++)
    {
        int row = line * PatchRows + i;
        if (left > 0 && row < range.count) load_values<S, Wide>(x[i], p, range.first + row, firstColumn + inTile, left);
        else
        {
#pragma unroll
            for (int j = 0; j < PatchColumns; j++) x[i][j] = 0;
        }
    }

    __syncthreads();
#pragma unroll
    for (int j = 0; j < PatchColumns; j++)
    {
        uint32_t mine = 0;
#pragma unroll
        for (int i = 0; i < PatchRows; i++) mine = max(mine, __float_as_uint(x[i][j]) & MagnitudeMask);
        mine = max(mine, __shfl_xor_sync(AllLanes, mine, ThreadsOfRow));
        if (threadIdx.x % WarpSize < ThreadsOfRow) atomicMax(&largest[inTile + j], mine);
    }

    __syncthreads();
    if (threadIdx.x < TileLength)
    {
        int column = firstColumn + threadIdx.x;
        float scale = tile_scale<e4m3>(largest[threadIdx.x], p.leastAmax, false);
        Divisor divisor(scale);
        ups[threadIdx.x] = divisor.up;
        scales[threadIdx.x] = divisor.scale;
        reciprocals[threadIdx.x] = divisor.reciprocal;
        if (column < p.columns)
        {
            p.scales[tile * p.scaleStride + column] = scale;
            if (largest[threadIdx.x] >= SingleInfinity && p.fault != nullptr)
                atomicMin(reinterpret_cast<unsigned long long*>(p.fault), static_cast<unsigned long long>(static_cast<int64_t>(tile) * p.columns + column));
        }
    }

    __syncthreads();
#pragma unroll
    for (int j = 0; j < PatchColumns; j++)
    {
        int column = inTile + j;
        Divisor divisor;
        divisor.up = ups[column];
        divisor.scale = scales[column];
        divisor.reciprocal = reciprocals[column];
        float q[PatchRows];
#pragma unroll
        for (int i = 0; i < PatchRows; i++) q[i] = divisor.quotient(divisor.moved(x[i][j]));
        words[column][line ^ column / 4] = Format<e4m3>::encode(q[0], q[1]) | Format<e4m3>::encode(q[2], q[3]) << 16;
    }

    __syncthreads();
    constexpr int Pieces = TileLength / 16;
#pragma unroll
    for (int pass = 0; pass < TileLength * Pieces / Threads; pass++)
    {
        int column = threadIdx.x / Pieces + pass * (Threads / Pieces), quad = threadIdx.x % Pieces, turn = column / 4;
        if (firstColumn + column >= p.columns) break;
        Pack<uint32_t, 4> from = *reinterpret_cast<const Pack<uint32_t, 4>*>(&words[column][4 * quad ^ turn & ~3]), to;
        bool swapsPairs = turn & 2, swapsNext = turn & 1;
        uint32_t a = swapsPairs ? from.values[2] : from.values[0], b = swapsPairs ? from.values[3] : from.values[1];
        uint32_t c = swapsPairs ? from.values[0] : from.values[2], d = swapsPairs ? from.values[1] : from.values[3];
        to.values[0] = swapsNext ? b : a;
        to.values[1] = swapsNext ? a : b;
        to.values[2] = swapsNext ? d : c;
        to.values[3] = swapsNext ? c : d;
        *reinterpret_cast<Pack<uint32_t, 4>*>(p.codes + (firstColumn + column) * p.codeStride + static_cast<int64_t>(tile) * TileLength + 16 * quad) = to;
    }
}
