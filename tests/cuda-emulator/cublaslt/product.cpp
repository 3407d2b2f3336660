#include "product.hpp"
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

namespace emulated {

namespace {

constexpr size_t Depth = 128, Wide = 64, High = 4;
constexpr double WorthAThread = 1e6;

float value(uint8_t code, int mantissaBits, int bias, bool infinities)
{
    int exponent = (code & 0x7f) >> mantissaBits, mantissa = code & ((1 << mantissaBits) - 1);
    bool top = exponent == (infinities ? 31 : 15);
    float magnitude = infinities && top ? (mantissa != 0 ? NAN : INFINITY) : !infinities && (code & 0x7f) == 0x7f ? NAN
        : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), 1 - bias - mantissaBits)
        : std::ldexp(static_cast<float>(mantissa + (1 << mantissaBits)), exponent - bias - mantissaBits);
    return code & 0x80 ? -magnitude : magnitude;
}

struct Codes
{
    float e4m3[256], e5m2[256];
    Codes()
    {
        for (int i = 0; i < 256; i++)
        {
            e4m3[i] = value(static_cast<uint8_t>(i), 3, 7, false);
            e5m2[i] = value(static_cast<uint8_t>(i), 2, 15, true);
        }
    }
};
const Codes codes;

float read(const void* values, int type, int64_t at)
{
    switch (type)
    {
        case F32: return static_cast<const float*>(values)[at];
        case BF16: return std::bit_cast<float>(static_cast<uint32_t>(static_cast<const uint16_t*>(values)[at]) << 16);
        case E4M3: return codes.e4m3[static_cast<const uint8_t*>(values)[at]];
        default: return codes.e5m2[static_cast<const uint8_t*>(values)[at]];
    }
}

void write(void* values, int type, int64_t at, float x)
{
    if (type == F32) static_cast<float*>(values)[at] = x;
    else
    {
        uint32_t bits = std::bit_cast<uint32_t>(x);
        static_cast<uint16_t*>(values)[at] = static_cast<uint16_t>(x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}

// The operand as rows of K, in F32.
std::vector<float> widen(const Factor& factor, bool rowsAreColumns, size_t rows, size_t depth, int batch)
{
    std::vector<float> wide(rows * depth);
    bool swap = factor.transposed != rowsAreColumns;
    int64_t start = batch * factor.layout.batchStride;
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < depth; k++) wide[i * depth + k] = read(factor.values, factor.layout.type, start + (swap ? factor.layout.offset(k, i) : factor.layout.offset(i, k)));
    return wide;
}

float scale(const Factor& factor, size_t i, size_t rows, size_t block, size_t blocks)
{
    if (factor.scales == nullptr) return 1;
    switch (factor.mode)
    {
        case Scalar: return factor.scales[0];
        case Outer: return factor.scales[i];
        case Vector128: return factor.scales[i + rows * block];
        default: return factor.scales[block + (blocks + 3) / 4 * 4 * (i / 128)];
    }
}

// sums[High][Wide] = a[High][depth] b[depth][Wide]
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
void multiply(float (&sums)[High][Wide], const float* const (&a)[High], const float* b, size_t depth)
{
    float local[High][Wide] = {};
    for (size_t k = 0; k < depth; k++)
        for (size_t i = 0; i < High; i++)
            for (size_t j = 0; j < Wide; j++) local[i][j] += a[i][k] * b[k * Wide + j];
    std::memcpy(sums, local, sizeof(sums));
}

}

void Product::run() const
{
    if (workspaceBytes > 0) std::memset(workspace, 0xff, workspaceBytes);
    size_t m = layoutD.rows, n = layoutD.columns, k = a.transposed ? a.layout.rows : a.layout.columns, blocks = (k + Depth - 1) / Depth;
    for (int batch = 0; batch < layoutD.batches; batch++)
    {
        std::vector<float> rowsOfA = widen(a, false, m, k, batch), rowsOfB = widen(b, true, n, k, batch);

        // The columns [first, last) of D, in panels of B that lie as the inner loop reads them.
        auto columns = [&](size_t first, size_t last)
        {
            std::vector<float> panel(k * Wide), totals(m * Wide);
            for (size_t start = first; start < last; start += Wide)
            {
                size_t width = std::min(Wide, last - start);
                std::fill(panel.begin(), panel.end(), 0.0f);
                std::fill(totals.begin(), totals.end(), 0.0f);
                for (size_t j = 0; j < width; j++)
                    for (size_t i = 0; i < k; i++) panel[i * Wide + j] = rowsOfB[(start + j) * k + i];
                for (size_t block = 0; block < blocks; block++)
                {
                    float scalesOfB[Wide];
                    for (size_t j = 0; j < width; j++) scalesOfB[j] = scale(b, start + j, n, block, blocks);
                    for (size_t row = 0; row < m; row += High)
                    {
                        float sums[High][Wide];
                        const float* rows[High];
                        for (size_t i = 0; i < High; i++) rows[i] = &rowsOfA[std::min(row + i, m - 1) * k + block * Depth];
                        multiply(sums, rows, &panel[block * Depth * Wide], std::min(Depth, k - block * Depth));
                        for (size_t i = 0; i < std::min(High, m - row); i++)
                        {
                            float scaleOfA = scale(a, row + i, m, block, blocks);
                            for (size_t j = 0; j < width; j++) totals[(row + i) * Wide + j] += sums[i][j] * (scaleOfA * scalesOfB[j]);
                        }
                    }
                }
                for (size_t i = 0; i < m; i++)
                {
                    for (size_t j = 0; j < width; j++)
                    {
                        float result = alpha * totals[i * Wide + j];
                        if (beta != 0) result += beta * read(c, layoutC.type, batch * layoutC.batchStride + layoutC.offset(i, start + j));
                        write(d, layoutD.type, batch * layoutD.batchStride + layoutD.offset(i, start + j), result);
                    }
                }
            }
        };

        size_t half = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) < WorthAThread ? n : (n / 2 + Wide - 1) / Wide * Wide;
        if (half >= n) { columns(0, n); continue; }
        std::thread other([&] { columns(half, n); });
        columns(0, half);
        other.join();
    }
}

}
