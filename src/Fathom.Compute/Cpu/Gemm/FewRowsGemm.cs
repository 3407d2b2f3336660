// Products of a few rows each: launch. One parallel region covers all products, cut over the weights only, so that each weight
// is read from memory by one thread, once.
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Products of few rows (<see cref="FewRowsPlan"/>), whatever the vector width.</summary>
internal unsafe interface IFewRowsGemm
{
    /// <summary>Computes all products, each of at least one row.</summary>
    void Run(Product* products, int count, in ProductLayout layout);
}

/// <summary>How products of a few rows are cut; pure functions.</summary>
internal static class FewRowsPlan
{
    /// <summary>Most rows of a product of dots (forward): its kernel is as fast as the packed one, without the packing.</summary>
    public const int MostRowsOfDots = 64;

    /// <summary>Most rows of a product of sums (input gradient), whose kernel is slower than the packed one.</summary>
    public const int MostRowsOfSums = 16;

    /// <summary>Weight rows of one dot kernel.</summary>
    public const int DotRows = 4;

    /// <summary>Most rows of activations whose four weight rows are streams of their own: reading these is the cost.</summary>
    public const int RowsOfStreams = 4;

    /// <summary>How far ahead of a stream weights are asked for; measured.</summary>
    public const int BytesAhead = 1024;

    /// <summary>Weights that a tile meets at least, where rows are few enough that reading them is the cost: a few microseconds of work.</summary>
    private const long TileWeights = 16 << 10;

    /// <summary>Rows that take longer to multiply with a weight than the weight takes to come.</summary>
    private const int RowsOfArithmetic = 8;

    /// <summary>Tiles that a thread should find at most where reading is the cost: streams that are long, and a slow thread that does not keep the others waiting.</summary>
    private const int TilesOfReading = 16;

    /// <summary>The same where arithmetic is.</summary>
    private const int TilesOfArithmetic = 32;

    /// <summary>The same for BF16 arithmetic, which is twice as fast.</summary>
    private const int TilesOfNarrowArithmetic = 12;

    /// <summary>Columns of C a tile computes, a multiple of <paramref name="unit"/>.</summary>
    /// <param name="columns">Of C.</param>
    /// <param name="depth">Length of the sums.</param>
    /// <param name="products">Number of products.</param>
    /// <param name="rows">Rows of all products together.</param>
    /// <param name="unit">Columns of a kernel.</param>
    /// <param name="threads">Threads of the team.</param>
    /// <param name="narrow">Whether BF16 numbers are multiplied.</param>
    public static long TileColumns(long columns, long depth, int products, long rows, int unit, int threads, bool narrow = false)
    {
        long cost = columns * depth * Math.Max(products, rows / (narrow ? 2 * RowsOfArithmetic : RowsOfArithmetic));
        int mostTiles = threads * (rows <= (long)products * RowsOfStreams ? TilesOfReading : narrow ? TilesOfNarrowArithmetic : TilesOfArithmetic);
        long tiles = (Math.Clamp(cost / TileWeights, 1, mostTiles) + products - 1) / products;
        long width = (columns + tiles - 1) / tiles;
        return (width + unit - 1) / unit * unit;
    }
}

/// <summary>Products of a few rows at one vector width.</summary>
internal sealed unsafe class FewRowsGemm<TVector, TWidth>(WorkerTeam team) : IFewRowsGemm
    where TVector : struct
    where TWidth : struct, IVectorWidth<TVector>
{
    // Vectors must meet the same columns whatever the tiles, or a result would depend on the number of threads.
    private const int ColumnUnit = 64;

    public void Run(Product* products, int count, in ProductLayout layout)
    {
        if (layout.FormatB == DType.F32) Run<SingleFormat>(products, count, layout);
        else Run<BFloat16Format>(products, count, layout);
    }

    private void Run<TFormat>(Product* products, int count, in ProductLayout layout) where TFormat : struct, IWeightFormat
    {
        if (layout.Columns == 0 || count == 0) return;
        int unit = layout.DepthFirstB ? FewRowsPlan.DotRows : ColumnUnit;
        long rows = 0;
        for (int i = 0; i < count; i++) rows += products[i].Rows;
        long width = FewRowsPlan.TileColumns(layout.Columns, products[0].Depth, count, rows, unit, team.Size);
        int tiles = (int)((layout.Columns + width - 1) / width);
        if (layout.DepthFirstB) team.ForRanges(checked(tiles * count), new DotJob<FewRowsKernels<TFormat, TVector, TWidth>, float>(products, layout, width, tiles));
        else team.For(checked(tiles * count), new SumJob<TFormat>(products, layout, width, tiles));
    }

    /// <summary>C[m, k] = Σ A[m, n] B[n, k] for a range of k.</summary>
    private readonly struct SumJob<TFormat>(Product* products, ProductLayout layout, long width, int tiles) : ITileJob
        where TFormat : struct, IWeightFormat
    {
        // Of eight weight rows this much stays in the first-level cache while all rows of A pass.
        private const int Block = 512;

        public void Run(int tile, int worker)
        {
            ref Product product = ref products[tile / tiles];
            long first = tile % tiles * width, end = Math.Min(first + width, layout.Columns);
            for (long k = first; k < end; k += Block) Compute(product, k, (nint)Math.Min(Block, end - k));
        }

        private void Compute(in Product product, long k, nint columns)
        {
            nint pitch = (nint)layout.StrideB * TFormat.Size;
            byte* w = product.B + k * TFormat.Size;
            if (!layout.Accumulate)
            {
                for (long m = 0; m < product.Rows; m++) new Span<float>(product.C + m * layout.StrideC + k, (int)columns).Clear();
            }

            long n = 0;
            for (; n + FewRowsKernels<TFormat, TVector, TWidth>.SumRows <= product.Depth; n += FewRowsKernels<TFormat, TVector, TWidth>.SumRows)
            {
                for (long m = 0; m < product.Rows; m++)
                    FewRowsKernels<TFormat, TVector, TWidth>.AddRows8(columns, (float*)product.A + m * layout.StrideA + n, w + n * pitch, pitch, product.C + m * layout.StrideC + k);
            }

            for (; n < product.Depth; n++)
            {
                for (long m = 0; m < product.Rows; m++)
                    FewRowsKernels<TFormat, TVector, TWidth>.AddRow(columns, *((float*)product.A + m * layout.StrideA + n), w + n * pitch, product.C + m * layout.StrideC + k);
            }
        }
    }
}
