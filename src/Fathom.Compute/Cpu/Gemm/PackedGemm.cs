// C = A B or C += A B for one product or many of the same width, over packed panels. C is cut into tiles (GemmPlan), and the thread
// that takes a tile packs all that it needs: a block of B that stays in its own second-level cache, then a few panels of A at a
// time, which meet every panel of that block. Threads share nothing and never wait for one another. Tiles that share their
// columns follow one another, so a thread mostly finds its B packed already. While a panel is computed, the memory that will be
// packed next is asked for. The order of every sum is fixed by its depth, so threads and the rest of the batch do not change a bit.
using System.Runtime.CompilerServices;
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

    /// <summary>Some of the rows, of a product whose A is F32 and contiguous over the depth.</summary>
    public readonly Product Part(long row, long count, in ProductLayout layout) => this with
    {
        A = A + row * layout.StrideA * sizeof(float),
        C = C + row * layout.StrideC,
        Rows = Math.Min(count, Rows - row),
    };
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
    private readonly Worker[] workers = new Worker[team.Size];
    private Part[] parts = new Part[16];
    private int partCount, tiles;

    public void Run(ReadOnlySpan<Product> products, in ProductLayout layout)
    {
        lock (oneCallAtATime)
        {
            long rows = 0, depth = 0;
            int depthBlock = 0;
            foreach (ref readonly Product product in products)
            {
                rows += product.Rows;
                depth = Math.Max(depth, product.Depth);
                depthBlock = Math.Max(depthBlock, GemmPlan.DepthBlock(product.Depth)); // Not always that of the longest.
            }

            if (rows == 0 || layout.Columns == 0) return;
            TileSize size = GemmPlan.Tile(rows, layout.Columns, depth, depthBlock, products.Length, team.Size, TKernel.Rows, TKernel.Columns);
            int columnTiles = (int)((layout.Columns + size.Columns - 1) / size.Columns);
            partCount = tiles = 0;
            foreach (ref readonly Product product in products)
            {
                if (product.Rows == 0) continue;
                if (partCount == parts.Length) Array.Resize(ref parts, 2 * parts.Length);
                long panels = (product.Rows + TKernel.Rows - 1) / TKernel.Rows;
                int rowTiles = checked((int)Math.Clamp((product.Rows + size.Rows / 2) / size.Rows, 1, panels));
                parts[partCount++] = new Part { Product = product, FirstTile = tiles, RowTiles = rowTiles };
                tiles = checked(tiles + rowTiles * columnTiles);
            }

            int group = GemmPlan.RowGroup(layout.DepthFirstA) * TKernel.Rows;
            for (int w = 0; w < workers.Length; w++)
                workers[w].Begin((long)depthBlock * size.Columns, (long)depthBlock * group, TKernel.Rows * TKernel.Columns);
            team.For(tiles, new TileJob(this, layout, size.Columns));
        }
    }

    private Place Find(int tile, in ProductLayout layout, int tileColumns)
    {
        int low = 0, high = partCount - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (parts[middle].FirstTile <= tile) low = middle;
            else high = middle - 1;
        }

        ref Part part = ref parts[low];
        tile -= part.FirstTile;
        // Row panels are dealt out evenly.
        long panels = (part.Product.Rows + TKernel.Rows - 1) / TKernel.Rows, rowTile = tile % part.RowTiles;
        long row = rowTile * panels / part.RowTiles * TKernel.Rows, endRow = (rowTile + 1) * panels / part.RowTiles * TKernel.Rows;
        long column = (long)(tile / part.RowTiles) * tileColumns;
        return new Place
        {
            Product = part.Product,
            Row = row,
            Column = column,
            Rows = checked((int)(Math.Min(endRow, part.Product.Rows) - row)),
            Columns = (int)Math.Min(tileColumns, layout.Columns - column),
            DepthBlock = GemmPlan.DepthBlock(part.Product.Depth),
        };
    }

    /// <summary>A tile of C.</summary>
    private struct Place
    {
        public Product Product;
        public long Row;
        public long Column;
        public int Rows;
        public int Columns;
        public int DepthBlock;

        /// <summary>Length of the block of the depth that begins at a place.</summary>
        public readonly int Block(long depth) => (int)Math.Min(DepthBlock, Product.Depth - depth);
    }

    /// <summary>A product and its tiles: rows pass first, then columns.</summary>
    private struct Part
    {
        public Product Product;
        public int FirstTile;
        public int RowTiles;
    }

    /// <summary>A thread's memory.</summary>
    private struct Worker
    {
        private Tensor memory;

        /// <summary>Panels of B, [panels, depth, columns of a panel].</summary>
        public float* B;

        /// <summary>Panels of A, [panels, depth, rows of a panel].</summary>
        public float* A;

        /// <summary>A tile that reaches over an edge of C.</summary>
        public float* Edge;

        /// <summary>Where the block came from that lies in <see cref="B"/>.</summary>
        public byte* Packed;

        public void Begin(long elementsB, long elementsA, long elementsEdge)
        {
            // A call may bring other values at the same address.
            Packed = null;
            elementsA = (elementsA + 15) / 16 * 16;
            long elements = elementsB + elementsA + elementsEdge;
            if (memory.IsEmpty || memory.Elements < elements) memory = HostMemory.Allocate(new Shape(elements), DType.F32);
            B = memory.Pointer<float>();
            A = B + elementsB;
            Edge = A + elementsA;
        }
    }

    /// <summary>Computes a tile of C.</summary>
    private readonly struct TileJob(PackedGemm<TKernel, TVector, TWidth> gemm, ProductLayout layout, int tileColumns) : ITileJob
    {
        public void Run(int tile, int worker)
        {
            Place place = gemm.Find(tile, layout, tileColumns);
            // Threads take tiles in turn, so this is probably the thread's next one.
            int nextTile = Math.Min(tile + gemm.workers.Length, gemm.tiles - 1);
            Place next = nextTile == tile ? default : gemm.Find(nextTile, layout, tileColumns);
            ref Worker memory = ref gemm.workers[worker];
            int group = GemmPlan.RowGroup(layout.DepthFirstA) * TKernel.Rows;
            bool accumulate = layout.Accumulate;
            long depth = 0;
            do
            {
                int block = place.Block(depth);
                byte* b = FirstOfB(place, depth);
                if (memory.Packed != b)
                {
                    PackColumns(b, place.Columns, block, memory.B);
                    if (block > 0) memory.Packed = b;
                }

                bool last = depth + block >= place.Product.Depth;
                Prefetcher fetchB = last ? FetchB(next, 0, b, Kernels(place.Rows, place.Columns)) : FetchB(place, depth + block, b, Kernels(place.Rows, place.Columns));
                for (int row = 0; row < place.Rows; row += group)
                {
                    int rows = Math.Min(group, place.Rows - row), kernels = Kernels(rows, place.Columns);
                    PackRows(FirstOfA(place, row, depth), rows, block, memory.A);
                    Prefetcher fetchA = row + group < place.Rows ? FetchA(place, row + group, depth, group, kernels)
                        : last ? FetchA(next, 0, 0, group, kernels) : FetchA(place, 0, depth + block, group, kernels);
                    Compute(place.Product.C + (place.Row + row) * layout.StrideC + place.Column, rows, place.Columns, block, memory, accumulate, ref fetchA, ref fetchB);
                }

                accumulate = true;
                depth += block;
            }
            while (depth < place.Product.Depth);
        }

        private static int Kernels(int rows, int columns) => (rows + TKernel.Rows - 1) / TKernel.Rows * ((columns + TKernel.Columns - 1) / TKernel.Columns);

        private byte* FirstOfA(in Place place, int row, long depth) => At(place.Product.A, layout.DepthFirstA, layout.StrideA, sizeof(float), place.Row + row, depth);

        private byte* FirstOfB(in Place place, long depth) => At(place.Product.B, layout.DepthFirstB, layout.StrideB, layout.FormatB.SizeInBytes(), place.Column, depth);

        private static byte* At(byte* first, bool depthFirst, long stride, int size, long line, long depth) =>
            first + (depthFirst ? line * stride + depth : depth * stride + line) * size;

        private Prefetcher FetchA(in Place place, int row, long depth, int group, int kernels) => new(
            FirstOfA(place, row, depth), layout.DepthFirstA, layout.StrideA, sizeof(float), Math.Min(group, place.Rows - row), place.Block(depth), kernels);

        private Prefetcher FetchB(in Place place, long depth, byte* packed, int kernels)
        {
            byte* first = FirstOfB(place, depth);
            return first == packed ? default : new Prefetcher(
                first, layout.DepthFirstB, layout.StrideB, layout.FormatB.SizeInBytes(), place.Columns, place.Block(depth), kernels);
        }

        private void PackColumns(byte* b, int columns, nint block, float* to)
        {
            if (layout.FormatB == DType.F32) PackColumns<SingleFormat>(b, columns, block, to);
            else PackColumns<BFloat16Format>(b, columns, block, to);
        }

        private void PackColumns<TFormat>(byte* b, int columns, nint block, float* to) where TFormat : struct, IWeightFormat
        {
            nint stride = (nint)layout.StrideB;
            if (layout.DepthFirstB) Packing.Transpose<TFormat>(b, stride, columns, TKernel.Columns, block, (byte*)gemm.zeros.Address, to);
            else Packing.CopyColumns<TFormat, TVector, TWidth>(b, stride, columns, block, to);
        }

        private void PackRows(byte* a, int rows, nint block, float* to)
        {
            nint stride = (nint)layout.StrideA;
            if (layout.DepthFirstA) Packing.Transpose<SingleFormat>(a, stride, rows, TKernel.Rows, block, (byte*)gemm.zeros.Address, to);
            else Packing.CopyRows((float*)a, stride, rows, TKernel.Rows, block, to);
        }

        [SkipLocalsInit]
        private void Compute(float* c, int rows, int columns, nint block, in Worker memory, bool accumulate, ref Prefetcher fetchA, ref Prefetcher fetchB)
        {
            float* a = memory.A;
            byte** lines = stackalloc byte*[GemmPlan.LargestDepthBlock];
            for (int row = 0; row < rows; row += TKernel.Rows, a += block * TKernel.Rows, c += TKernel.Rows * layout.StrideC)
            {
                float* b = memory.B;
                for (int column = 0; column < columns; column += TKernel.Columns, b += block * TKernel.Columns)
                {
                    int lineCount = fetchA.Next(lines, (int)block);
                    lineCount += fetchB.Next(lines + lineCount, (int)block - lineCount);
                    ComputeTile(c + column, Math.Min(TKernel.Rows, rows - row), Math.Min(TKernel.Columns, columns - column), block, a, b, memory.Edge, accumulate, lines, lineCount);
                }
            }
        }

        private void ComputeTile(float* c, int rows, int columns, nint block, float* a, float* b, float* edge, bool accumulate, byte** lines, int lineCount)
        {
            while (rows > 0)
            {
                // The last rows go to tiles of four, where a whole tile would compute more rows that do not exist.
                bool four = (rows + 3) / 4 * 4 < TKernel.Rows;
                int tileRows = four ? 4 : TKernel.Rows, count = Math.Min(tileRows, rows);
                bool whole = count == tileRows && columns == TKernel.Columns;
                float* to = whole ? c : edge;
                nint stride = whole ? (nint)layout.StrideC : TKernel.Columns;
                if (four) TileOf4Rows<TVector, TWidth>.Run(block, a, TKernel.Rows, b, to, stride, whole && accumulate, lines, lineCount);
                else TKernel.Run(block, a, TKernel.Rows, b, to, stride, whole && accumulate, lines, lineCount);
                if (!whole) CopyEdge(edge, c, count, columns, accumulate);
                a += count;
                c += count * layout.StrideC;
                rows -= count;
                lineCount = 0;
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
