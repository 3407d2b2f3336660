// How the Linear weights of a checkpoint are quantised: one code an element, one FP32 multiplier a block. The published FP8
// files have E4M3 codes in blocks of 128 x 128; those of V3.1 the same with scales that are powers of two (still stored as
// F32), announced by scale_fmt. HiF8 in the same layout is Fathom's own: no other program reads it.
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>quantization_config of a checkpoint whose Linear weights are 8-bit codes with one multiplier per block.</summary>
/// <param name="BlockRows">weight_block_size[0]: output rows of a block.</param>
/// <param name="BlockColumns">weight_block_size[1]: input columns of a block.</param>
/// <param name="ScaleFormat">scale_fmt: "ue8m0" where scales are powers of two (V3.1), else null.</param>
/// <param name="WeightType">quant_method: F8E4M3 for "fp8", HiF8 for "hif8".</param>
public sealed record QuantizationConfig(
    int BlockRows = 128, int BlockColumns = 128, string? ScaleFormat = null, DType WeightType = DType.F8E4M3)
{
    /// <summary>The <see cref="ScaleFormat"/> of scales that are powers of two.</summary>
    public const string PowersOfTwo = "ue8m0";

    private static readonly (string, DType)[] Methods = [("fp8", DType.F8E4M3), ("hif8", DType.HiF8)];

    /// <summary>Whether every scale is a power of two.</summary>
    public bool HasPowerOfTwoScales => ScaleFormat == PowersOfTwo;

    /// <summary>Shape of the scales of a matrix: blocks at the edges may be partial.</summary>
    public long[] ScaleShape(long rows, long columns) =>
        [rows / BlockRows + (rows % BlockRows > 0 ? 1 : 0), columns / BlockColumns + (columns % BlockColumns > 0 ? 1 : 0)];

    /// <summary>Reads the section.</summary>
    /// <exception cref="FathomException">A field is wrong; the message names it.</exception>
    internal static QuantizationConfig Read(JsonFields section)
    {
        if (!section.Remaining.ContainsKey("quant_method")) throw section.Error("quant_method", "is missing, expected \"fp8\"");
        DType type = section.Choice("quant_method", DType.F8E4M3, Methods);
        string format = NameOf(type);
        section.Choice("fmt", format, (format, format));
        section.Choice("activation_scheme", "dynamic", ("dynamic", "dynamic"));
        string? scale = section.Choice<string?>("scale_fmt", null, (PowersOfTwo, PowersOfTwo), ("float", null));
        int[] block = section.Integers("weight_block_size");
        if (block.Length != 2) throw section.Error("weight_block_size", $"has {block.Length} entries, expected two, such as [128, 128]");
        return new QuantizationConfig(block[0], block[1], scale, type);
    }

    /// <summary>The section's fields for writing.</summary>
    internal Dictionary<string, object?> Fields()
    {
        var fields = new Dictionary<string, object?>
        {
            ["activation_scheme"] = "dynamic",
            ["fmt"] = NameOf(WeightType),
            ["quant_method"] = Methods.First(m => m.Item2 == WeightType).Item1,
            ["weight_block_size"] = new[] { BlockRows, BlockColumns },
        };
        if (ScaleFormat is not null) fields["scale_fmt"] = ScaleFormat;
        return fields;
    }

    private static string NameOf(DType type) => type == DType.F8E4M3 ? "e4m3" : "hif8";
}
