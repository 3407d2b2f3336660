// Quantisation on the GPU. Every kernel is bound by memory and reads its values once, so the floor of [4096, 7168] from BF16 to E4M3 is
// 90 MB or 21 µs at 4.27 TB/s (from F32 148 MB, 35 µs), of [32768, 2048] 203 MB or 48 µs. Offsets of groups are known on the device
// alone: blocks are launched for all tile rows that there may be, and find their group themselves.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Compute.Cuda;

/// <summary>
/// <see cref="IQuantizationOperators"/> on a GPU; bit by bit what the reference gives, for F32 and for BF16 values. Row offsets are not
/// checked, since they lie on the device; <c>fault</c> must hold -1 before.
/// </summary>
internal sealed class CudaQuantization : IQuantizationOperators
{
    private const string File = "quantization.cu";
    private const int Tile = ScaledTensor.TileSize;
    private const int WideChunk = 4;
    private const int PatchColumns = 4, CodeColumns = 8; // of operand_tiles.cuh: what a thread takes, whole words of any codes
    private const string BothWays = "quantize_transposed<bf16, true, true>";
    private readonly CudaContext context;
    private readonly TileKernels?[] formats = new TileKernels?[Enum.GetValues<QuantizedFormat>().Length];
    private readonly Kernel[] largest;
    private readonly Kernel[] narrow;
    private readonly Kernel[] widen;
    private readonly Kernel[] copy;
    private readonly Kernel[] round;
    private readonly Kernel[] transpose;
    private readonly Kernel[] transposed;
    private readonly Kernel bothWays;
    private Kernel? twice;

    public CudaQuantization(CudaContext context)
    {
        this.context = context;
        string[] magnitudes = [.. TileKernels.Plains.SelectMany(plain => new[] { 1, TileKernels.WideChunk(plain) }.Select(chunk => $"largest_magnitudes<{DTypeNames.Of(plain)}, {chunk}>"))];
        string[] narrows = Both("float, bf16"), widens = Both("bf16, float"), copies = Both("bf16, bf16"), rounds = Both("float, float");
        KernelModule parts = context.Module(File, magnitudes), rounding = context.Module("bf16_rounding.cu", [.. narrows, .. widens, .. copies, .. rounds]);
        KernelModule transposition = context.Module("transposition.cu", "transpose_bytes<false>", "transpose_bytes<true>");
        largest = [.. magnitudes.Select(parts.Kernel)];
        (narrow, widen, copy, round) = (Rounding(narrows), Rounding(widens), Rounding(copies), Rounding(rounds));
        transpose = [transposition.Kernel("transpose_bytes<false>"), transposition.Kernel("transpose_bytes<true>")];
        string[] transposing = [.. ((string[])["float, false", "float, true", "bf16, false", "bf16, true", "e4m3, true", "e5m6x2, true"]).Select(t => $"quantize_transposed<{t}, false>"), BothWays];
        KernelModule transposingModule = context.Module("quantization_transposed.cu", transposing);
        transposed = [.. transposing[..^1].Select(transposingModule.Kernel)];
        bothWays = transposingModule.Kernel(BothWays);
        formats[(int)QuantizedFormat.E4M3] = new TileKernels(context, QuantizedFormat.E4M3);

        static string[] Both(string types) => [$"through_bf16<{types}, 1>", $"through_bf16<{types}, {WideChunk}>"];
        Kernel[] Rounding(string[] instances) => [.. instances.Select(rounding.Kernel)];
    }

    /// <summary>Told of the codes of a weight (blocks of 128x128) when they are written.</summary>
    public Action<Tensor>? WeightsWritten { get; set; }

