// Argument checks of the linear family on a GPU. What row offsets hold is not checked: they lie in the GPU's memory, and reading them
// would make the processor wait.
using System.Diagnostics.CodeAnalysis;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Linear;

/// <summary>Checks that throw <see cref="ArgumentException"/> before anything is launched.</summary>
internal static class LinearChecks
{
    /// <summary>An operand has these dimensions and a type that kernels multiply.</summary>
    public static void Operand(string op, string name, in ScaledTensor operand, long rows, long columns)
    {
        if (operand.IsEmpty || !Fits(operand.Elements, rows, columns)) Fail(op, $"{name} is {operand}, expected [{rows}, {columns}]");
        bool plain = operand.DType is DType.F32 or DType.BF16, codes = operand.DType is DType.F8E4M3 or DType.F8E5M2 or DType.HiF8;
        if (!plain && !(codes && operand.Layout != ScaleLayout.None))
            Fail(op, $"{name} is {operand}, expected F32, BF16 or F8_E4M3, F8_E5M2 or HiF8 with scales");
    }

    /// <summary>The result has these dimensions and may be written.</summary>
    public static void Result(string op, string name, in Tensor result, long rows, long columns, bool mayBeBFloat16 = true)
    {
        if (result.IsEmpty || !Fits(result, rows, columns) || result.DType != DType.F32 && !(mayBeBFloat16 && result.DType == DType.BF16))
            Fail(op, $"{name} is {result}, expected {(mayBeBFloat16 ? "F32 or BF16" : "F32")} [{rows}, {columns}]");
        Require.Writable(op, name, result);
    }

    /// <summary>Bounds of every expert's rows.</summary>
    public static void Offsets(string op, in Tensor offsets, int experts) => Require.Vector(op, "rowOffsets", offsets, experts + 1, DType.I32);

    /// <summary>128x1 tiles over grouped rows have scales for every group's last, incomplete tile.</summary>
    public static void GroupedScales(string op, string name, in ScaledTensor operand, long rows, int groups)
    {
        long least = ScaledTensor.GroupedTileRows(rows, groups);
        if (operand.Layout == ScaleLayout.ColumnTile && operand.Scales.Rows < least)
            Fail(op, $"scales of {name} are {operand.Scales}, expected {least} rows for {rows} rows in {groups} groups");
    }

    /// <summary>An operand in transposed 128x1 tiles.</summary>
    public static void TransposedTiles(string op, string name, in ScaledTensor operand, long depth, long columns)
    {
        if (operand.Layout != ScaleLayout.TransposedColumnTile || operand.Elements.Rows != columns || operand.Elements.Columns != depth)
            Fail(op, $"{name} is {operand}, expected transposed 128x1 tiles [{columns}, {depth}], as the other operand");
    }

    // An empty tensor is right whatever its rows, if nothing is expected of it.
    private static bool Fits(in Tensor tensor, long rows, long columns) =>
        tensor.Columns == columns && (tensor.Rows == rows || rows * columns == 0 && tensor.Elements == 0);

    [DoesNotReturn]
    private static void Fail(string op, string what) => throw new ArgumentException($"{op}: {what}");
}
