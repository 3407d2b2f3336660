// The backward pass of SwiGLU from kept codes to what the products behind it take, of one read ([P] §3.3.3): the gradients of gate and up as
// codes of rows (for the input gradient) and over rows (for the weight gradients), the forward pass's result over rows. 9 bytes an element
// move where the steps one by one move 25. Values are rounded to BF16 where a composition would have stored them.
#include "operand_tiles.cuh"
#include "swiglu.cuh"

// SwiGluOperands of CudaActivation.cs.
struct SwiGluOperands
{
    const bf16* dy;             // [rows, columns]
    int64_t dyStride;
    Codes gate, up;             // as kept, in 1x128 tiles
    Codes dgate, dup;           // in 1x128 tiles
    Codes dgateOverRows, dupOverRows, yOverRows; // codes [columns, 128 tiles of rows], scales [tiles of rows, columns]
    int64_t rows;
    int32_t columns;
    float leastAmax, leastGradientAmax;
};

using Patch = Held<bf16, PatchColumns>;

// What waits for its turn lies apart, each thread's own, so that registers are left for two blocks a multiprocessor.
struct WaitingPatch
{
    Patch rows[PatchRows][PatchThreads];

    __device__ __forceinline__ void put(int i, const Patch& row) { rows[i][threadIdx.x] = row; }

    __device__ __forceinline__ void get(Patch (&to)[PatchRows]) const
    {
#pragma unroll
        for (int i = 0; i < PatchRows; i++) to[i] = rows[i][threadIdx.x];
    }
};

__device__ __forceinline__ float scale_of_lane(const Codes& codes, const PatchPlace& at)
{
    int line = threadIdx.x % PatchRows;
    return line < at.rows ? codes.scales[(at.row + line) * codes.scaleStride + at.columnTile] : 0;
}

__device__ __forceinline__ Patch patch_of(const float (&x)[PatchColumns])
{
    Patch patch;
#pragma unroll
    for (int j = 0; j < PatchColumns; j += 2) patch.words[j / 2] = ptx::bf16x2_from_floats(x[j], x[j + 1]);
    return patch;
}

__device__ __forceinline__ void values_of(float (&x)[PatchColumns], const FourE4M3& codes, float scale)
{
#pragma unroll
    for (int pair = 0; pair < PatchColumns / 2; pair++) codes.decode(x[2 * pair], x[2 * pair + 1], pair);
#pragma unroll
    for (int j = 0; j < PatchColumns; j++) x[j] = __fmul_rn(x[j], scale);
    Patch rounded = patch_of(x);
#pragma unroll
    for (int j = 0; j < PatchColumns; j++) x[j] = rounded.get(j);
}

// A block has a tile of 128 rows and 128 columns, down the rows first; columns is a multiple of 8.
__global__ void __launch_bounds__(PatchThreads, 2) swiglu_gradient_operands(const __grid_constant__ SwiGluOperands p)
{
    __shared__ ColumnMemory shared;
    DYNAMIC_SHARED(memory);
    WaitingPatch& waitingUp = reinterpret_cast<WaitingPatch*>(memory)[0];
    WaitingPatch& waitingY = reinterpret_cast<WaitingPatch*>(memory)[1];
    PatchPlace at(tile_rows(nullptr, 0, p.rows, blockIdx.x), static_cast<int>(blockIdx.y), p.columns);
    Patch rows[PatchRows] = {};
    FourE4M3 gate[PatchRows], up[PatchRows];
    const bf16* dy = p.dy + at.row * p.dyStride + at.column;
    const uint8_t* gateCodes = p.gate.codes + at.row * p.gate.stride + at.column;
    const uint8_t* upCodes = p.up.codes + at.row * p.up.stride + at.column;
    for_rows(at, [&](int i)
    {
        rows[i] = hold<bf16, PatchColumns>(dy + i * p.dyStride);
        gate[i].load(gateCodes + i * p.gate.stride, at.column);
        up[i].load(upCodes + i * p.up.stride, at.column);
    });
    float gateScale = scale_of_lane(p.gate, at), upScale = scale_of_lane(p.up, at);
#pragma unroll
    for (int i = 0; i < PatchRows; i++)
    {
        float d[PatchColumns], a[PatchColumns], u[PatchColumns], y[PatchColumns], nothing = 0;
        values_of(a, gate[i], __shfl_sync(AllLanes, gateScale, i));
        values_of(u, up[i], __shfl_sync(AllLanes, upScale, i));
#pragma unroll
        for (int j = 0; j < PatchColumns; j++)
        {
            d[j] = rows[i].get(j);
            y[j] = swiglu_of(a[j], u[j], 1);
            swiglu_gradients(d[j], a[j], u[j], 1, nothing);
        }

        rows[i] = patch_of(d);
        waitingUp.put(i, patch_of(u));
        waitingY.put(i, patch_of(y));
    }

    store_rows(rows, at, p.dgate, p.columns, p.leastGradientAmax);
    store_transposed(shared, rows, p.dgateOverRows, blockIdx.x, at.columnTile, p.columns, p.leastGradientAmax);
    waitingUp.get(rows);
    store_rows(rows, at, p.dup, p.columns, p.leastGradientAmax);
    store_transposed(shared, rows, p.dupOverRows, blockIdx.x, at.columnTile, p.columns, p.leastGradientAmax);
    waitingY.get(rows);
    store_transposed(shared, rows, p.yOverRows, blockIdx.x, at.columnTile, p.columns, p.leastAmax);
}
