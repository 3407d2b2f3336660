// Products of a few rows each with weights in 8-bit codes that share a scale by 128x128 blocks ([P] §3.3.2), read as they lie. A row of
// activations times the scales of a row of blocks meets all 128 rows of codes in it, so the scales cost one product an element
// for 128 rows of weights, and the kernels see plain values: x_k (s_k c_k) = (x_k s_k) c_k.
// A code or scale that is not a number makes the sums that it belongs to not a number.
using Fathom.Compute.Cpu.Elementwise;
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
}

/// <summary>Forward products of few rows with scaled weights, whatever the vector width.</summary>
internal unsafe interface IScaledRowsGemm
{
    /// <summary>Computes all products, each of at least one row; the layout's format is E4M3 or HiF8.</summary>
    void Run(ScaledProduct* products, int count, in ProductLayout layout);
}

/// <summary>Forward products of few rows with scaled weights at one vector width.</summary>
internal sealed unsafe class ScaledRowsGemm<TVector, TWidth>(WorkerTeam team) : IScaledRowsGemm
    where TVector : struct
    where TWidth : struct, IVectorWidth<TVector>
{
    private const int Block = ScaledTensor.TileSize;

    public void Run(ScaledProduct* products, int count, in ProductLayout layout)
    {
        if (layout.FormatB == DType.F8E4M3) Run<E4M3Format>(products, count, layout);
        else Run<HiFloat8Format>(products, count, layout);
    }

    private void Run<TFormat>(ScaledProduct* products, int count, in ProductLayout layout) where TFormat : struct, ICodeFormat
    {
        if (layout.Columns == 0 || count == 0) return;
        long width = FewRowsPlan.TileColumns(layout.Columns, products[0].Product.Depth, count, FewRowsPlan.DotRows, team.Size);
        int tiles = (int)((layout.Columns + width - 1) / width);
        team.For(checked(tiles * count), new Job<TFormat>(products, layout, width, tiles));
    }

    /// <summary>C[m, n] = A[m, :] · B[n, :] for a range of n.</summary>
    private readonly struct Job<TFormat>(ScaledProduct* products, ProductLayout layout, long width, int tiles) : ITileJob
        where TFormat : struct, ICodeFormat
    {
        public void Run(int tile, int worker)
        {
            ref ScaledProduct scaled = ref products[tile / tiles];
            Product product = scaled.Product;
            long first = tile % tiles * width, end = Math.Min(first + width, layout.Columns);
            // Rows a cache line longer than whole vectors, so that they do not meet in the same sets of the caches.
            nint stride = (nint)(product.Depth + 15) / 16 * 16 + 16;
            float* x = (float*)Scratch.OfTile.Take(product.Rows * stride * sizeof(float));
            for (long n = first; n < end;)
            {
                long next = Math.Min((n / Block + 1) * Block, end);
                Scale(scaled, n / Block, x, stride);
                if (CodeTable.ExpandsMany) Dots<CodeKernels<TFormat>>.Run(product, x, stride, n, next, layout);
                else Dots<FewRowsKernels<TFormat, TVector, TWidth>>.Run(product, x, stride, n, next, layout);
                n = next;
            }
        }

        /// <summary>x = A times the scales of a row of blocks.</summary>
        private void Scale(in ScaledProduct scaled, long blockRow, float* x, nint stride)
        {
            long row = blockRow * scaled.ScaleStride, depth = scaled.Product.Depth;
            for (long k = 0; k < depth; k += Block)
            {
                float scale = scaled.ScaleType == DType.F32
                    ? ((float*)scaled.Scales)[row + k / Block]
                    : ScaleE8M0.FromBits(scaled.Scales[row + k / Block]);
                nint count = (nint)Math.Min(Block, depth - k);
                for (long m = 0; m < scaled.Product.Rows; m++)
                {
                    float* from = (float*)scaled.Product.A + m * layout.StrideA + k;
                    FewRowsKernels<TFormat, TVector, TWidth>.Scale(from, count, scale, x + m * stride + k);
                }
            }
        }
    }
}