    public void Quantize(Tensor x, in ScaledTensor quantized, Tensor fault, Tensor rowOffsets, float leastAmax)
    {
        CheckTarget("quantise", x, quantized, fault, rowOffsets);
        if (x.Elements == 0) return;
        if (quantized.Layout == ScaleLayout.None)
        {
            ThroughBFloat16(x.DType == DType.F32 ? narrow : copy, x, quantized.Elements);
            return;
        }

        if (quantized.Layout == ScaleLayout.Block) WeightsWritten?.Invoke(quantized.Elements);
        TileKernels kernels = Format(quantized.DType);
        int wide = IsWide(x, quantized.Elements) ? 1 : 0, which = 2 * TileKernels.IndexOf(x.DType) + wide;
        TileArguments arguments = Arguments(x, quantized, rowOffsets) with { Fault = fault.Address, LeastAmax = leastAmax };
        switch (quantized.Layout)
        {
            case ScaleLayout.RowTile: kernels.QuantizeRows[which].LaunchWith(RowTiles(x.Rows, x.Columns), arguments); break;
            case ScaleLayout.ColumnTile: kernels.QuantizeColumns[which].LaunchWith(Strips(x.Rows, x.Columns, arguments.Groups), arguments); break;
            case ScaleLayout.Block: kernels.QuantizeBlocks[which].LaunchWith(Blocks(x.Rows, x.Columns), arguments); break;
            default:
                LaunchShape parts = Parts(x.Rows, x.Columns);
                arguments.Largest = context.Workspace(parts.Grid.X * sizeof(uint));
                arguments.LargestCount = (int)parts.Grid.X;
                largest[which].LaunchWith(parts, arguments);
                kernels.QuantizeWhole[which].LaunchWith(RowTiles(x.Rows, x.Columns), arguments);
                break;
        }
    }

    public void QuantizeTwice(Tensor x, in CodesTarget first, in CodesTarget second)
    {
        const string Op = "quantise twice";
        CheckTarget(Op, x, first.Codes, first.Fault, default);
        CheckTarget(Op, x, second.Codes, second.Fault, default);
        if (!AreReadOnce(x, first.Codes, second.Codes))
        {
            Quantize(x, first.Codes, first.Fault, default, TileQuantizer.SmallestAmax);
            Quantize(x, second.Codes, second.Fault, default, TileQuantizer.SmallestAmax);
            return;
        }

        if (x.Elements == 0) return;
        const string Instance = "quantize_rows_twice<bf16, e5m6x2, e4m3, 8>";
        twice ??= context.Module(File, Instance).Kernel(Instance);
        twice.LaunchWith(RowTiles(x.Rows, x.Columns), new TwiceArguments { First = Arguments(x, first), Second = Arguments(x, second) });
    }

    public void Dequantize(in ScaledTensor x, Tensor y, Tensor rowOffsets)
    {
        const string Op = "dequantise";
        Check(Op, y, x, rowOffsets);
        Require.Writable(Op, "y", y);
        if (y.Elements == 0) return;
        if (x.Layout == ScaleLayout.None)
        {
            ThroughBFloat16(y.DType == DType.F32 ? widen : copy, x.Elements, y);
            return;
        }

        TileKernels kernels = Format(x.DType);
        int which = 2 * TileKernels.IndexOf(y.DType) + (IsWide(y, x.Elements) ? 1 : 0);
        TileArguments arguments = Arguments(y, x, rowOffsets);
        if (x.Layout == ScaleLayout.ColumnTile) kernels.DequantizeColumns[which].LaunchWith(Strips(y.Rows, y.Columns, arguments.Groups), arguments);
        else kernels.DequantizeRows[which].LaunchWith(RowTiles(y.Rows, y.Columns), arguments);
    }

    public void RoundToBFloat16(Tensor x)
    {
        Require.That(!x.IsEmpty && x.DType is DType.F32 or DType.BF16, "round to BF16", $"x is {x}, expected F32 or BF16");
        Require.Writable("round to BF16", "x", x);
        if (x.DType == DType.F32 && x.Elements > 0) ThroughBFloat16(round, x, x);
    }

    public void QuantizeTransposed(in ScaledTensor x, in ScaledTensor quantized, Tensor fault, Tensor rowOffsets, float leastAmax) =>
        Transpose("quantise transposed", x, new CodesTarget(quantized, fault), default, rowOffsets, leastAmax);

