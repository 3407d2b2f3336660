// RMSNorm with one block a row; memory is read once: at 4096 x 7168 in BF16, 117 MB forward (28 us at 4.27 TB/s) and 176 MB for the
// gradient of the input; 89 MB (21 us) where the result is E4M3. Kernels are made for the number of accesses that a thread holds, so they are compiled on demand.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="INormOperators"/> on a GPU. x, y, dy and dx are F32 or BF16, all of one type; weights either.</summary>
internal sealed class CudaNorm : INormOperators
{
    private const int CodeChunk = 8; // of norm.cu: values that a thread takes at once where the result is codes
    private static readonly OperandTraits Codes = new(DType.F8E4M3, ScaleLayout.RowTile, DType.F32);
    private readonly CudaContext context;
    private readonly Dictionary<Variant, Kernel> rowKernels = [];
    private readonly ElementKernels weightGradient;
    private readonly Kernel addPieces;

    public CudaNorm(CudaContext context)
    {
        this.context = context;
        KernelModule module = context.Module("norm.cu", [.. ElementKernels.Instances("rms_norm_weight_gradient", 1), "rms_norm_add_pieces"]);
        weightGradient = new ElementKernels(module, "rms_norm_weight_gradient", 1);
        addPieces = module.Kernel("rms_norm_add_pieces");
    }

    private enum Operation
    {
        Forward,
        Quantized,
        InputGradient,
        AddedInputGradient,
    }

    public void RmsNorm(Tensor x, Tensor weight, float epsilon, Tensor y, Tensor rstd)
    {
        const string Op = "rms norm";
        DType type = Elementwise.ActivationType(x);
        Require.Matrix(Op, "x", x, x.Rows, x.Columns, type);
        Require.Matrix(Op, "y", y, x.Rows, x.Columns, type);
        Require.Writable(Op, "y", y);
        if (!rstd.IsEmpty) Require.Vector(Op, "rstd", rstd, x.Rows);
        Require.Vector(Op, "weight", weight, x.Columns, Elementwise.ActivationType(weight));
        NormShape shape = NormShape.Choose(x.Columns, NormShape.ChooseWidth(x.Columns, weight, x, y));
        Find(Operation.Forward, type, weight.DType, shape).Launch(
            new LaunchShape(x.Rows, shape.Threads), x, x.RowStride, weight, epsilon, y, y.RowStride, rstd, x.Columns);
    }

    public void RmsNormQuantized(Tensor x, Tensor weight, float epsilon, in CodesTarget y, Tensor rstd)
    {
        const string Op = "rms norm with quantisation";
        ScaledTensor codes = y.Codes;
        Require.Matrix(Op, "x", x, x.Rows, x.Columns, DType.BF16);
        Require.That(
            !codes.IsEmpty && OperandTraits.Of(codes) == Codes && codes.Shape.Rows == x.Rows && codes.Shape.Columns == x.Columns,
            Op, $"y is {codes}, expected F8_E4M3 [{x.Rows}, {x.Columns}] in 1x128 tiles of F32 scales");
        Require.Writable(Op, "y", codes.Elements);
        if (!y.Fault.IsEmpty) Require.Vector(Op, "fault", y.Fault, 1, DType.I64);
        if (!rstd.IsEmpty) Require.Vector(Op, "rstd", rstd, x.Rows);
        Require.Vector(Op, "weight", weight, x.Columns, Elementwise.ActivationType(weight));
        Require.That(
            Elementwise.Aligned(CodeChunk, x.Columns, x, weight, codes.Elements), Op,
            $"x is {x} with rows {x.RowStride} elements apart, y's {codes.Elements.RowStride}: expected whole, aligned {CodeChunk} elements, of the weight too");
        NormShape shape = NormShape.Choose(x.Columns, CodeChunk);
        Find(Operation.Quantized, DType.BF16, weight.DType, shape).Launch(
            new LaunchShape(x.Rows, shape.Threads),
            x, x.RowStride, weight, epsilon, codes.Elements, codes.Elements.RowStride, codes.Scales, codes.Scales.RowStride,
            y.Fault, TileQuantizer.SmallestAmax, rstd, x.Columns);
    }

    public void RmsNormInputGradient(Tensor dy, Tensor x, Tensor weight, Tensor rstd, Tensor dx, Tensor added)
    {
        const string Op = "rms norm input gradient";
        DType type = Elementwise.ActivationType(x);
        Require.Matrix(Op, "dy", dy, x.Rows, x.Columns, type);
        Require.Matrix(Op, "x", x, x.Rows, x.Columns, type);
        Require.Vector(Op, "rstd", rstd, x.Rows);
        Require.Matrix(Op, "dx", dx, x.Rows, x.Columns, type);
        Require.Writable(Op, "dx", dx);
        if (!added.IsEmpty) Require.Matrix(Op, "added", added, x.Rows, x.Columns, type);
        Require.Vector(Op, "weight", weight, x.Columns, Elementwise.ActivationType(weight));
        NormShape shape = NormShape.Choose(x.Columns, NormShape.ChooseWidth(x.Columns, weight, x, dy, dx, added.IsEmpty ? dx : added));
        Find(added.IsEmpty ? Operation.InputGradient : Operation.AddedInputGradient, type, weight.DType, shape).Launch(
            new LaunchShape(x.Rows, shape.Threads),
            dy, dy.RowStride, x, x.RowStride, weight, rstd, dx, dx.RowStride, added, added.IsEmpty ? 0 : added.RowStride, x.Columns);
    }

