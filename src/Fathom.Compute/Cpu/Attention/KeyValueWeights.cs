// kv_b_proj as absorbed attention reads it, a few rows at a time: where they lie, or, of codes with scales, their values in the worker's
// memory. From main memory come only the codes; their values are used while they are in the nearest caches.
using Fathom.Compute.Cpu.Gemm;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Rows of kv_b_proj, [H·(dn + dv), R].</summary>
/// <param name="weights">Such that <see cref="Operators.AttentionChecks.ReadsWeights"/>.</param>
internal readonly unsafe struct KeyValueWeights(in ScaledTensor weights)
{
    private const int Tile = ScaledTensor.TileSize;

    private readonly byte* first = weights.Elements.Pointer<byte>();
    private readonly nint pitch = (nint)weights.Elements.RowStride * weights.DType.SizeInBytes();
    private readonly int columns = checked((int)weights.Shape.Columns);
    private readonly ScaleLayout layout = weights.Layout;
    private readonly byte* scales = weights.Layout == ScaleLayout.None ? null : weights.Scales.Pointer<byte>();
    private readonly long scaleStride = weights.Layout == ScaleLayout.None ? 0 : weights.Scales.RowStride;
    private readonly bool singleScales = weights.Layout != ScaleLayout.None && weights.Scales.DType == DType.F32;

    /// <summary>Type of the elements.</summary>
    public DType Type { get; } = weights.DType;

    /// <summary>Whether rows must be turned into values.</summary>
    public bool AreCodes => layout != ScaleLayout.None;

    /// <summary>Some rows: plain elements where they lie, values of codes in the memory that is given.</summary>
    /// <param name="row">The first.</param>
    /// <param name="count">How many.</param>
    /// <param name="values">[count, R], for values of codes.</param>
    /// <param name="valueLength">Elements between rows of <paramref name="values"/>.</param>
    /// <param name="bytes">From one row of the result to the next.</param>
    public byte* Rows(long row, int count, float* values, int valueLength, out nint bytes)
    {
        bytes = AreCodes ? valueLength * sizeof(float) : pitch;
        if (!AreCodes) return first + row * pitch;
        // Of few rows the next ones, of many these, in the order in which they lie.
        byte* codes = first + row * pitch, fetched = count <= DecodeBuffers.WeightRows ? codes + count * pitch : codes;
        for (int r = 0; r < count; r++) Prefetch.Bytes(fetched + r * pitch, columns);
        for (int r = 0; r < count; r++)
        {
            for (int column = 0; column < columns; column += Tile)
            {
                CodeRows.Expand(
                    Type, codes + r * pitch + column, Math.Min(Tile, columns - column), Scale((row + r) / Tile, column / Tile),
                    values + (nint)r * valueLength + column);
            }
        }

        return (byte*)values;
    }

    private float Scale(long row, long column)
    {
        long at = layout == ScaleLayout.Tensor ? 0 : row * scaleStride + column;
        return singleScales ? ((float*)scales)[at] : ScaleE8M0.FromBits(scales[at]);
    }
}
