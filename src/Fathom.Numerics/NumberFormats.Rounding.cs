// Singles rounded in place to the values of BF16: what a recipe does to every result of a layer.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Fathom.Numerics;

public static partial class NumberFormats
{
    /// <summary>Replaces each value by the nearest of BF16, ties to even; past the largest finite one comes infinity. A NaN stays NaN.</summary>
    public static void RoundToBFloat16(Span<float> values)
    {
        ref float first = ref MemoryMarshal.GetReference(values);
        nuint i = 0, length = (nuint)values.Length;
        if (Vector512.IsHardwareAccelerated)
        {
            for (; i + 16 <= length; i += 16)
            {
                Vector512<uint> bits = Vector512.LoadUnsafe(ref first, i).AsUInt32();
                Vector512<uint> rounded = bits + Vector512.Create(0x7FFFu) + (bits >>> 16 & Vector512<uint>.One) & Vector512.Create(0xFFFF0000u);
                Vector512<uint> nan = Vector512.GreaterThan(bits & Vector512.Create(0x7FFFFFFFu), Vector512.Create(0x7F800000u));
                Vector512.ConditionalSelect(nan, bits | Vector512.Create(0x400000u), rounded).AsSingle().StoreUnsafe(ref first, i);
            }
        }
        else if (Vector256.IsHardwareAccelerated)
        {
            for (; i + 8 <= length; i += 8)
            {
                Vector256<uint> bits = Vector256.LoadUnsafe(ref first, i).AsUInt32();
                Vector256<uint> rounded = bits + Vector256.Create(0x7FFFu) + (bits >>> 16 & Vector256<uint>.One) & Vector256.Create(0xFFFF0000u);
                Vector256<uint> nan = Vector256.GreaterThan(bits & Vector256.Create(0x7FFFFFFFu), Vector256.Create(0x7F800000u));
                Vector256.ConditionalSelect(nan, bits | Vector256.Create(0x400000u), rounded).AsSingle().StoreUnsafe(ref first, i);
            }
        }

        for (; i < length; i++) Unsafe.Add(ref first, i) = (BFloat16)Unsafe.Add(ref first, i);
    }
}
