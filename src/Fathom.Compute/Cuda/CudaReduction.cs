// Sums, fills and copies at the speed of memory. What returns a number waits for the GPU: the last kernel writes it to page-locked
// host memory.
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="IReductionOperators"/> on a GPU. Add and AllFinite take F32 or BF16, sums F32.</summary>
internal sealed unsafe class CudaReduction : IReductionOperators
{
    private readonly CudaContext context;
    private readonly PinnedMemory result;
    private PinnedMemory? results; // of sums over several tensors
    private int resultsRoom;
    private readonly Kernel[] sums, squares; // single elements, four at a time
    private readonly Kernel total;
    private readonly ElementKernels notFinite, add, convert;

    public CudaReduction(CudaContext context)
    {
        this.context = context;
        result = new PinnedMemory(context, sizeof(double));
        string[] sumNames = ["sum_blocks<Identity, 1>", "sum_blocks<Identity, 4>"], squareNames = ["sum_blocks<Square, 1>", "sum_blocks<Square, 4>"];
        KernelModule module = context.Module("reduction.cu",
        [
            .. sumNames, .. squareNames, "sum_total", .. ElementKernels.Instances("find_not_finite", 1), .. ElementKernels.Instances("add", 1),
            .. ElementKernels.Instances("convert", 2),
        ]);
        sums = [.. sumNames.Select(module.Kernel)];
        squares = [.. squareNames.Select(module.Kernel)];
        total = module.Kernel("sum_total");
        notFinite = new ElementKernels(module, "find_not_finite", 1);
        add = new ElementKernels(module, "add", 1);
        convert = new ElementKernels(module, "convert", 2);
    }

    public double SumOfSquares(Tensor x) => Total("sum of squares", x, squares);

    public double SumOfSquares(IReadOnlyList<Tensor> tensors)
    {
        if (results is null || resultsRoom < tensors.Count)
        {
            resultsRoom = Math.Max(tensors.Count, 1);
            results = new PinnedMemory(context, (long)resultsRoom * sizeof(double));
        }

        double* each = (double*)results.Address;
        for (int i = 0; i < tensors.Count; i++)
        {
            each[i] = 0;
            Launch("sum of squares", tensors[i], squares, (nint)(each + i));
        }

        Wait();
        double sum = 0;
        for (int i = 0; i < tensors.Count; i++) sum += each[i];
        return sum;
    }

    public double Sum(Tensor x) => Total("sum", x, sums);

    public bool AllFinite(Tensor x)
    {
        DType type = Elementwise.ActivationType(x);
        Require.That(!x.IsEmpty && x.DType == type, "all finite", "x is not F32 or BF16");
        if (x.Elements == 0) return true;
        (long rows, long columns) = x.IsContiguous ? (1, x.Elements) : (x.Rows, x.Columns);
        int width = Elementwise.Width(columns, x);
        *(int*)result.Address = 0;
        notFinite.For(type, width).Launch(Elementwise.Shape(rows, columns, width), x, x.RowStride, rows, columns, result.Address);
        Wait();
        return *(int*)result.Address == 0;
    }

    public void Add(Tensor a, Tensor b, Tensor y)
    {
        DType type = Elementwise.ActivationType(y);
        Require.Matrix("add", "a", a, y.Rows, y.Columns, type);
        Require.Matrix("add", "b", b, y.Rows, y.Columns, type);
        Require.Matrix("add", "y", y, y.Rows, y.Columns, type);
        Require.Writable("add", "y", y);
        (long rows, long columns) = Elementwise.Flat(a, b, y) ? (1, y.Elements) : (y.Rows, y.Columns);
        int width = Elementwise.Width(columns, a, b, y);
        add.For(type, width).Launch(
            Elementwise.Shape(rows, columns, width), a, a.RowStride, b, b.RowStride, y, y.RowStride, rows, columns);
    }

    public void Copy(Tensor x, Tensor y)
    {
        Require.Matrix("copy", "y", y, x.Rows, x.Columns, x.DType);
        Require.Writable("copy", "y", y);
        CopyRows(x, y);
    }

