// y = x wᵀ with BF16 activations and weights in E4M3 with a scale for each 128 of the depth: what a model stored in FP8 multiplies with
// when it serves, from one row to as many as a prompt has. Weights come by asynchronous copies, as codes, several tiles ahead, and become
// BF16 in the registers of the warp that multiplies them, by integer operations. They are the 16 rows of an m16n8k16 product and eight rows
// of x its columns. A lane has four neighbours along the depth of either operand where the fragment wants two and two that lie eight
// apart: any order will do that both share.
// A sum takes the depth in one order whatever the tile, so the bits of a row are its own. Blocks that share the depth have whole tiles of it.
// Floor: the codes at the speed of memory, or 2 M N K at that of mma.sync, half of what the tensor cores of Hopper can do.
#include "faults.cuh"
#include "gemm.cuh"

constexpr int CodeThreads = 256;
constexpr int CodeOutputs = 128;                 // of a block; a warp has 16
constexpr int OutputsOfWarp = CodeOutputs / (CodeThreads / WarpSize);
static_assert(OutputsOfWarp == 16, "the rows of a product of a warp");
constexpr int CodeTileBytes = CodeOutputs * TileLength;
constexpr int RowPitch = TileLength * 2 + 32;    // bytes from row to row of x: what a warp reads at once lies in different banks

// Sixteen codes change places within eight rows (by exclusive or), so that ldmatrix reads a column of them without bank conflicts.
__device__ __forceinline__ int code_place(int output, int chunk) { return output * TileLength + ((chunk ^ (output & 7)) << 4); }

template <typename C, bool Scaled, int TileRows, int Stages>
__global__ void __launch_bounds__(CodeThreads, 2) multiply_codes(const __grid_constant__ GemmProduct p)
{
    constexpr int StepsAtOnce = TileRows > 32 ? 1 : TileLength / 32; // as many as registers allow
    constexpr int Columns = TileRows / 8, StageBytes = CodeTileBytes + TileRows * RowPitch;
    DYNAMIC_SHARED(shared); // Stages of (codes, x)
    GemmSlice s;
    if (!find_slice<TileRows, CodeOutputs, false>(p, s)) return;
    int lane = threadIdx.x % WarpSize, warp = threadIdx.x / WarpSize, line = lane / 4, quarter = lane % 4;
    const uint8_t* codes = static_cast<const uint8_t*>(s.b);
    const bf16* x = static_cast<const bf16*>(p.a.elements);

    auto begin = [&](int64_t tile)
    {
        unsigned char* stage = shared + tile % Stages * StageBytes;
#pragma unroll
        for (int i = 0; i < CodeTileBytes / 16 / CodeThreads; i++)
        {
            int chunk = static_cast<int>(threadIdx.x) + i * CodeThreads, output = chunk / 8, within = chunk % 8;
            int64_t column = s.columnFirst + output, d = tile * TileLength + within * 16;
            bool valid = column < p.columns && d < s.depth;
            ptx::copy_async16(stage + code_place(output, within), valid ? codes + column * s.bStride + d : codes, valid);
        }

#pragma unroll
        for (int i = 0; i < divide_up(TileRows * 16, CodeThreads); i++)
        {
            int chunk = static_cast<int>(threadIdx.x) + i * CodeThreads, row = chunk / 16, within = chunk % 16;
            if (TileRows * 16 < CodeThreads && row >= TileRows) break;
            int64_t m = s.rowFirst + row, d = tile * TileLength + within * 8;
            bool valid = m < s.rowEnd && d < s.depth;
            ptx::copy_async16(stage + CodeTileBytes + row * RowPitch + within * 16, valid ? x + m * p.a.stride + d : x, valid);
        }
    };

    int64_t tiles = divide_up(s.depth, TileLength), first = 0;
    if (p.partial != nullptr)
    {
        int64_t each = divide_up(tiles, gridDim.z);
        first = blockIdx.z * each;
        tiles = min(tiles, first + each);
    }

    for (int64_t tile = first; tile < first + Stages - 1; tile++)
    {
        if (tile < tiles) begin(tile);
        ptx::copy_async_commit();
    }

    int64_t output = s.columnFirst + warp * OutputsOfWarp + line;
    float sums[Columns][4] = {};
    uint32_t suspects[2] = {};
    for (int64_t tile = first; tile < tiles; tile++)
    {
        float scales[2];
#pragma unroll
        for (int k = 0; k < 2; k++)
        {
            int64_t column = output + 8 * k;
            scales[k] = Scaled && column < p.columns ? scale_at(s.bScales, s, column, tile * TileLength) : 1;
        }

        ptx::copy_async_wait<Stages - 2>();
        __syncthreads(); // the tile has come, and nobody reads the slot that is filled next
        if (tile + Stages - 1 < tiles) begin(tile + Stages - 1);
        ptx::copy_async_commit();

        const unsigned char* stage = shared + tile % Stages * StageBytes;
        const unsigned char* rows = stage + CodeTileBytes + line * RowPitch + quarter * 8;
        float parts[Columns][4] = {};
#pragma unroll StepsAtOnce
        for (int step = 0; step < TileLength / 32; step++)
        {
            uint32_t a[2][4], raw[4]; // raw: the upper and lower eight outputs of 16 of the depth, then of the next 16
            ptx::load_matrices(raw, stage + code_place(warp * OutputsOfWarp + lane % 16, 2 * step + lane / 16));
#pragma unroll
            for (int k = 0; k < 2; k++)
            {
                ptx::bf16x4_from_numbers(raw[2 * k], a[k][0], a[k][2]);
                ptx::bf16x4_from_numbers(raw[2 * k + 1], a[k][1], a[k][3]);
                // The code of NaN, 0x7f without its sign, carries into the eighth bit.
                suspects[0] |= (raw[2 * k] & 0x7f7f7f7fu) + 0x01010101u;
                suspects[1] |= (raw[2 * k + 1] & 0x7f7f7f7fu) + 0x01010101u;
            }

#pragma unroll
            for (int k = 0; k < 2; k++)
            {
#pragma unroll
                for (int j = 0; j < Columns; j++)
                {
                    Pack<uint32_t, 2> b = *reinterpret_cast<const Pack<uint32_t, 2>*>(rows + j * 8 * RowPitch + (2 * step + k) * 32);
                    ptx::multiply_bf16(parts[j], a[k], b.values[0], b.values[1]);
                }
            }
        }

#pragma unroll
        for (int j = 0; j < Columns; j++)
        {
#pragma unroll
            for (int k = 0; k < 4; k++) sums[j][k] = __fmaf_rn(parts[j][k], scales[k / 2], sums[j][k]);
        }
    }

    ptx::copy_async_wait<0>();
#pragma unroll
    for (int k = 0; k < 2; k++)
    {
        uint32_t suspect = suspects[k] & 0x80808080u;
        suspect |= __shfl_xor_sync(AllLanes, suspect, 1);
        suspect |= __shfl_xor_sync(AllLanes, suspect, 2);
        int64_t column = output + 8 * k;
        if (column >= p.columns) continue;
#pragma unroll
        for (int j = 0; j < Columns; j++)
        {
#pragma unroll
            for (int i = 0; i < 2; i++)
            {
                int64_t row = s.rowFirst + 8 * j + 2 * quarter + i;
                if (row >= s.rowEnd) continue;
                float sum = suspect != 0 ? not_a_number() : sums[j][2 * k + i];
                if (p.partial != nullptr) p.partial[(blockIdx.z * p.rows + row) * p.columns + column] = sum;
                else put(static_cast<C*>(p.c) + row * p.cStride + column, sum, p.accumulate);
            }
        }
    }
}
