using Fathom.Numerics;

namespace Fathom.Compute.Reference;

/// <summary>Reading and writing single elements of a host tensor as F64.</summary>
internal static class Elements
{
    public static double Get(this in Tensor tensor, long row, long column) => tensor.DType switch
    {
        DType.F32 => tensor.Row<float>(row)[(int)column],
        DType.BF16 => BitConverter.UInt32BitsToSingle((uint)tensor.Row<ushort>(row)[(int)column] << 16),
        _ => throw new ArgumentException($"an operand is {tensor}, expected F32 or BF16"),
    };

    public static double Get(this in Tensor vector, long index) => Get(vector, index / vector.Columns, index % vector.Columns);

    public static int GetInt(this in Tensor vector, long index) => vector.AsSpan<int>()[(int)index];

    public static void Set(this in Tensor tensor, long row, long column, double value) => tensor.Row<float>(row)[(int)column] = (float)value;

    public static void Set(this in Tensor vector, long index, double value) => Set(vector, index / vector.Columns, index % vector.Columns, value);

    public static void Put(this in Tensor tensor, long row, long column, double value, bool accumulate) =>
        tensor.Set(row, column, accumulate ? tensor.Get(row, column) + value : value);
}
