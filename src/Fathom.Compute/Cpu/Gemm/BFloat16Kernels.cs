// Dot products by the processor's own instruction for BF16 numbers (BFloat16Code), with weights that are such numbers or codes of them.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>How weights that meet BF16 activations lie in memory.</summary>
internal unsafe interface INarrowWeights
{
    /// <summary>Bytes of a weight.</summary>
    static abstract int Size { get; }

    /// <summary>The dot products.</summary>
    static abstract ref readonly BFloat16Dots Dots { get; }

    /// <summary>What the dot products look values up in; null for nothing.</summary>
    static abstract byte* Tables { get; }
}

/// <summary>BF16 numbers.</summary>
internal readonly unsafe struct NarrowNumbers : INarrowWeights
{
    /// <inheritdoc/>
    public static int Size => sizeof(BFloat16);

    /// <inheritdoc/>
    public static ref readonly BFloat16Dots Dots => ref BFloat16Code.DotsOfNumbers;

    /// <inheritdoc/>
    public static byte* Tables => null;
}

/// <summary>
/// E4M3 codes, each of which is a BF16 number. Activations are laid out by <see cref="BFloat16Code.NarrowForCodes"/>, up to a multiple of
/// <see cref="BFloat16Code.VectorBytes"/> with zeros.
/// </summary>
internal readonly unsafe struct NarrowCodes : INarrowWeights
{
    private const int Codes = 128;
    private static readonly byte* Looked = MakeTables();

    /// <inheritdoc/>
    public static int Size => sizeof(byte);

    /// <inheritdoc/>
    public static ref readonly BFloat16Dots Dots => ref BFloat16Code.DotsOfCodes;

    /// <inheritdoc/>
    public static byte* Tables => Looked;

    private static byte* MakeTables()
    {
        byte* tables = (byte*)NativeMemory.AlignedAlloc(2 * Codes + BFloat16Code.VectorBytes, BFloat16Code.VectorBytes); // as long as the process
        for (int code = 0; code < Codes; code++)
        {
            ushort bits = ((BFloat16)(float)Float8E4M3.FromBits((byte)code)).Bits;
            tables[code] = (byte)(bits >> 8);
            tables[Codes + code] = (byte)bits;
        }

        new Span<byte>(tables + 2 * Codes, BFloat16Code.VectorBytes).Fill(0x80);
        return tables;
    }
}

/// <summary>Dot products of BF16 activations.</summary>
internal readonly unsafe struct BFloat16Kernels<TWeights> : IDotKernels<BFloat16> where TWeights : struct, INarrowWeights
{
    /// <inheritdoc/>
    public static int Size => TWeights.Size;

    /// <inheritdoc/>
    public static int Shift => 0;

    /// <inheritdoc/>
    public static void Dot1(nint depth, BFloat16* x, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums) =>
        Run(TWeights.Dots.Of1, depth, x, 0, w0, w1, w2, w3, ahead, sums, 0);

    /// <inheritdoc/>
    public static void Dot2(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums) =>
        Run(TWeights.Dots.Of2, depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);

    /// <inheritdoc/>
    public static void Dot4(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums) =>
        Run(TWeights.Dots.Of4, depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);

    /// <inheritdoc/>
    public static void Dot6(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums) =>
        Run(TWeights.Dots.Of6, depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Run(
        delegate* unmanaged[SuppressGCTransition]<BFloat16DotArguments*, void> dots,
        nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        nint elements = BFloat16Code.VectorBytes / TWeights.Size;
        var arguments = new BFloat16DotArguments
        {
            WholeBytes = depth / elements * BFloat16Code.VectorBytes,
            X = (byte*)x,
            StrideX = stride * sizeof(BFloat16),
            W0 = w0,
            W1 = w1,
            W2 = w2,
            W3 = w3,
            Ahead = ahead,
            Sums = sums,
            StrideSums = strideSums * sizeof(float),
            Rest = (1ul << (int)(depth % elements)) - 1,
            Tables = TWeights.Tables,
        };
        dots(&arguments);
    }
}
