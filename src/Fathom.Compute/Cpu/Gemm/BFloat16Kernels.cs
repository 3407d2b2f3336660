using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Dot products of BF16 activations with BF16 weights, by the processor's own instruction for them (<see cref="BFloat16Code"/>).</summary>
internal readonly unsafe struct BFloat16Kernels : IDotKernels<BFloat16>
{
    /// <inheritdoc/>
    public static int Size => sizeof(ushort);

    /// <inheritdoc/>
    public static int Shift => 0;

    /// <inheritdoc/>
    public static void Dot1(nint depth, BFloat16* x, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums)
    {
        BFloat16DotArguments arguments = Arguments(depth, x, 0, w0, w1, w2, w3, ahead, sums, 0);
        BFloat16Code.Of1(&arguments);
    }

    /// <inheritdoc/>
    public static void Dot2(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        BFloat16DotArguments arguments = Arguments(depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);
        BFloat16Code.Of2(&arguments);
    }

    /// <inheritdoc/>
    public static void Dot4(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        BFloat16DotArguments arguments = Arguments(depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);
        BFloat16Code.Of4(&arguments);
    }

    /// <inheritdoc/>
    public static void Dot6(nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums)
    {
        BFloat16DotArguments arguments = Arguments(depth, x, stride, w0, w1, w2, w3, ahead, sums, strideSums);
        BFloat16Code.Of6(&arguments);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static BFloat16DotArguments Arguments(
        nint depth, BFloat16* x, nint stride, byte* w0, byte* w1, byte* w2, byte* w3, nint ahead, float* sums, nint strideSums) =>
        new()
        {
            WholeBytes = depth / BFloat16Code.VectorElements * BFloat16Code.VectorBytes,
            X = (byte*)x,
            StrideX = stride * sizeof(BFloat16),
            W0 = w0,
            W1 = w1,
            W2 = w2,
            W3 = w3,
            Ahead = ahead,
            Sums = sums,
            StrideSums = strideSums * sizeof(float),
            Rest = (1ul << (int)(depth % BFloat16Code.VectorElements)) - 1,
        };
}
