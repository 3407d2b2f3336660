// Values of rows of 8-bit codes with one scale, for kernels that take F32: a piece at a time, which they use while it is in the nearest
// cache.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Expands codes in whatever vectors the processor has.</summary>
internal static unsafe class CodeRows
{
    private const int Line = 64;

    /// <summary>to = scale · codes.</summary>
    /// <param name="format">E4M3 or HiF8.</param>
    /// <param name="codes">[count].</param>
    /// <param name="count">How many.</param>
    /// <param name="scale">Multiplier.</param>
    /// <param name="to">[count].</param>
    public static void Expand(DType format, byte* codes, nint count, float scale, float* to)
    {
        nint done = 0;
        if (format == DType.F8E4M3) Expand<E4M3Format>(codes, count, scale, to);
        else
        {
            if (HiFloat8Table.Expands) done = ExpandLines(codes, count, scale, to);
            Expand<HiFloat8Format>(codes + done, count - done, scale, to + done);
        }
    }

    private static void Expand<TFormat>(byte* codes, nint count, float scale, float* to) where TFormat : struct, IWeightFormat
    {
        if (CpuFeatures.Avx512) Expand<TFormat, Vector512<float>, Width512>(codes, count, scale, to);
        else if (CpuFeatures.Avx2) Expand<TFormat, Vector256<float>, Width256>(codes, count, scale, to);
        else Expand<TFormat, Vector128<float>, Width128>(codes, count, scale, to);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Expand<TFormat, TVector, TWidth>(byte* codes, nint count, float scale, float* to)
        where TFormat : struct, IWeightFormat
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector>
    {
        // Two products, since one power of two may be beyond what a scale can be multiplied by.
        float power = MathF.ScaleB(1, TFormat.Shift);
        TVector powers = TWidth.Broadcast(power), scales = TWidth.Broadcast(scale), watch = TWidth.Zero;
        nint i = 0;
        while (i + Line <= count)
        {
            watch = TFormat.Watch<TVector, TWidth>(codes + i, watch);
            for (nint end = i + Line; i < end; i += TWidth.Count)
                TWidth.Store(Product<TVector, TWidth>(scales, Product<TVector, TWidth>(powers, TFormat.Load<TVector, TWidth>(codes + i))), to + i);
        }

        nint first = TFormat.Saw<TVector, TWidth>(watch) ? 0 : i;
        for (; i < count; i++) to[i] = scale * (power * TFormat.LoadOne(codes + i));
        if (first < count && TFormat.HoldsNaN(codes + first, count - first)) SpreadNaN<TFormat>(codes, count, to);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void SpreadNaN<TFormat>(byte* codes, nint count, float* to) where TFormat : struct, IWeightFormat
    {
        for (nint i = 0; i < count; i++)
        {
            if (TFormat.HoldsNaN(codes + i, 1)) to[i] = float.NaN;
        }
    }

    /// <summary>As many whole lines of HiFloat8 codes as there are.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static nint ExpandLines(byte* codes, nint count, float scale, float* to)
    {
        HiFloat8Table table = HiFloat8Table.Instance;
        Vector512<float> scales = Vector512.Create(scale);
        nint i = 0;
        for (; i + Line <= count; i += Line)
        {
            table.Expand(codes + i, out Vector512<float> v0, out Vector512<float> v1, out Vector512<float> v2, out Vector512<float> v3);
            (v0 * scales).Store(to + i);
            (v1 * scales).Store(to + i + 16);
            (v2 * scales).Store(to + i + 32);
            (v3 * scales).Store(to + i + 48);
        }

        return i;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Product<TVector, TWidth>(TVector left, TVector right)
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector> => TWidth.MultiplyAdd(left, right, TWidth.Zero);
}