    public void QuantizeBothWays(Tensor x, in GradientTarget quantized, Tensor rowOffsets, float leastAmax)
    {
        const string Op = "quantise both ways";
        ScaledTensor ofRows = quantized.OfRows.Codes;
        bool fits = x.DType == DType.BF16 && ofRows.DType == DType.F8E4M3 && ofRows.Layout == ScaleLayout.RowTile && ofRows.Scales.DType == DType.F32;
        if (fits && x.Columns % PatchColumns == 0 && IsAligned(x, PatchColumns * sizeof(ushort)) && IsAligned(ofRows.Elements, PatchColumns))
        {
            CheckTarget(Op, x, ofRows, quantized.OfRows.Fault, default);
            Transpose(Op, x, quantized.OverRows, quantized.OfRows, rowOffsets, leastAmax);
        }
        else
        {
            Quantize(x, ofRows, quantized.OfRows.Fault, default, leastAmax);
            QuantizeTransposed(x, quantized.OverRows.Codes, quantized.OverRows.Fault, rowOffsets, leastAmax);
        }
    }

    /// <summary>What a kernel is told of codes over rows, in as many tiles as M rows have or their groups.</summary>
    internal static CodesArgument TransposedCodes(string op, string name, in CodesTarget target, Shape values, int groups = 0)
    {
        ScaledTensor x = target.Codes;
        long tiles = TileRows(values.Rows, groups);
        Require.That(
            x.DType == DType.F8E4M3 && x.Layout == ScaleLayout.TransposedColumnTile && x.Scales.DType == DType.F32 && x.Shape.Rows == tiles * Tile && x.Shape.Columns == values.Columns,
            op, $"{name} is {x}, expected F8_E4M3 [{values.Columns}, {tiles * Tile}] with F32 scales");
        Require.That(x.Elements.IsContiguous && x.Elements.Address % 16 == 0, op, $"{name} is {x}, expected contiguous memory");
        Require.Writable(op, name, x.Elements);
        if (!target.Fault.IsEmpty) Require.Vector(op, "fault", target.Fault, 1, DType.I64);
        return new CodesArgument(target);
    }

    /// <summary>Codes over rows, and where it is not empty also codes of rows.</summary>
    private void Transpose(string op, in ScaledTensor x, in CodesTarget quantized, in CodesTarget ofRows, Tensor rowOffsets, float leastAmax)
    {
        long rows = x.Shape.Rows;
        int columns = checked((int)x.Shape.Columns), groups = rowOffsets.IsEmpty ? 0 : checked((int)rowOffsets.Elements - 1);
        bool plain = x.Layout == ScaleLayout.None && x.DType is DType.F32 or DType.BF16;
        bool codes = x.Layout == ScaleLayout.RowTile && x.DType is DType.F8E4M3 or DType.E5M6Pair;
        Require.That(plain || codes, op, $"x is {x}, expected F32, BF16, or F8_E4M3 or E5M6 in 1x128 tiles");
        CodesArgument transposed = TransposedCodes(op, "quantized", quantized, x.Shape, groups);
        if (groups > 0) Require.Vector(op, "rowOffsets", rowOffsets, groups + 1, DType.I32);
        if (rows == 0 || columns == 0) return;
        bool wide = plain
            ? columns % PatchColumns == 0 && IsAligned(x.Elements, PatchColumns * x.DType.SizeInBytes())
            : columns % CodeColumns == 0 && IsAligned(x.Elements, x.DType == DType.E5M6Pair ? 4 : CodeColumns);
        Require.That(plain || wide, op, $"x is {x} with rows {x.Elements.RowStride} elements apart, expected whole, aligned {CodeColumns} codes");
        var arguments = new TransposedArguments
        {
            From = x.Elements.Address,
            FromStride = x.Elements.RowStride * (plain ? 1 : x.DType.SizeInBytes()),
            FromScales = x.Scales.Address,
            FromScaleStride = plain ? 0 : x.Scales.RowStride,
            Transposed = transposed,
            OfRows = new CodesArgument(ofRows),
            RowOffsets = rowOffsets.Address,
            Rows = rows,
            Columns = columns,
            Groups = groups,
            PowersOfTwo = x.Scales.DType == DType.F8E8M0 ? 1 : 0,
            LeastAmax = leastAmax,
        };
        int which = x.DType switch { DType.F32 => 0, DType.BF16 => 2, DType.F8E4M3 => 4, _ => 5 } + (plain && wide ? 1 : 0);
        (ofRows.Codes.IsEmpty ? this.transposed[which] : bothWays).LaunchWith(Transposed(TileRows(rows, groups), columns), arguments);
    }