    public void Zero(Tensor x)
    {
        Require.That(!x.IsEmpty, "zero", "x is an empty tensor");
        Require.Writable("zero", "x", x);
        if (x.Elements == 0) return;
        context.MakeCurrent();
        nuint size = (nuint)x.DType.SizeInBytes(), rowBytes = (nuint)x.Columns * size;
        if (x.IsContiguous) CudaException.Check(Driver.Fill(x.Address, 0, (nuint)x.Bytes, context.Stream.Handle), "cuMemsetD8Async");
        else CudaException.Check(Driver.FillRows(x.Address, (nuint)x.RowStride * size, 0, rowBytes, (nuint)x.Rows, context.Stream.Handle), "cuMemsetD2D8Async");
    }

    public void Convert(Tensor x, Tensor y)
    {
        if (x.DType is not (DType.F32 or DType.BF16) || y.DType is not (DType.F32 or DType.BF16))
            Require.That(false, "convert", $"from {x} to {y}, expected F32 and BF16");
        Require.Matrix("convert", "y", y, x.Rows, x.Columns, y.DType);
        Require.Writable("convert", "y", y);
        if (x.DType == y.DType)
        {
            CopyRows(x, y);
            return;
        }

        (long rows, long columns) = Elementwise.Flat(x, y) ? (1, y.Elements) : (y.Rows, y.Columns);
        int width = Elementwise.Width(columns, x, y);
        convert.For(x.DType, y.DType, width).Launch(
            Elementwise.Shape(rows, columns, width), x, x.RowStride, y, y.RowStride, rows, columns);
    }

    /// <summary>Blocks of a sum: 64 elements a thread, and never more than 1024 blocks; by the size alone, so that every GPU adds alike.</summary>
    internal static int SumBlocks(long elements) => (int)Math.Min(1024, LaunchShape.Cover(elements, 64 * Elementwise.Threads));

    private double Total(string op, in Tensor x, Kernel[] blocks)
    {
        *(double*)result.Address = 0;
        Launch(op, x, blocks, result.Address);
        Wait();
        return *(double*)result.Address;
    }

    /// <summary>Sums a tensor to a place in page-locked memory, which stays as it is where there are no elements.</summary>
    private void Launch(string op, in Tensor x, Kernel[] blocks, nint to)
    {
        Require.Vector(op, "x", x, x.IsEmpty ? 0 : x.Elements);
        if (x.Elements == 0) return;
        int count = SumBlocks(x.Elements);
        nint partial = context.Workspace(count * sizeof(double));
        Kernel kernel = blocks[Elementwise.Width(x.Elements, x) > 1 ? 1 : 0];
        kernel.Launch(new LaunchShape(count, Elementwise.Threads), x, x.Elements, partial);
        total.Launch(new LaunchShape(1, Elementwise.Threads), partial, count, to);
    }

    private void Wait()
    {
        context.Stream.Synchronize();
        context.Faults.Check();
    }

    private void CopyRows(in Tensor x, in Tensor y)
    {
        if (x.Elements == 0) return;
        context.MakeCurrent();
        long size = x.DType.SizeInBytes();
        if (x.IsContiguous && y.IsContiguous)
        {
            CudaException.Check(Driver.CopyOnDevice(y.Address, x.Address, (nuint)x.Bytes, context.Stream.Handle), "cuMemcpyDtoDAsync");
            return;
        }

        var copy = new RowCopy
        {
            SourceKind = RowCopy.Device,
            SourceDevice = x.Address,
            SourcePitch = (nuint)(x.RowStride * size),
            DestinationKind = RowCopy.Device,
            DestinationDevice = y.Address,
            DestinationPitch = (nuint)(y.RowStride * size),
            WidthBytes = (nuint)(x.Columns * size),
            Height = (nuint)x.Rows,
        };
        CudaException.Check(Driver.CopyRows(copy, context.Stream.Handle), "cuMemcpy2DAsync");
    }
}
