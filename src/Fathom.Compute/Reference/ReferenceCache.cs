using System.Runtime.InteropServices;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Compute.Reference;

/// <summary>Specification of <see cref="ICacheOperators"/>; also fast enough to serve, as it only moves and rounds.</summary>
internal sealed class ReferenceCache(IReductionOperators reduction) : ICacheOperators
{
    private static readonly float NotANumber = BitConverter.UInt32BitsToSingle(0x7fc00000); // the same bits on every device

    public void Store(Tensor latent, Tensor rope, Tensor slots, Tensor cache)
    {
        LatentRow layout = CacheChecks.Check("cache store", DType.F32, latent, rope, slots, cache);
        Tensor rows = cache.Reshape(new Shape(cache.Rows, cache.Columns));
        for (int i = 0; i < slots.Elements; i++)
        {
            Tensor row = rows.Slice(slots.GetInt(i), 1);
            if (layout.IsQuantized)
            {
                Quantize(layout, latent.Row<float>(i), rope.Row<float>(i), row.AsSpan<byte>());
                continue;
            }

            reduction.Convert(latent.Slice(i, 1), row.ColumnRange(0, latent.Columns));
            reduction.Convert(rope.Slice(i, 1), row.ColumnRange(latent.Columns, rope.Columns));
        }
    }

    public void Load(Tensor cache, Tensor slots, Tensor latent, Tensor rope)
    {
        LatentRow layout = CacheChecks.Check("cache load", DType.F32, latent, rope, slots, cache);
        Tensor rows = cache.Reshape(new Shape(cache.Rows, cache.Columns));
        for (int i = 0; i < slots.Elements; i++)
        {
            Tensor row = rows.Slice(slots.GetInt(i), 1);
            if (layout.IsQuantized)
            {
                Restore(layout, row.AsSpan<byte>(), latent.Row<float>(i), rope.Row<float>(i));
                continue;
            }

            reduction.Convert(row.ColumnRange(0, latent.Columns), latent.Slice(i, 1));
            reduction.Convert(row.ColumnRange(latent.Columns, rope.Columns), rope.Slice(i, 1));
        }
    }

    /// <summary>Numbers of a row of codes.</summary>
    /// <param name="layout">Of the row.</param>
    /// <param name="row">The row.</param>
    /// <param name="latent">[R].</param>
    /// <param name="rope">[dr].</param>
    internal static void Restore(in LatentRow layout, ReadOnlySpan<byte> row, Span<float> latent, Span<float> rope)
    {
        TileQuantizer.DequantizeRow(row[..layout.Latent], Scales(layout, row), latent, QuantizedFormat.E4M3);
        NumberFormats.ConvertBFloat16ToSingle(MemoryMarshal.Cast<byte, ushort>(row[layout.RopeOffset..]), rope);
    }

    private static void Quantize(in LatentRow layout, ReadOnlySpan<float> latent, ReadOnlySpan<float> rope, Span<byte> row)
    {
        Span<float> scales = MemoryMarshal.Cast<byte, float>(row[layout.Latent..layout.RopeOffset]);
        for (int tile = 0; tile < scales.Length; tile++)
        {
            int first = tile * LatentRow.Tile, count = Math.Min(LatentRow.Tile, layout.Latent - first);
            Span<byte> codes = row.Slice(first, count);
            int finite = TileQuantizer.QuantizeRow(latent.Slice(first, count), codes, scales.Slice(tile, 1), QuantizedFormat.E4M3, ScaleKind.Single);
            if (finite == TileQuantizer.AllFinite) continue;
            codes.Clear();
            scales[tile] = NotANumber;
        }

        NumberFormats.ConvertSingleToBFloat16(rope, MemoryMarshal.Cast<byte, ushort>(row[layout.RopeOffset..]));
    }

    private static ReadOnlySpan<float> Scales(in LatentRow layout, ReadOnlySpan<byte> row) =>
        MemoryMarshal.Cast<byte, float>(row[layout.Latent..layout.RopeOffset]);
}
