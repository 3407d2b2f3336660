// C = A B or C += A B for one product or many of the same width, over packed panels. Work goes in waves: the team packs as much of
// B as the last-level cache keeps (part of one large matrix, or the matrices of several experts), then computes all tiles over
// it, packing A as it goes. B is so packed once for all threads, and the products of many small groups fill them like a large one.
// Where that copy would cost more than it saves (few rows, GemmPlan.ReadsInPlace), one wave reads B where it lies instead.
// The order of every sum is fixed by its depth (GemmPlan), so threads and the rest of the batch do not change a bit.
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Where one product lies.</summary>
internal unsafe struct Product
{
    /// <summary>First element of A.</summary>
    public byte* A;

    /// <summary>First element of B.</summary>
    public byte* B;

    /// <summary>First element of C.</summary>
    public float* C;

    /// <summary>Rows of C.</summary>
    public long Rows;

    /// <summary>Length of the sums.</summary>
    public long Depth;
}

/// <summary>What the products of a call have in common.</summary>
/// <param name="Columns">Columns of C.</param>
/// <param name="StrideA">Elements between rows of A as it lies in memory.</param>
/// <param name="StrideB">Elements between rows of B as it lies in memory.</param>
/// <param name="StrideC">Elements between rows of C.</param>
/// <param name="DepthFirstA">Whether a row of A is contiguous over the depth; otherwise rows of A are adjacent.</param>
/// <param name="DepthFirstB">Whether a column of B is contiguous over the depth; otherwise columns of B are adjacent.</param>
/// <param name="FormatB">F32 or BF16; A and C are F32.</param>
/// <param name="Accumulate">Whether to add to C.</param>
internal readonly record struct ProductLayout(
    long Columns, long StrideA, long StrideB, long StrideC, bool DepthFirstA, bool DepthFirstB, DType FormatB, bool Accumulate);

/// <summary>Packed products, whatever the tile kernel.</summary>
internal interface IPackedGemm
{
    /// <summary>Computes all products.</summary>
    void Run(ReadOnlySpan<Product> products, in ProductLayout layout);
}

