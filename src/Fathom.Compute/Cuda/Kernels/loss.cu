// Cross-entropy over a vocabulary. A row is cut into pieces, so that few rows fill the GPU: the first kernel finds each piece's
// largest logit, where it is first, and the sum of exponentials below it, in one pass; the second puts a row's pieces together in
// order, every block for itself, and writes the gradient over its piece. The trap is the logits that are not numbers: a row that
// begins with NaN has its first place as largest, and a masked logit (-infinity) counts nothing.
#include "elementwise.cuh"
#include "faults.cuh"

// Largest logit, its first index, and the sum of exp(logit - largest).
struct Piece
{
    float largest, sum;
    int32_t index;
};

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

// What two parts of a row are together; the first one's place wins a tie where it comes first.
__device__ __forceinline__ Piece join(const Piece& a, const Piece& b)
{
    bool second = b.largest > a.largest || (b.largest == a.largest && b.index < a.index);
    float largest = second ? b.largest : a.largest;
    float sumOfA = a.largest == largest ? a.sum : a.sum * expf(a.largest - largest);
    float sumOfB = b.largest == largest ? b.sum : b.sum * expf(b.largest - largest);
    return {largest, sumOfA + sumOfB, second ? b.index : a.index};
}

constexpr int Threads = 256;
constexpr int Loads = 4;

// Grid: rows, pieces.
template <int N>
__global__ void __launch_bounds__(Threads) cross_entropy_pieces(
    const float* logits, int64_t stride, int32_t columns, int32_t columnsOfPiece, Piece* pieces)
{
    __shared__ Piece ofWarps[Threads / WarpSize];
    const float* row = logits + blockIdx.x * stride;
    int64_t first = static_cast<int64_t>(blockIdx.y) * columnsOfPiece, last = first + columnsOfPiece < columns ? first + columnsOfPiece : columns;
    Piece piece = {-infinity(), 0, 0x7fffffff};
    for (int64_t start = first + threadIdx.x * N; start < last; start += Loads * Threads * N)
    {
        float a[Loads][N], largest = -infinity();
#pragma unroll
        for (int load = 0; load < Loads; load++)
        {
#pragma unroll
            for (int i = 0; i < N; i++) a[load][i] = -infinity();
            if (start + load * Threads * N < last) read(a[load], row + start + load * Threads * N);
        }

#pragma unroll
        for (int load = 0; load < Loads; load++)
        {
#pragma unroll
            for (int i = 0; i < N; i++) largest = fmaxf(largest, a[load][i]);
        }

        if (largest > piece.largest)
        {
            piece.sum *= expf(piece.largest - largest);
            piece.largest = largest;
            bool found = false;
#pragma unroll
            for (int load = 0; load < Loads; load++)
            {
#pragma unroll
                for (int i = 0; i < N; i++)
                {
                    if (!found && a[load][i] == largest)
                    {
                        found = true;
                        piece.index = static_cast<int32_t>(start + load * Threads * N + i);
                    }
                }
            }
        }

#pragma unroll
        for (int load = 0; load < Loads; load++)
        {
#pragma unroll
            for (int i = 0; i < N; i++) piece.sum += a[load][i] == -infinity() ? 0 : expf(a[load][i] - piece.largest);
        }
    }

#pragma unroll
    for (int distance = WarpSize / 2; distance > 0; distance /= 2)
    {
        Piece other = {
            __shfl_xor_sync(AllLanes, piece.largest, distance), __shfl_xor_sync(AllLanes, piece.sum, distance),
            __shfl_xor_sync(AllLanes, piece.index, distance)};
        piece = join(piece, other);
    }

    if (threadIdx.x % WarpSize == 0) ofWarps[threadIdx.x / WarpSize] = piece;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < Threads / WarpSize; warp++) piece = join(piece, ofWarps[warp]);
    if (first == 0 && row[0] != row[0]) piece = {row[0], row[0], 0};
    pieces[static_cast<int64_t>(blockIdx.x) * gridDim.y + blockIdx.y] = piece;
}

// Loss and correctness of a row, by the block that holds the target's logit, which reads it before it writes; then the gradient of
// the block's piece. Without gradient the grid is one block a row.
template <int N>
__global__ void __launch_bounds__(Threads) cross_entropy_rows(
    float* logits, int64_t stride, int32_t columns, int32_t columnsOfPiece, const Piece* pieces, int32_t pieceCount,
    const int32_t* targets, float gradientScale, float* losses, int32_t* correct, Fault* fault)
{
    int64_t rowIndex = blockIdx.x;
    float* row = logits + rowIndex * stride;
    pieces += rowIndex * pieceCount;
    Piece whole = pieces[0];
    for (int i = 1; i < pieceCount; i++) whole = join(whole, pieces[i]);
    int32_t target = targets[rowIndex], best = whole.largest == -infinity() ? 0 : whole.index;
    bool ignored = target < 0, known = !ignored && target < columns;
    int32_t holder = known && gradientScale != 0 ? target / columnsOfPiece : 0;
    if (blockIdx.y == holder && threadIdx.x == 0)
    {
        if (!ignored && !known) in_range(target, columns, rowIndex, LossFault, fault);
        losses[rowIndex] = ignored ? 0 : known ? logf(whole.sum) + (whole.largest - row[target]) : not_a_number();
        if (correct != nullptr) correct[rowIndex] = known && target == best ? 1 : 0;
    }

    if (gradientScale == 0) return;
    __syncthreads();
    float inverse = known ? 1 / whole.sum : not_a_number();
    int64_t first = static_cast<int64_t>(blockIdx.y) * columnsOfPiece, last = first + columnsOfPiece < columns ? first + columnsOfPiece : columns;
#pragma unroll 4
    for (int64_t column = first + threadIdx.x * N; column < last; column += Threads * N)
    {
        float a[N];
        read(a, row + column);
#pragma unroll
        for (int i = 0; i < N; i++)
        {
            float probability = expf(a[i] - whole.largest) * inverse;
            a[i] = ignored ? 0 : (column + i == target ? probability - 1 : probability) * gradientScale;
        }

        write(row + column, a);
    }
}
