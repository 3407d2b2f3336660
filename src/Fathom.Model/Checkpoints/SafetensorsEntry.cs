using System.Globalization;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Where one tensor lies in a safetensors file.</summary>
/// <param name="Name">Its name.</param>
/// <param name="DType">Element type.</param>
/// <param name="Shape">Dimensions, slowest first; empty for a scalar.</param>
/// <param name="Offset">First byte, counted from the start of the file.</param>
/// <param name="Bytes">Length in bytes.</param>
public sealed record SafetensorsEntry(string Name, DType DType, long[] Shape, long Offset, long Bytes)
{
    /// <summary>Number of elements.</summary>
    public long Elements => Bytes / DType.SizeInBytes();

    /// <inheritdoc/>
    public override string ToString() => $"{DType.SafetensorsName()} {FormatShape(Shape)}";

    /// <summary>A shape as it stands in messages: [2, 3].</summary>
    internal static string FormatShape(ReadOnlySpan<long> shape)
    {
        string text = "";
        foreach (long size in shape) text += (text.Length > 0 ? ", " : "") + size.ToString(CultureInfo.InvariantCulture);
        return "[" + text + "]";
    }

    /// <summary>Bytes that a tensor takes, or -1 where a dimension is negative or the product overflows.</summary>
    internal static long SizeInBytes(DType type, ReadOnlySpan<long> shape)
    {
        Int128 size = type.SizeInBytes();
        bool empty = false;
        foreach (long dimension in shape)
        {
            if (dimension < 0) return -1;
            empty |= dimension == 0;
            if (dimension == 0) continue;
            size *= dimension;
            if (size > long.MaxValue) return -1;
        }

        return empty ? 0 : (long)size;
    }
}

/// <summary>A tensor that is to be written.</summary>
/// <param name="Name">Its name.</param>
/// <param name="DType">Element type in the file.</param>
/// <param name="Shape">Dimensions, slowest first; empty for a scalar.</param>
public sealed record TensorDeclaration(string Name, DType DType, long[] Shape)
{
    /// <summary>Bytes that it takes.</summary>
    /// <exception cref="FathomException">A dimension is negative or the size overflows.</exception>
    public long Bytes => SafetensorsEntry.SizeInBytes(DType, Shape) is >= 0 and long bytes
        ? bytes
        : throw new FathomException($"tensor '{Name}' of shape {SafetensorsEntry.FormatShape(Shape)} has no size");
}