    /// <summary>Transposed copies of equally large matrices of one-byte elements: to[e, c, r] = from[e, r, c].</summary>
    /// <param name="from">Where the matrices lie.</param>
    /// <param name="to">[C, R] or [E, C, R], contiguous.</param>
    /// <exception cref="ArgumentException">Shapes that do not fit.</exception>
    internal void TransposeBytes(in HopperMatrix from, Tensor to)
    {
        const string Op = "transpose codes";
        Require.That(from.ElementBytes == 1 && to.DType.SizeInBytes() == 1, Op, $"{from} to {to}, expected elements of one byte");
        Require.That(to.IsContiguous && to.Columns == from.Rows && to.Rows == from.Count * from.Columns, Op, $"to is {to}, expected {from.Count} times [{from.Columns}, {from.Rows}]");
        Require.Writable(Op, "to", to);
        if (to.Elements == 0) return;
        bool wide = (from.Columns | from.RowStride | from.MatrixStride | from.Address | from.Rows | to.Address) % 16 == 0;
        transpose[wide ? 1 : 0].Launch(
            new LaunchShape((ScaledTensor.Tiles(from.Rows) * ScaledTensor.Tiles(from.Columns), 1, from.Count), 256),
            from.Address, from.RowStride, from.MatrixStride, from.Rows, checked((int)from.Columns), to, to.RowStride);
    }

    /// <summary>
    /// Whether threads may read and write 16 bytes of plain values at once, with the codes that belong to them: whole chunks a row,
    /// and addresses that every row keeps aligned.
    /// </summary>
    internal static bool IsWide(in Tensor plain, in Tensor codes)
    {
        int chunk = TileKernels.WideChunk(plain.DType);
        return plain.Columns % chunk == 0 && IsAligned(plain, 16) && IsAligned(codes, codes.DType == DType.E5M6Pair ? chunk / 2 : chunk);
    }

    /// <summary>Whether two formats of a matrix are made by one kernel: what attention's output is kept in and multiplied in, of BF16 in whole 16 bytes.</summary>
    internal static bool AreReadOnce(in Tensor x, in ScaledTensor first, in ScaledTensor second) =>
        x.DType == DType.BF16 && first.DType == DType.E5M6Pair && second.DType == DType.F8E4M3 &&
        first.Layout == ScaleLayout.RowTile && second.Layout == ScaleLayout.RowTile && IsWide(x, first.Elements) && IsWide(x, second.Elements);

    /// <summary>Eight threads a 1x128 tile, 32 tiles a block.</summary>
    internal static LaunchShape RowTiles(long rows, long columns) => new(LaunchShape.Cover(CheckedTiles(rows, columns), 32), 256);

    /// <summary>The same for parts of the largest magnitude of a whole matrix: no more than the blocks of the next kernel can add up in a moment.</summary>
    internal static LaunchShape Parts(long rows, long columns) => new(Math.Min(RowTiles(rows, columns).Grid.X, 1024), 256);

    /// <summary>Strips of 128 rows by 64 columns; in groups, as many tile rows as there may be.</summary>
    internal static LaunchShape Strips(long rows, long columns, int groups) => new(TileRows(rows, groups) * LaunchShape.Cover(columns, 64), 256);

    /// <summary>Blocks of 128 rows by 128 columns.</summary>
    internal static LaunchShape Blocks(long rows, long columns) => new(ScaledTensor.Tiles(rows) * ScaledTensor.Tiles(columns), 512);

    /// <summary>Blocks of 128 rows by 128 columns, down the rows first.</summary>
    internal static LaunchShape Transposed(long tileRows, long columns) => new((tileRows, ScaledTensor.Tiles(columns), 1), 512);