    public void RmsNormWeightGradient(Tensor dy, Tensor x, Tensor rstd, Tensor dweight, bool accumulate)
    {
        const string Op = "rms norm weight gradient";
        DType type = Elementwise.ActivationType(x);
        Require.Matrix(Op, "dy", dy, x.Rows, x.Columns, type);
        Require.Matrix(Op, "x", x, x.Rows, x.Columns, type);
        Require.Vector(Op, "rstd", rstd, x.Rows);
        Require.Vector(Op, "dweight", dweight, x.Columns);
        Require.Writable(Op, "dweight", dweight);
        if (x.Columns == 0) return;
        int width = Elementwise.Width(x.Columns, x, dy);
        NormPieces pieces = NormPieces.Choose(x.Rows, x.Columns, width);
        nint sums = context.Workspace(pieces.Count * x.Columns * sizeof(float));
        weightGradient.For(type, width).Launch(
            new LaunchShape((pieces.ColumnBlocks, pieces.Count, 1), NormPieces.Threads),
            dy, dy.RowStride, x, x.RowStride, rstd, sums, x.Rows, x.Columns, pieces.Rows);
        const int ColumnsOfBlock = 64;
        addPieces.Launch(new LaunchShape(LaunchShape.Cover(x.Columns, ColumnsOfBlock), ColumnsOfBlock), sums, dweight, x.Columns, (int)pieces.Count, accumulate);
    }

    private Kernel Find(Operation operation, DType type, DType weight, in NormShape shape)
    {
        var variant = new Variant(operation, type, weight, shape.Width, shape.Items);
        if (rowKernels.TryGetValue(variant, out Kernel? kernel)) return kernel;
        string arguments = $"{DTypeNames.Of(type)}, {DTypeNames.Of(weight)}, {shape.Width}, {shape.Items}";
        string instance = operation switch
        {
            Operation.Forward => $"rms_norm<{arguments}>",
            Operation.Quantized => $"rms_norm_quantized<{DTypeNames.Of(weight)}, {shape.Items}>",
            Operation.InputGradient => $"rms_norm_input_gradient<{arguments}, false>",
            _ => $"rms_norm_input_gradient<{arguments}, true>",
        };
        return rowKernels[variant] = context.Module("norm.cu", instance).Kernel(instance);
    }

    private readonly record struct Variant(Operation Operation, DType Type, DType Weight, int Width, int Items);
}

/// <summary>How a block takes a row.</summary>
/// <param name="Width">Elements of an access.</param>
/// <param name="Items">Accesses that a thread holds in registers; 0 where the row is read twice instead.</param>
/// <param name="Threads">Threads of the block.</param>
internal readonly record struct NormShape(int Width, int Items, int Threads)
{
    /// <summary>Of a block; norm.cu has the same.</summary>
    public const int MostThreads = 512;

    private const int MostItems = 4;

    /// <summary>Elements of an access: 16 bytes of x, where all rows and the weight allow that.</summary>
    public static int ChooseWidth(long columns, in Tensor weight, params ReadOnlySpan<Tensor> activations)
    {
        int width = Elementwise.Width(columns, activations);
        return Elementwise.Aligned(width, columns, weight) ? width : 1;
    }

    /// <summary>As few accesses a thread as 256 threads cover a row with, then up to 512 threads, then the row is read twice.</summary>
    public static NormShape Choose(long columns, int width)
    {
        for (int items = 1; items <= MostItems; items *= 2)
        {
            int most = items == MostItems ? MostThreads : Elementwise.Threads;
            long threads = Math.Max(32, LaunchShape.Cover(LaunchShape.Cover(columns, width * items), 32) * 32);
            if (threads <= most) return new NormShape(width, items, (int)threads);
        }

        return new NormShape(width, 0, MostThreads);
    }
}

/// <summary>How the rows of the weight's gradient are cut; by the shape alone, so that every GPU adds in the same order.</summary>
/// <param name="ColumnBlocks">Blocks beside each other.</param>
/// <param name="Rows">Rows of a piece.</param>
/// <param name="Count">Pieces.</param>
internal readonly record struct NormPieces(long ColumnBlocks, long Rows, long Count)
{
    /// <summary>Threads of a block: norm.cu's eight warps.</summary>
    public const int Threads = 256;

    private const long WantedBlocks = 512;
    private const long LeastRows = 64;

    /// <summary>Enough pieces to fill a large GPU, of 64 rows or more.</summary>
    public static NormPieces Choose(long rows, long columns, int width)
    {
        long columnBlocks = LaunchShape.Cover(columns, 32L * width);
        long wanted = Math.Max(1, WantedBlocks / Math.Max(1, columnBlocks));
        long rowsOfPiece = Math.Max(LeastRows, LaunchShape.Cover(rows, wanted));
        return new NormPieces(columnBlocks, rowsOfPiece, LaunchShape.Cover(rows, rowsOfPiece));
    }
}
