// Products of a few rows each with weights in 8-bit codes that share a scale by 128x128 blocks ([P] §3.3.2), read as they lie. A row of
// activations times the scales of a row of blocks meets all 128 rows of codes in it, so the scales cost one product an element
// for 128 rows of weights, and the kernels see plain numbers: x_k (s_k c_k) = (x_k s_k) c_k.
// The trap is range. E4M3 codes are read as numbers that are 2^120 too small, the smallest of them 2^-129, so the scaled activations are
// made large first, by a power of two that puts the largest of a row at 2^110. Then no product and no sum leaves the normal numbers
// at the top (2^111 · 2^-111, summed over less than 2^31 columns), and at the bottom only activations that are 2^107 times smaller
// than the largest lose digits. The power is taken back from the sums, exactly. An activation times a scale must itself be a single.
// A row that holds an infinity or a NaN is left as it is: all its sums are infinite or NaN whatever the rest.
// A code or scale that is not a number makes the sums that it belongs to not a number.
// Where BF16 numbers are multiplied, an activation times a scale is rounded to BF16 and the codes are read as the numbers they are: BF16 has
// the range of singles.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Where one product with scaled weights lies.</summary>
internal unsafe struct ScaledProduct
{
    /// <summary>Activations, codes and results.</summary>
    public Product Product;

    /// <summary>First scale.</summary>
    public byte* Scales;

    /// <summary>Elements between rows of scales.</summary>
    public long ScaleStride;

    /// <summary>F32 or F8E8M0.</summary>
    public DType ScaleType;

    /// <summary>The scale of a block.</summary>
    public readonly float Scale(long row, long column)
    {
        long at = row * ScaleStride + column;
        return ScaleType == DType.F32 ? ((float*)Scales)[at] : ScaleE8M0.FromBits(Scales[at]);
    }
}

/// <summary>Forward products of few rows with scaled weights, whatever the vector width.</summary>
internal unsafe interface IScaledRowsGemm
{
    /// <summary>Computes all products, each of at least one row; the layout's format is E4M3 or HiF8.</summary>
    void Run(ScaledProduct* products, int count, in ProductLayout layout);
}