    private static long TileRows(long rows, int groups) => groups > 0 ? ScaledTensor.GroupedTileRows(rows, groups) : ScaledTensor.Tiles(rows);

    // Kernels count tiles in 32 bits.
    private static long CheckedTiles(long rows, long columns) => checked((uint)(rows * ScaledTensor.Tiles(columns)));

    private static bool IsAligned(in Tensor tensor, int bytes) =>
        tensor.Address % bytes == 0 && (tensor.Rows <= 1 || tensor.RowStride * tensor.DType.SizeInBytes() % bytes == 0);

    private static TileArguments Arguments(in Tensor x, in CodesTarget target) =>
        Arguments(x, target.Codes, default) with { Fault = target.Fault.Address, LeastAmax = TileQuantizer.SmallestAmax };

    private static TileArguments Arguments(in Tensor plain, in ScaledTensor quantized, in Tensor rowOffsets) => new()
    {
        Plain = plain.Address,
        PlainStride = plain.RowStride,
        Codes = quantized.Elements.Address,
        CodeStride = quantized.Elements.RowStride * quantized.DType.SizeInBytes(),
        Scales = quantized.Scales.Address,
        ScaleStride = quantized.Layout == ScaleLayout.Tensor ? 0 : quantized.Scales.RowStride,
        RowOffsets = rowOffsets.Address,
        Rows = plain.Rows,
        Columns = checked((int)plain.Columns),
        Groups = rowOffsets.IsEmpty ? 0 : checked((int)rowOffsets.Elements - 1),
        PowerOfTwo = quantized.Scales.DType == DType.F8E8M0 ? 1 : 0,
        ScaleRowShift = quantized.Layout == ScaleLayout.Block ? 7 : 0,
        ScaleStep = quantized.Layout == ScaleLayout.Tensor ? 0 : 1,
    };

    private static void CheckTarget(string op, in Tensor x, in ScaledTensor quantized, in Tensor fault, in Tensor rowOffsets)
    {
        Check(op, x, quantized, rowOffsets);
        Require.Writable(op, "quantized", quantized.Elements);
        if (!fault.IsEmpty) Require.Vector(op, "fault", fault, 1, DType.I64);
    }

    private static void Check(string op, in Tensor plain, in ScaledTensor quantized, in Tensor rowOffsets)
    {
        Require.That(!plain.IsEmpty && plain.DType is DType.F32 or DType.BF16, op, $"the plain matrix is {plain}, expected F32 or BF16");
        Require.That(!quantized.IsEmpty && quantized.Shape.Rows == plain.Rows && quantized.Shape.Columns == plain.Columns, op, $"quantized is {quantized}, expected [{plain.Rows}, {plain.Columns}]");
        if (quantized.Layout == ScaleLayout.None) Require.That(quantized.DType == DType.BF16, op, $"quantized is {quantized}, expected BF16 or scales");
        else Require.That(quantized.DType.TileFormat() != QuantizedFormat.E5M6 || quantized.Layout != ScaleLayout.ColumnTile, op, "E5M6 pairs cannot be cut into 128x1 tiles");
        if (rowOffsets.IsEmpty) return;
        Require.That(rowOffsets.DType == DType.I32 && rowOffsets.Elements > 1 && rowOffsets.IsContiguous, op, $"rowOffsets is {rowOffsets}, expected I32 [G + 1]");
        Require.That(quantized.Layout == ScaleLayout.ColumnTile, op, $"rows are grouped, which needs 128x1 tiles, not {quantized.Layout}");
        Require.That(quantized.Scales.Rows >= ScaledTensor.GroupedTileRows(plain.Rows, (int)rowOffsets.Elements - 1), op, $"scales are {quantized.Scales}, too few for grouped rows");
    }

