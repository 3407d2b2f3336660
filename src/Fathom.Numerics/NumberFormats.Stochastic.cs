// Stochastic rounding: up with the probability that is the distance travelled between the two neighbours, so that a sum of many small
// updates keeps its mean where rounding to nearest would lose each of them. It adds a random number below one unit of the last kept
// bit and cuts off. The number at an index decides alone, so a tensor may be rounded in pieces and on any number of threads.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Fathom.Numerics;

public static partial class NumberFormats
{
    /// <summary>
    /// Singles to BF16 bit patterns, rounded stochastically. Values of BF16, infinities and NaNs stay; past the largest finite value
    /// comes infinity with the probability that the rule gives.
    /// </summary>
    /// <param name="source">The values.</param>
    /// <param name="destination">Receives the bit patterns.</param>
    /// <param name="random">The numbers; of the one at index <paramref name="firstIndex"/> + i the lower 16 bits round element i.</param>
    /// <param name="firstIndex">Index of the first number.</param>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToBFloat16(ReadOnlySpan<float> source, Span<ushort> destination, Philox random, ulong firstIndex = 0) =>
        NarrowRandomly<BFloat16Rounding, WordCodes>(source, MemoryMarshal.AsBytes(destination), false, random, firstIndex);

    /// <summary>Singles to E4M3 bit patterns, rounded stochastically; values of E4M3 stay, and past 448 comes NaN, or 448 when saturating.</summary>
    /// <param name="source">The values.</param>
    /// <param name="destination">Receives the bit patterns.</param>
    /// <param name="saturate">Whether what lies past 448 becomes 448. Without it, what lies between 448 and 480 becomes NaN by chance.</param>
    /// <param name="random">The numbers; of the one at index <paramref name="firstIndex"/> + i the lower 20 bits round element i.</param>
    /// <param name="firstIndex">Index of the first number.</param>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToE4M3(ReadOnlySpan<float> source, Span<byte> destination, bool saturate, Philox random, ulong firstIndex = 0) =>
        NarrowRandomly<SmallFloatRounding<E4M3Layout>, ByteCodes>(source, destination, saturate, random, firstIndex);

    private static void NarrowRandomly<TRounding, TStorage>(ReadOnlySpan<float> source, Span<byte> destination, bool saturate, Philox random, ulong firstIndex)
        where TRounding : struct, IRandomRounding
        where TStorage : struct, ICodeStorage
    {
        Check((long)TStorage.Bytes((nuint)source.Length) == destination.Length, source.Length, destination.Length);
        ref byte to = ref MemoryMarshal.GetReference(destination);
        int i = 0;
        for (; i < source.Length && ((firstIndex + (uint)i) & 3) != 0; i++) One(source, ref to, i, random.UInt32(firstIndex + (uint)i));
        for (; i + 4 <= source.Length; i += 4)
        {
            var (a, b, c, d) = random.Block((firstIndex + (uint)i) >> 2);
            One(source, ref to, i, a);
            One(source, ref to, i + 1, b);
            One(source, ref to, i + 2, c);
            One(source, ref to, i + 3, d);
        }

        for (; i < source.Length; i++) One(source, ref to, i, random.UInt32(firstIndex + (uint)i));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        void One(ReadOnlySpan<float> source, ref byte to, int i, uint number) =>
            TStorage.Store(TRounding.Encode(source[i], number, saturate), ref to, (nuint)i);
    }

    private interface IRandomRounding
    {
        static abstract uint Encode(float value, uint random, bool saturate);
    }

    private readonly struct BFloat16Rounding : IRandomRounding
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static uint Encode(float value, uint random, bool saturate)
        {
            uint bits = BitConverter.SingleToUInt32Bits(value);
            return (bits & 0x7FFFFFFF) >= 0x7F800000 ? BFloat16.Narrow(bits) : (bits + (random & 0xFFFF)) >> 16;
        }
    }

    private readonly struct SmallFloatRounding<TLayout> : IRandomRounding where TLayout : struct, ISmallFloatLayout
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static uint Encode(float value, uint random, bool saturate) => SmallFloat<TLayout>.Encode(value, random, saturate);
    }
}