/// <summary>Packed products with one tile kernel.</summary>
/// <typeparam name="TKernel">The tile kernel, two vectors wide.</typeparam>
/// <typeparam name="TVector">The vector type.</typeparam>
/// <typeparam name="TWidth">Its width.</typeparam>
internal sealed unsafe class PackedGemm<TKernel, TVector, TWidth>(WorkerTeam team) : IPackedGemm
    where TKernel : struct, ITileKernel
    where TVector : struct
    where TWidth : struct, IVectorWidth<TVector>
{
    private readonly Lock oneCallAtATime = new();
    private readonly Tensor zeros = HostMemory.Allocate(new Shape(GemmPlan.LargestDepthBlock), DType.F32);
    private Tensor packed = HostMemory.Allocate(new Shape(1), DType.F32);
    private readonly Tensor[] scratch = new Tensor[team.Size];
    private Slab[] slabs = new Slab[16];
    private int slabCount;
    private long packedElements;
    private long rowPanels;
    private bool inPlace; // B is read where it lies, nothing is packed but A.

    public void Run(ReadOnlySpan<Product> products, in ProductLayout layout)
    {
        lock (oneCallAtATime)
        {
            slabCount = 0;
            packedElements = rowPanels = 0;
            inPlace = ReadsInPlace(products, layout);
            foreach (ref readonly Product product in products)
            {
                if (product.Rows == 0 || layout.Columns == 0) continue;
                if (inPlace)
                {
                    Add(product, layout, 0, product.Depth, 0, layout.Columns);
                    continue;
                }

                long firstDepth = 0, elements = GemmPlan.PackElements(product.Rows);
                do
                {
                    long depth = Math.Min(product.Depth - firstDepth, GemmPlan.LargestDepthChunk);
                    long chunk = GemmPlan.ColumnChunk(layout.Columns, depth, elements, TKernel.Columns);
                    for (long column = 0; column < layout.Columns; column += chunk)
                        Add(product, layout, firstDepth, depth, column, Math.Min(chunk, layout.Columns - column));
                    firstDepth += depth;
                }
                while (firstDepth < product.Depth);
            }

            RunWave(layout);
        }
    }

    private static bool ReadsInPlace(ReadOnlySpan<Product> products, in ProductLayout layout)
    {
        long rows = 0, depth = 0;
        foreach (ref readonly Product product in products) (rows, depth) = (Math.Max(rows, product.Rows), Math.Max(depth, product.Depth));
        return !layout.DepthFirstB && layout.FormatB == DType.F32 && GemmPlan.ReadsInPlace(rows, depth, layout.Columns, layout.StrideB, TKernel.Columns);
    }

    private void Add(in Product product, in ProductLayout layout, long firstDepth, long depth, long column, long columns)
    {
        long panels = (columns + TKernel.Columns - 1) / TKernel.Columns;
        long elements = inPlace ? 0 : panels * TKernel.Columns * depth;
        // Slabs of one wave run in any order, so two stretches of one sum never share a wave.
        bool continues = firstDepth > 0;
        if (slabCount > 0 && ((continues && column == 0) || packedElements + elements > GemmPlan.PackElements(product.Rows))) RunWave(layout);
        if (slabCount == slabs.Length) Array.Resize(ref slabs, 2 * slabs.Length);
        int sizeB = layout.FormatB.SizeInBytes();
        slabs[slabCount++] = new Slab
        {
            A = product.A + firstDepth * (layout.DepthFirstA ? 1 : layout.StrideA) * sizeof(float),
            B = product.B + (firstDepth * (layout.DepthFirstB ? 1 : layout.StrideB) + column * (layout.DepthFirstB ? layout.StrideB : 1)) * sizeB,
            C = product.C + column,
            Packed = packedElements,
            Rows = product.Rows,
            Depth = depth,
            Columns = columns,
            Panels = (int)panels,
            DepthBlock = GemmPlan.DepthBlock(Math.Min(depth, GemmPlan.LargestDepthChunk)),
            Accumulate = layout.Accumulate || continues,
        };
        packedElements += elements;
        rowPanels += (product.Rows + TKernel.Rows - 1) / TKernel.Rows;
    }

    private void RunWave(in ProductLayout layout)
    {
        if (slabCount == 0) return;
        int widest = 0, packTiles = 0, tiles = 0;
        for (int s = 0; s < slabCount; s++) widest = Math.Max(widest, slabs[s].Panels);
        (int rowPanelsOfTile, int columnParts) = GemmPlan.TeamTile(rowPanels, widest, team.Size);
        for (int s = 0; s < slabCount; s++)
        {
            ref Slab slab = ref slabs[s];
            slab.FirstPackTile = packTiles;
            slab.PanelsOfPackTile = layout.DepthFirstB ? 1 : GemmPlan.PackPanels(slab.Panels, team.Size);
            slab.PackColumnTiles = (slab.Panels + slab.PanelsOfPackTile - 1) / slab.PanelsOfPackTile;
            packTiles = checked(packTiles + slab.PackColumnTiles * (int)((slab.Depth + slab.DepthBlock - 1) / Math.Max(1, slab.DepthBlock)));
            slab.FirstTile = tiles;
            long panels = (slab.Rows + TKernel.Rows - 1) / TKernel.Rows, rowTiles = (panels + rowPanelsOfTile - 1) / rowPanelsOfTile;
            slab.RowsOfTile = (int)((panels + rowTiles - 1) / rowTiles) * TKernel.Rows;
            slab.PanelsOfTile = (slab.Panels + columnParts - 1) / columnParts;
            slab.ColumnTiles = (slab.Panels + slab.PanelsOfTile - 1) / slab.PanelsOfTile;
            tiles = checked(tiles + (int)((slab.Rows + slab.RowsOfTile - 1) / slab.RowsOfTile) * slab.ColumnTiles);
        }

        Grow(ref packed, packedElements);
        // A block of packed rows, then a tile for the ragged edges.
        long needed = (long)rowPanelsOfTile * TKernel.Rows * GemmPlan.LargestDepthBlock + TKernel.Rows * TKernel.Columns;
        for (int worker = 0; worker < scratch.Length; worker++) Grow(ref scratch[worker], needed);
        if (!inPlace) team.For(packTiles, new PackJob(this, layout));
        team.For(tiles, new TileJob(this, layout, rowPanelsOfTile));
        slabCount = 0;
        packedElements = rowPanels = 0;
    }

    private static void Grow(ref Tensor memory, long elements)
    {
        if (memory.IsEmpty || memory.Elements < elements) memory = HostMemory.Allocate(new Shape(elements), DType.F32);
    }

    private int FindSlab(int tile, bool packing)
    {
        int low = 0, high = slabCount - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if ((packing ? slabs[middle].FirstPackTile : slabs[middle].FirstTile) <= tile) low = middle;
            else high = middle - 1;
        }

        return low;
    }

    /// <summary>A part of one product's B that a wave packs, and what is computed with it.</summary>
    private struct Slab
    {
        public byte* A;
        public byte* B;
        public float* C;
        public long Packed;
        public long Rows;
        public long Depth;
        public long Columns;
        public int Panels;
        public int DepthBlock;
        public int FirstPackTile;
        public int PackColumnTiles;
        public int PanelsOfPackTile;
        public int FirstTile;
        public int ColumnTiles;
        public int PanelsOfTile;
        public int RowsOfTile;
        public bool Accumulate;
    }

    /// <summary>Packs a few panels of B over one block of the depth.</summary>
    private readonly struct PackJob(PackedGemm<TKernel, TVector, TWidth> gemm, ProductLayout layout) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            ref Slab slab = ref gemm.slabs[gemm.FindSlab(tile, packing: true)];
            tile -= slab.FirstPackTile;
            long depth = (long)(tile / slab.PackColumnTiles) * slab.DepthBlock;
            int panel = tile % slab.PackColumnTiles * slab.PanelsOfPackTile;
            nint block = (nint)Math.Min(slab.DepthBlock, slab.Depth - depth);
            int lines = (int)Math.Min((long)slab.PanelsOfPackTile * TKernel.Columns, slab.Columns - (long)panel * TKernel.Columns);
            float* to = gemm.packed.Pointer<float>() + slab.Packed + (depth * slab.Panels + panel * block) * TKernel.Columns;
            if (layout.FormatB == DType.F32) Pack<SingleFormat>(slab.B, (long)panel * TKernel.Columns, depth, lines, block, to);
            else Pack<BFloat16Format>(slab.B, (long)panel * TKernel.Columns, depth, lines, block, to);
        }

        private void Pack<TFormat>(byte* b, long column, long depth, int lines, nint block, float* to) where TFormat : struct, IWeightFormat
        {
            nint stride = (nint)layout.StrideB;
            if (layout.DepthFirstB) Packing.Transpose<TFormat>(b + (column * stride + depth) * TFormat.Size, stride, lines, TKernel.Columns, block, (byte*)gemm.zeros.Address, to);
            else Packing.CopyColumns<TFormat, TVector, TWidth>(b + (depth * stride + column) * TFormat.Size, stride, lines, block, to);
        }
    }

    /// <summary>Computes a block of rows over all or part of a slab's columns.</summary>
    private readonly struct TileJob(PackedGemm<TKernel, TVector, TWidth> gemm, ProductLayout layout, int rowPanels) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            ref Slab slab = ref gemm.slabs[gemm.FindSlab(tile, packing: false)];
            tile -= slab.FirstTile;
            long row = (long)(tile / slab.ColumnTiles) * slab.RowsOfTile;
            int rows = (int)Math.Min(slab.RowsOfTile, slab.Rows - row);
            int firstPanel = tile % slab.ColumnTiles * slab.PanelsOfTile;
            int endPanel = Math.Min(firstPanel + slab.PanelsOfTile, slab.Panels);
            float* a = gemm.scratch[worker].Pointer<float>();
            bool accumulate = slab.Accumulate;
            long depth = 0;
            do
            {
                nint block = GemmPlan.DepthBlockAt(depth, slab.Depth);
                PackRows(slab, row, rows, depth, block, a);
                float* b = gemm.inPlace ? (float*)slab.B + depth * layout.StrideB : gemm.packed.Pointer<float>() + slab.Packed + depth * slab.Panels * TKernel.Columns;
                int step = GemmPlan.SecondLevelPanels((int)block, TKernel.Columns);
                for (int panel = firstPanel; panel < endPanel; panel += step)
                    Compute(slab, row, rows, block, a, b, panel, Math.Min(panel + step, endPanel), accumulate, a + (long)rowPanels * TKernel.Rows * GemmPlan.LargestDepthBlock);
                accumulate = true;
                depth += block;
            }
            while (depth < slab.Depth);
        }

        private void PackRows(in Slab slab, long row, int rows, long depth, nint block, float* to)
        {
            float* from = (float*)slab.A + (layout.DepthFirstA ? row * layout.StrideA + depth : depth * layout.StrideA + row);
            nint stride = (nint)layout.StrideA;
            if (!layout.DepthFirstA)
            {
                Packing.CopyRows(from, stride, rows, TKernel.Rows, block, to);
                return;
            }

            for (; rows > 0; rows -= TKernel.Rows, from += TKernel.Rows * stride, to += block * TKernel.Rows)
                Packing.Transpose<SingleFormat>((byte*)from, stride, Math.Min(TKernel.Rows, rows), TKernel.Rows, block, (byte*)gemm.zeros.Address, to);
        }

        private void Compute(in Slab slab, long row, int rows, nint block, float* a, float* b, int panel, int endPanel, bool accumulate, float* edge)
        {
            nint strideB = gemm.inPlace ? (nint)layout.StrideB : TKernel.Columns;
            nint nextPanel = gemm.inPlace ? TKernel.Columns : block * TKernel.Columns;
            for (int r = 0; r < rows; r += TKernel.Rows, a += block * TKernel.Rows)
            {
                float* c = slab.C + (row + r) * layout.StrideC;
                for (int p = panel; p < endPanel; p++)
                {
                    long column = (long)p * TKernel.Columns;
                    int columns = (int)Math.Min(TKernel.Columns, slab.Columns - column);
                    for (int done = 0, left = Math.Min(TKernel.Rows, rows - r); left > 0;)
                    {
                        // The last rows go to tiles of four, where a whole tile would compute more rows that do not exist.
                        bool four = (left + 3) / 4 * 4 < TKernel.Rows;
                        int tileRows = four ? 4 : TKernel.Rows, count = Math.Min(tileRows, left);
                        bool whole = count == tileRows && columns == TKernel.Columns;
                        float* to = whole ? c + done * layout.StrideC + column : edge;
                        nint stride = whole ? (nint)layout.StrideC : TKernel.Columns;
                        if (four) TileOf4Rows<TVector, TWidth>.Run(block, a + done, TKernel.Rows, b + p * nextPanel, strideB, to, stride, whole && accumulate);
                        else TKernel.Run(block, a, TKernel.Rows, b + p * nextPanel, strideB, to, stride, whole && accumulate);
                        if (!whole) CopyEdge(edge, c + done * layout.StrideC + column, count, columns, accumulate);
                        done += count;
                        left -= count;
                    }
                }
            }
        }

        private void CopyEdge(float* edge, float* c, int rows, int columns, bool accumulate)
        {
            for (int r = 0; r < rows; r++, edge += TKernel.Columns, c += layout.StrideC)
            {
                if (accumulate)
                {
                    for (int j = 0; j < columns; j++) c[j] += edge[j];
                }
                else
                {
                    for (int j = 0; j < columns; j++) c[j] = edge[j];
                }
            }
        }
    }
}
