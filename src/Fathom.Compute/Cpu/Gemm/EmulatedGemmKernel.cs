// Hopper's FP8 accumulator for 32 columns at once, exact to HopperAccumulator. Each instruction of 32 products takes two sweeps: the
// largest exponent in 16-bit lanes, then the products scaled so that the last kept bit is 1, cut to integers and summed. Integers
// make the order of the sum irrelevant, so the bits are those of the scalar reference on every processor; where vectors are
// narrower than 512 bits the compiler splits these.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Fathom.Compute.Reference;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>The innermost product: two rows of the result by 32 columns.</summary>
internal static unsafe class EmulatedGemmKernel
{
    /// <summary>Lines of a panel of the left operand.</summary>
    public const int Rows = 2;

    /// <summary>Lines of a panel of the right operand.</summary>
    public const int Columns = 32;

    /// <summary>Of zero: the sum of any two stays below every product's, and within 16 bits.</summary>
    public const short ExponentOfZero = -8192;

    private const int Fraction = HopperAccumulator.FractionBits, Bias = 127, SingleFraction = 23;

    /// <summary>Sums of two lines with 32.</summary>
    /// <param name="a">Panels of the left operand.</param>
    /// <param name="panelA">Which of them.</param>
    /// <param name="b">Panels of the right operand.</param>
    /// <param name="panelB">Which of them.</param>
    /// <param name="depth">Length of the sum.</param>
    /// <param name="run">Depth between promotions.</param>
    /// <param name="sums">Receives [2, 32].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(in EmulatedPanels a, long panelA, in EmulatedPanels b, long panelB, long depth, long run, float* sums)
    {
        float* valuesA = a.Values + panelA * depth * Rows, valuesB = b.Values + panelB * depth * Columns;
        short* exponentsA = a.Exponents + panelA * depth * Rows, exponentsB = b.Exponents + panelB * depth * Columns;
        float* scalesA = a.Scales + panelA * a.Runs * Rows, scalesB = b.Scales + panelB * b.Runs * Columns;
        Vector512<float> promoted00 = default, promoted01 = default, promoted10 = default, promoted11 = default;
        for (long start = 0; start < depth; start += run)
        {
            Vector512<float> sum00 = default, sum01 = default, sum10 = default, sum11 = default;
            long end = Math.Min(depth, start + run);
            for (long first = start; first < end; first += HopperAccumulator.ProductsPerInstruction)
            {
                long last = Math.Min(end, first + HopperAccumulator.ProductsPerInstruction);
                Vector512<short> largest0 = Vector512.Create(ExponentOfZero), largest1 = largest0;
                for (long k = first; k < last; k++)
                {
                    Vector512<short> exponents = Vector512.Load(exponentsB + k * Columns);
                    largest0 = Vector512.Max(largest0, exponents + Vector512.Create(exponentsA[k * Rows]));
                    largest1 = Vector512.Max(largest1, exponents + Vector512.Create(exponentsA[k * Rows + 1]));
                }

                Vector512<int> exponent00 = Largest(Vector512.WidenLower(largest0), sum00), exponent01 = Largest(Vector512.WidenUpper(largest0), sum01);
                Vector512<int> exponent10 = Largest(Vector512.WidenLower(largest1), sum10), exponent11 = Largest(Vector512.WidenUpper(largest1), sum11);
                Vector512<float> unit00 = UnitOf(exponent00), unit01 = UnitOf(exponent01);
                Vector512<float> unit10 = UnitOf(exponent10), unit11 = UnitOf(exponent11);
                Vector512<int> total00 = Cut(sum00 * unit00), total01 = Cut(sum01 * unit01), total10 = Cut(sum10 * unit10), total11 = Cut(sum11 * unit11);
                for (long k = first; k < last; k++)
                {
                    Vector512<float> left = Vector512.Load(valuesB + k * Columns), right = Vector512.Load(valuesB + k * Columns + Columns / 2);
                    Vector512<float> row0 = Vector512.Create(valuesA[k * Rows]), row1 = Vector512.Create(valuesA[k * Rows + 1]);
                    total00 += Cut(row0 * left * unit00);
                    total01 += Cut(row0 * right * unit01);
                    total10 += Cut(row1 * left * unit10);
                    total11 += Cut(row1 * right * unit11);
                }

                sum00 = ToSum(total00, exponent00);
                sum01 = ToSum(total01, exponent01);
                sum10 = ToSum(total10, exponent10);
                sum11 = ToSum(total11, exponent11);
            }

            Vector512<float> scaleLeft = Vector512.Load(scalesB), scaleRight = Vector512.Load(scalesB + Columns / 2);
            Vector512<float> scale0 = Vector512.Create(scalesA[0]), scale1 = Vector512.Create(scalesA[1]);
            promoted00 = Vector512.FusedMultiplyAdd(sum00, scale0 * scaleLeft, promoted00);
            promoted01 = Vector512.FusedMultiplyAdd(sum01, scale0 * scaleRight, promoted01);
            promoted10 = Vector512.FusedMultiplyAdd(sum10, scale1 * scaleLeft, promoted10);
            promoted11 = Vector512.FusedMultiplyAdd(sum11, scale1 * scaleRight, promoted11);
            scalesA += Rows;
            scalesB += Columns;
        }

        promoted00.Store(sums);
        promoted01.Store(sums + Columns / 2);
        promoted10.Store(sums + Columns);
        promoted11.Store(sums + Columns + Columns / 2);
    }

    /// <summary>The exponent that products and running sum are aligned to. A sum of zero has -127, below the smallest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<int> Largest(Vector512<int> products, Vector512<float> sum)
    {
        Vector512<int> exponent = (Vector512.ShiftRightLogical(sum.AsInt32(), SingleFraction) & Vector512.Create(0xFF)) - Vector512.Create(Bias);
        return Vector512.Max(Vector512.Max(products, exponent), Vector512.Create(HopperAccumulator.SmallestExponent));
    }

    /// <summary>What makes the last bit that is kept beside this exponent 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> UnitOf(Vector512<int> exponent) => PowerOfTwo(Vector512.Create(Fraction) - exponent);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> PowerOfTwo(Vector512<int> exponent) => Vector512.ShiftLeft(exponent + Vector512.Create(Bias), SingleFraction).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<int> Cut(Vector512<float> value) => Vector512.ConvertToInt32Native(value);

    /// <summary>Integers of at most 22 bits back to a sum; the fraction of a single loses its lower ten bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> ToSum(Vector512<int> total, Vector512<int> exponent)
    {
        Vector512<float> sum = Vector512.ConvertToSingle(total) * PowerOfTwo(exponent - Vector512.Create(Fraction));
        return (sum.AsInt32() & Vector512.Create(-1 << (SingleFraction - Fraction))).AsSingle();
    }
}