/// <summary>Forward products of few rows with scaled weights at one vector width.</summary>
/// <param name="team">The threads.</param>
/// <param name="narrow">Whether activations times scales are rounded to BF16 and multiplied as that (<see cref="CpuFeatures.BFloat16Dots"/>); E4M3 only.</param>
internal sealed unsafe class ScaledRowsGemm<TVector, TWidth>(WorkerTeam team, bool narrow = false) : IScaledRowsGemm
    where TVector : struct
    where TWidth : struct, IVectorWidth<TVector>
{
    private const int Block = ScaledTensor.TileSize, Line = 64;

    /// <summary>So many blocks a thread that it matters little if one has a block more than another.</summary>
    private const int BlocksPerThread = 8;

    /// <summary>Exponent of the largest activation of a row where weights are read as too small.</summary>
    private const int LargestExponent = 110;

    /// <summary>Largest power of two that a single can be multiplied by.</summary>
    private const int LargestPower = 126;

    public void Run(ScaledProduct* products, int count, in ProductLayout layout)
    {
        if (layout.FormatB == DType.F8E4M3 && narrow) Run<BFloat16Kernels<NarrowCodes>, BFloat16>(products, count, layout);
        else if (layout.FormatB == DType.F8E4M3) Run<FewRowsKernels<E4M3Format, TVector, TWidth>, float>(products, count, layout);
        else if (HiFloat8Table.Expands) Run<HiFloat8Kernels, float>(products, count, layout);
        else Run<FewRowsKernels<HiFloat8Format, TVector, TWidth>, float>(products, count, layout);
    }

    private void Run<TKernels, TElement>(ScaledProduct* products, int count, in ProductLayout layout)
        where TKernels : struct, IDotKernels<TElement>
        where TElement : unmanaged
    {
        if (layout.Columns == 0 || count == 0) return;
        long rows = 0;
        for (int i = 0; i < count; i++) rows += products[i].Product.Rows;
        // Whole blocks, whose scales are then multiplied with the activations once, where there are enough of them for all threads.
        int unit = layout.Columns * count >= BlocksPerThread * Block * team.Size ? Block : FewRowsPlan.DotRows;
        long width = FewRowsPlan.TileColumns(layout.Columns, products[0].Product.Depth, count, rows, unit, team.Size, typeof(TElement) == typeof(BFloat16));
        int tiles = (int)((layout.Columns + width - 1) / width);
        team.ForRanges(checked(tiles * count), new Job<TKernels, TElement>(products, layout, width, tiles));
    }

    /// <summary>C[m, n] = A[m, :] · B[n, :] for a range of n.</summary>
    private readonly struct Job<TKernels, TElement>(ScaledProduct* products, ProductLayout layout, long width, int tiles) : ITileJob
        where TKernels : struct, IDotKernels<TElement>
        where TElement : unmanaged
    {
        public void Run(int tile, int worker)
        {
            ref ScaledProduct all = ref products[tile / tiles];
            for (long row = 0; row < all.Product.Rows; row += FewRowsPlan.MostRowsOfDots)
            {
                ScaledProduct part = all;
                part.Product = all.Product.Part(row, FewRowsPlan.MostRowsOfDots, layout);
                Run(part, tile % tiles * width);
            }
        }

        private void Run(in ScaledProduct scaled, long first)
        {
            Product product = scaled.Product;
            long end = Math.Min(first + width, layout.Columns);
            bool narrow = typeof(TElement) == typeof(BFloat16);
            // Rows a cache line longer than whole vectors, so that they do not meet in the same sets of the caches.
            nint vector = narrow ? BFloat16Code.VectorBytes : 16, stride = (nint)(product.Depth + vector - 1) / vector * vector + Line / sizeof(TElement);
            long factorBytes = (product.Rows + 7) / 8 * Line, rowBytes = narrow ? stride * sizeof(float) : 0;
            byte* memory = Scratch.OfTile.Take(factorBytes + rowBytes + product.Rows * stride * sizeof(TElement));
            double* factors = (double*)memory;
            float* row = (float*)(memory + factorBytes);
            TElement* x = (TElement*)(memory + factorBytes + rowBytes);
            for (long n = first; n < end;)
            {
                long next = Math.Min((n / Block + 1) * Block, end);
                for (long m = 0; m < product.Rows; m++)
                {
                    if (narrow) Narrow(scaled, m, n / Block, row, (BFloat16*)(x + m * stride));
                    else factors[m] = Scale(scaled, m, n / Block, (float*)(x + m * stride));
                }

                Dots<TKernels, TElement>.Run(product, x, stride, n, next, layout, narrow ? null : factors);
                n = next;
            }
        }

        /// <summary>x = a row of A times the scales of a row of blocks, rounded to BF16.</summary>
        private void Narrow(in ScaledProduct scaled, long m, long blockRow, float* row, BFloat16* x)
        {
            nint depth = (nint)scaled.Product.Depth, padded = (depth + BFloat16Code.VectorBytes - 1) / BFloat16Code.VectorBytes * BFloat16Code.VectorBytes;
            if (depth == 0) return;
            ScaleRow(scaled, blockRow, (float*)scaled.Product.A + m * layout.StrideA, row, depth);
            new Span<float>(row + depth, (int)(padded - depth)).Clear();
            BFloat16Code.NarrowForCodes((byte*)x, (byte*)row, padded * sizeof(BFloat16));
        }

        /// <summary>x = a row of A times the scales of a row of blocks, times a power of two.</summary>
        /// <returns>What sums of <paramref name="x"/> and weights as they are read must be multiplied by.</returns>
        private double Scale(in ScaledProduct scaled, long m, long blockRow, float* x)
        {
            nint depth = (nint)scaled.Product.Depth;
            float largest = ScaleRow(scaled, blockRow, (float*)scaled.Product.A + m * layout.StrideA, x, depth);
            if (TKernels.Shift == 0) return 1;
            int power = largest == 0 || !float.IsFinite(largest) ? 0 : Math.Min(LargestExponent - Math.ILogB(largest), LargestPower);
            Multiply(x, MathF.ScaleB(1, power), depth);
            return Math.ScaleB(1, TKernels.Shift - power);
        }
    }

    /// <summary>x = a row of A times the scales of a row of blocks.</summary>
    /// <returns>The largest magnitude.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float ScaleRow(in ScaledProduct scaled, long blockRow, float* a, float* x, nint depth)
    {
        TVector magnitudes = TWidth.Zero;
        float largest = 0;
        for (nint k = 0; k < depth; k += Block)
        {
            float scale = scaled.Scale(blockRow, k / Block);
            TVector scales = TWidth.Broadcast(scale);
            nint i = k, end = Math.Min(k + Block, depth);
            for (; i + TWidth.Count <= end; i += TWidth.Count)
            {
                TVector product = TWidth.MultiplyAdd(scales, TWidth.Load(a + i), TWidth.Zero);
                magnitudes = TWidth.LargerMagnitude(product, magnitudes);
                TWidth.Store(product, x + i);
            }

            for (; i < end; i++) largest = MathF.MaxMagnitude(largest, x[i] = scale * a[i]);
        }

        float* lanes = stackalloc float[TWidth.Count];
        TWidth.Store(magnitudes, lanes);
        for (int i = 0; i < TWidth.Count; i++) largest = MathF.MaxMagnitude(largest, lanes[i]);
        return MathF.Abs(largest);
    }

    /// <summary>x *= factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply(float* x, float factor, nint count)
    {
        TVector f = TWidth.Broadcast(factor);
        nint i = 0;
        for (; i + TWidth.Count <= count; i += TWidth.Count) TWidth.Store(TWidth.MultiplyAdd(f, TWidth.Load(x + i), TWidth.Zero), x + i);
        for (; i < count; i++) x[i] *= factor;
    }
}
