// SwiGLU and its gradients: one pass over the operands. Results may lie where an operand of the same element was read, so every
// thread reads before it writes, and nobody else reads there.
#include "elementwise.cuh"
#include "swiglu.cuh"

// y = silu(gate) * up * rowScale.
template <typename T, int N>
__global__ void swiglu(
    const T* gate, int64_t gateStride, const T* up, int64_t upStride, const float* rowScale, T* y, int64_t yStride, int64_t rows,
    int64_t columns)
{
    Place place = place_of_thread<N>(rows, columns);
    if (!place.valid) return;
    float a[N], u[N], scale = rowScale == nullptr ? 1 : rowScale[place.row];
    read(a, gate + place.row * gateStride + place.column);
    read(u, up + place.row * upStride + place.column);
#pragma unroll
    for (int i = 0; i < N; i++) a[i] = swiglu_of(a[i], u[i], scale);
    write(y + place.row * yStride + place.column, a);
}

// A block a row, because the row scale's gradient is a sum over the row.
template <typename T, int N>
__global__ void __launch_bounds__(1024, 2) swiglu_gradient(
    const T* dy, int64_t dyStride, const T* gate, int64_t gateStride, const T* up, int64_t upStride, const float* rowScale,
    T* dgate, int64_t dgateStride, T* dup, int64_t dupStride, float* drowScale, int64_t columns)
{
    int64_t row = blockIdx.x;
    float scale = rowScale == nullptr ? 1 : rowScale[row], sum = 0;
    for (int64_t column = static_cast<int64_t>(threadIdx.x) * N; column < columns; column += static_cast<int64_t>(blockDim.x) * N)
    {
        float d[N], a[N], u[N];
        read(d, dy + row * dyStride + column);
        read(a, gate + row * gateStride + column);
        read(u, up + row * upStride + column);
#pragma unroll
        for (int i = 0; i < N; i++) swiglu_gradients(d[i], a[i], u[i], scale, sum);

        write(dgate + row * dgateStride + column, d);
        write(dup + row * dupStride + column, u);
    }

    if (drowScale == nullptr) return;
    sum = block_reduce<Sum>(sum);
    if (threadIdx.x == 0) drowScale[row] = sum;
}
