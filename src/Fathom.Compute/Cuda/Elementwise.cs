// What the families that go over matrices element by element share on the host: how wide an access is, how the grid is cut, and
// the kernels of a template by element types. elementwise.cuh is the other half.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary>Widths of accesses and launch shapes of element-wise kernels.</summary>
internal static class Elementwise
{
    /// <summary>Threads of a block.</summary>
    public const int Threads = 256;

    private const int AccessBytes = 16;

    /// <summary>The type of a call's activations: BF16 where the given one is, else F32, which a check then asks for.</summary>
    public static DType ActivationType(in Tensor activation) => activation.DType == DType.BF16 ? DType.BF16 : DType.F32;

    /// <summary>Whether all elements of every operand lie next to each other, so that they are one row.</summary>
    public static bool Flat(params ReadOnlySpan<Tensor> operands)
    {
        foreach (ref readonly Tensor operand in operands)
        {
            if (!operand.IsContiguous) return false;
        }

        return true;
    }

    /// <summary>
    /// Elements of an access: 16 bytes of the narrowest type, where the columns divide by that and every row of every operand begins
    /// where its accesses (of at most 16 bytes) may; else 1.
    /// </summary>
    /// <param name="columns">Columns that are gone over; all elements where they are one row.</param>
    /// <param name="operands">Matrices that are accessed in step.</param>
    public static int Width(long columns, params ReadOnlySpan<Tensor> operands)
    {
        int width = Widest(operands);
        return Aligned(width, columns, operands) ? width : 1;
    }

    /// <summary>Elements of the narrowest type in 16 bytes.</summary>
    public static int Widest(params ReadOnlySpan<Tensor> operands)
    {
        int narrowest = AccessBytes;
        foreach (ref readonly Tensor operand in operands) narrowest = Math.Min(narrowest, operand.DType.SizeInBytes());
        return AccessBytes / narrowest;
    }

    /// <summary>Whether accesses of some elements divide the columns, and every row of every operand begins where one may.</summary>
    public static bool Aligned(int width, long columns, params ReadOnlySpan<Tensor> operands)
    {
        if (columns % width != 0) return false;
        foreach (ref readonly Tensor operand in operands)
        {
            int size = operand.DType.SizeInBytes(), access = Math.Min(AccessBytes, width * size);
            bool oneRow = columns == operand.Elements;
            if (operand.Address % access != 0 || !oneRow && operand.RowStride * size % access != 0) return false;
        }

        return true;
    }

    /// <summary>The grid of place_of_thread: one access a thread.</summary>
    public static LaunchShape Shape(long rows, long columns, int width)
    {
        long accesses = columns / width;
        if (rows == 1 || accesses >= Threads) return new LaunchShape(rows * LaunchShape.Cover(accesses, Threads), Threads);
        return new LaunchShape(accesses == 0 ? 0 : LaunchShape.Cover(rows, Threads / accesses), Threads);
    }

    /// <summary>Threads of a block that takes one row: a warp at least, and no more than there are accesses.</summary>
    public static int ThreadsOfRow(long columns, int width, int most = Threads) =>
        (int)Math.Min(most, Math.Max(1, LaunchShape.Cover(columns / width, 32)) * 32);
}

/// <summary>The kernels of a template over one or two element types (F32 or BF16) and the width of an access.</summary>
/// <param name="module">Compiled for <see cref="Instances"/> of the same template.</param>
/// <param name="template">Its name.</param>
/// <param name="types">How many types it has.</param>
internal sealed class ElementKernels(KernelModule module, string template, int types)
{
    private static readonly DType[] Types = [DType.F32, DType.BF16];
    private readonly Kernel[] kernels = [.. Instances(template, types).Select(module.Kernel)];

    /// <summary>All instantiations: by the first type, the second, single elements before wide accesses.</summary>
    public static IEnumerable<string> Instances(string template, int types) =>
        from first in Types
        from second in types == 1 ? [first] : Types
        from width in (int[])[1, first == DType.BF16 || second == DType.BF16 ? 8 : 4]
        select $"{template}<{DTypeNames.Of(first)}, {(types == 1 ? "" : DTypeNames.Of(second) + ", ")}{width}>";

    /// <summary>The kernel of a template over one type.</summary>
    public Kernel For(DType type, int width) => kernels[2 * Index(type) + (width > 1 ? 1 : 0)];

    /// <summary>The kernel of a template over two types.</summary>
    public Kernel For(DType first, DType second, int width) => kernels[4 * Index(first) + 2 * Index(second) + (width > 1 ? 1 : 0)];

    private static int Index(DType type) => type == DType.BF16 ? 1 : 0;
}
