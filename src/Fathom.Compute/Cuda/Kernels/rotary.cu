// The turn of interleaved pairs (x0, x1), (x2, x3), ... by position * frequency, in place.
#include "elementwise.cuh"
#include "faults.cuh"

// Columns 0 to 2 P - 1 of x, which the host has moved to the first one that is turned; N of them a thread and N / 2 columns of the tables
// at once, or one pair in two accesses where N is 1.
template <typename T, int N>
__global__ void rotate(
    T* x, int64_t xStride, int64_t rows, int32_t heads, const float* cos, int64_t cosStride, const float* sin, int64_t sinStride,
    const int32_t* positions, int64_t tableRows, int64_t columns, float direction, Fault* fault)
{
    constexpr int Width = N == 1 ? 2 : N;
    Place place = place_of_thread<Width>(rows, columns);
    if (!place.valid) return;
    uint32_t token = static_cast<uint32_t>(place.row) / static_cast<uint32_t>(heads);
    int32_t position = positions[token];
    float c[Width / 2], s[Width / 2], a[Width];
    x += place.row * xStride + place.column;
    if constexpr (N == 1)
    {
        a[0] = to_float(x[0]);
        a[1] = to_float(x[1]);
    }
    else
    {
        read(a, x);
    }

    // The position's own load comes before these; that of x is under way meanwhile.
    if (in_range(position, tableRows, token, RotaryFault, fault))
    {
        read(c, cos + position * cosStride + place.column / 2);
        read(s, sin + position * sinStride + place.column / 2);
    }
    else
    {
#pragma unroll
        for (int pair = 0; pair < Width / 2; pair++) c[pair] = s[pair] = not_a_number();
    }

#pragma unroll
    for (int pair = 0; pair < Width / 2; pair++)
    {
        float re = a[2 * pair], im = a[2 * pair + 1], turn = direction * s[pair];
        a[2 * pair] = re * c[pair] - im * turn;
        a[2 * pair + 1] = re * turn + im * c[pair];
    }

    if constexpr (N == 1)
    {
        x[0] = from_float<T>(a[0]);
        x[1] = from_float<T>(a[1]);
    }
    else
    {
        write(x, a);
    }
}
