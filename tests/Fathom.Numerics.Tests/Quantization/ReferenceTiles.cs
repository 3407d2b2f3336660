// The slow specification of tile quantisation: one value at a time, scales by logarithm.
using Fathom.Numerics.Quantization;

namespace Fathom.Numerics.Tests.Quantization;

internal static class ReferenceTiles
{
    public static float Scale(ReadOnlySpan<float> values, QuantizedFormat format, ScaleKind kind)
    {
        float amax = 1e-4f;
        foreach (float value in values) amax = Math.Max(amax, Math.Abs(value));
        float target = format switch { QuantizedFormat.E4M3 => 448, QuantizedFormat.E5M2 => 57344, QuantizedFormat.HiF8 => 15, _ => 65024 };
        float scale = amax / target;
        return kind == ScaleKind.Single ? scale : MathF.ScaleB(1, (int)Math.Ceiling(Math.Log2(scale)));
    }

    public static float Round(float value, QuantizedFormat format) => format switch
    {
        QuantizedFormat.E4M3 => Float8E4M3.FromSingle(value, saturate: true),
        QuantizedFormat.E5M2 => Float8E5M2.FromSingle(value, saturate: true),
        QuantizedFormat.HiF8 => HiFloat8.FromSingle(value, saturate: true),
        _ => Float12E5M6.FromSingle(value, saturate: true),
    };
}