    private void ThroughBFloat16(Kernel[] kernels, in Tensor x, in Tensor y)
    {
        bool wide = x.Columns % WideChunk == 0 && IsAligned(x, WideChunk * x.DType.SizeInBytes()) && IsAligned(y, WideChunk * y.DType.SizeInBytes());
        long chunks = wide ? x.Columns / WideChunk : x.Columns;
        RowCut cut = RowCut.For(x.Rows, chunks, chunksOfThread: 4, context.Multiprocessors);
        kernels[wide ? 1 : 0].Launch(cut.Shape(x.Rows, chunks), x, x.RowStride, y, y.RowStride, x.Rows, checked((int)x.Columns), cut.Width, cut.RowsOfBlock);
    }

    private TileKernels Format(DType type)
    {
        QuantizedFormat format = type.TileFormat();
        return formats[(int)format] ??= new TileKernels(context, format);
    }

    /// <summary>TileArguments of quantization_tiles.cuh.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct TileArguments
    {
        public nint Plain;
        public long PlainStride;
        public nint Codes;
        public long CodeStride;
        public nint Scales;
        public long ScaleStride;
        public nint RowOffsets;
        public nint Fault;
        public nint Largest;
        public long Rows;
        public int Columns;
        public int Groups;
        public int LargestCount;
        public int PowerOfTwo;
        public float LeastAmax;
        public int ScaleRowShift;
        public int ScaleStep;
    }

    /// <summary>TwiceArguments of quantization.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct TwiceArguments
    {
        public TileArguments First;
        public TileArguments Second;
    }

    /// <summary>TransposedArguments of quantization_transposed.cu.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct TransposedArguments
    {
        public nint From;
        public long FromStride;
        public nint FromScales;
        public long FromScaleStride;
        public CodesArgument Transposed;
        public CodesArgument OfRows;
        public nint RowOffsets;
        public long Rows;
        public int Columns;
        public int Groups;
        public int PowersOfTwo;
        public float LeastAmax;
    }

    /// <summary>The kernels of one format; those of E4M3 are compiled at once, the others when they are first asked for.</summary>
    private sealed class TileKernels
    {
        public TileKernels(CudaContext context, QuantizedFormat format)
        {
            string codes = format == QuantizedFormat.E5M6 ? "e5m6x2" : DTypeNames.Of(format.StorageType());
            int least = format == QuantizedFormat.E5M6 ? 2 : 1;
            bool columns = format != QuantizedFormat.E5M6;
            Kernel[][] to = Families(File, ["quantize_rows", "quantize_blocks", "quantize_whole", .. columns ? ["quantize_columns"] : Array.Empty<string>()]);
            Kernel[][] from = Families("dequantization.cu", ["dequantize_rows", .. columns ? ["dequantize_columns"] : Array.Empty<string>()]);
            (QuantizeRows, QuantizeBlocks, QuantizeWhole, DequantizeRows) = (to[0], to[1], to[2], from[0]);
            if (columns) (QuantizeColumns, DequantizeColumns) = (to[3], from[1]);

            Kernel[][] Families(string file, string[] families)
            {
                KernelModule module = context.Module(file, [.. families.SelectMany(Instances)]);
                return [.. families.Select(family => Instances(family).Select(module.Kernel).ToArray())];
            }

            IEnumerable<string> Instances(string family) =>
                Plains.SelectMany(plain => new[] { least, WideChunk(plain) }.Select(chunk => $"{family}<{DTypeNames.Of(plain)}, {codes}, {chunk}>"));
        }

        /// <summary>Types of values that are not quantised, by <see cref="IndexOf"/>.</summary>
        public static DType[] Plains { get; } = [DType.F32, DType.BF16];

        // Of each: F32 narrow, F32 wide, BF16 narrow, BF16 wide.
        public Kernel[] QuantizeRows { get; }

        public Kernel[] QuantizeColumns { get; } = [];

        public Kernel[] QuantizeBlocks { get; }

        public Kernel[] QuantizeWhole { get; }

        public Kernel[] DequantizeRows { get; }

        public Kernel[] DequantizeColumns { get; } = [];

        public static int IndexOf(DType plain) => plain == DType.F32 ? 0 : 1;

        /// <summary>Values of 16 bytes.</summary>
        public static int WideChunk(DType plain) => 16 / plain.SizeInBytes();
    }
}
