using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>
/// Dot products of BF16 activations with E4M3 codes, each of which is a BF16 number, by the processor's own instruction. Activations are
/// laid out by <see cref="BFloat16Code.NarrowForCodes"/>, up to a multiple of 64 with zeros.
/// </summary>
internal readonly unsafe struct BFloat16CodeKernels : IDotKernels<BFloat16>
{
    /// <summary>Codes of a vector.</summary>
    public const int Step = 64;

    private static readonly byte* Tables = MakeTables();

    /// <inheritdoc/>
    public static int Size => sizeof(byte);

    /// <inheritdoc/>
    public static int Shift => 0;

    /// <inheritdoc/>
    public static void Dot1(nint depth, BFloat16* x, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums)
    {
        BFloat16DotArguments arguments = Arguments(depth, x, 0, w0, w1, w2, w3, ahead, sums, 0);
        BFloat16Code.CodesOf1(&arguments);
    }

    /// <inheritdoc/>
    public static void Dot2(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        BFloat16DotArguments arguments = Arguments(depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);
        BFloat16Code.CodesOf2(&arguments);
    }

    /// <inheritdoc/>
    public static void Dot4(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        BFloat16DotArguments arguments = Arguments(depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);
        BFloat16Code.CodesOf4(&arguments);
    }

    /// <inheritdoc/>
    public static void Dot6(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        BFloat16DotArguments arguments = Arguments(depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);
        BFloat16Code.CodesOf6(&arguments);
    }

    /// <summary>Elements of a row of activations.</summary>
    public static nint Padded(nint depth) => (depth + Step - 1) / Step * Step;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static BFloat16DotArguments Arguments(
        nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums) =>
        new()
        {
            WholeBytes = depth / Step * Step,
            X = (byte*)x,
            StrideX = stride * sizeof(BFloat16),
            W0 = w0,
            W1 = w1,
            W2 = w2,
            W3 = w3,
            Ahead = ahead,
            Sums = sums,
            StrideSums = strideSums * sizeof(float),
            Rest = (1ul << (int)(depth % Step)) - 1,
            Tables = Tables,
        };

    private static byte* MakeTables()
    {
        const int Codes = 128;
        byte* tables = (byte*)NativeMemory.AlignedAlloc(2 * Codes + Step, Step); // as long as the process
        for (int code = 0; code < Codes; code++)
        {
            ushort bits = ((BFloat16)(float)Float8E4M3.FromBits((byte)code)).Bits;
            tables[code] = (byte)(bits >> 8);
            tables[Codes + code] = (byte)bits;
        }

        new Span<byte>(tables + 2 * Codes, Step).Fill(0x80);
        return tables;
    }
}
