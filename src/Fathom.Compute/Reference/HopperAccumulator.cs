// The accumulator of Hopper's FP8 tensor cores, one instruction at a time: up to 32 products are shifted right to the largest exponent
// among them and the running sum, everything below 13 fraction bits is cut off, the rest is summed exactly, and the sum is cut to
// 1 sign, 8 exponent and 13 fraction bits. Sources: the report §3.3.2 ("around 14 bits"), "Insights into DeepSeek-V3" §3.1.1 (13
// fraction bits, FP22 registers). The trap: cutting is toward zero, so in a sum that grows the errors all have one sign.

namespace Fathom.Compute.Reference;

/// <summary>
/// A running sum in Hopper's FP8 accumulator; the specification of the vectorised kernel, which gives the same bits. What the sources
/// leave open is decided so: the exponent of a product is the sum of its operands' exponents (a product of mantissas in [1, 4) is not
/// normalised), a subnormal operand has its format's smallest exponent, and a product that is zero raises no exponent.
/// </summary>
public struct HopperAccumulator
{
    /// <summary>Products of one instruction: the K of a WGMMA on 8-bit operands.</summary>
    public const int ProductsPerInstruction = 32;

    /// <summary>Bits kept below the largest exponent.</summary>
    public const int FractionBits = 13;

    /// <summary>Sums align to no exponent below this: far under what scaled operands reach, and inside FP32.</summary>
    public const int SmallestExponent = -100;

    /// <summary>The sum so far, a number of at most 14 significant bits.</summary>
    public float Sum { get; private set; }

    /// <summary>Adds the products of one instruction.</summary>
    /// <param name="a">Up to 32 finite values.</param>
    /// <param name="b">As many.</param>
    /// <param name="smallestA">Exponent of subnormal values of a's format, such as -6 for E4M3; none where values are singles.</param>
    /// <param name="smallestB">The same of b.</param>
    /// <exception cref="ArgumentException">The lengths differ or are beyond 32.</exception>
    public void Add(ReadOnlySpan<float> a, ReadOnlySpan<float> b, int smallestA = int.MinValue, int smallestB = int.MinValue)
    {
        if (a.Length != b.Length || a.Length > ProductsPerInstruction)
            throw new ArgumentException($"one instruction adds up to {ProductsPerInstruction} products of equally many values, not {a.Length} and {b.Length}");

        int largest = SmallestExponent;
        if (Sum != 0) largest = Math.Max(largest, Math.ILogB(Sum));
        for (int k = 0; k < a.Length; k++)
        {
            if (a[k] != 0 && b[k] != 0)
                largest = Math.Max(largest, Math.Max(Math.ILogB(a[k]), smallestA) + Math.Max(Math.ILogB(b[k]), smallestB));
        }

        long total = Aligned(Sum, largest);
        // A product of two 8-bit values is exact in FP32; one of dequantised values is rounded there, far below what is kept.
        for (int k = 0; k < a.Length; k++) total += Aligned(a[k] * b[k], largest);
        Sum = Cut(Math.ScaleB((double)total, largest - FractionBits));
    }

    /// <summary>A value in units of the last kept bit, cut toward zero.</summary>
    private static long Aligned(float value, int largest) => (long)Math.ScaleB((double)value, FractionBits - largest);

    private static float Cut(double sum)
    {
        if (sum == 0) return 0;
        int exponent = Math.ILogB(sum);
        return (float)Math.ScaleB(Math.Truncate(Math.ScaleB(sum, FractionBits - exponent)), exponent - FractionBits);
    }
}
