// Moving rows between tensors and scratch memory: copies with a factor, sums, and the transpose that turns a block of keys into
// the right-hand side of a product.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Attention;

/// <summary>Row operations at one vector width. Strides are in elements; no element outside a row is read or written.</summary>
internal static unsafe class Rows<TSimd, TVector> where TSimd : struct, ISimd<TVector> where TVector : struct
{
    /// <summary>target = factor · source.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale(float* source, float* target, int count, float factor)
    {
        TVector f = TSimd.Broadcast(factor);
        int i = 0;
        for (; i + TSimd.Count <= count; i += TSimd.Count) TSimd.Store(TSimd.Multiply(f, TSimd.Load(source + i)), target + i);
        for (; i < count; i++) target[i] = factor * source[i];
    }

    /// <summary>target += factor · source.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddScaled(float* source, float* target, int count, float factor)
    {
        TVector f = TSimd.Broadcast(factor);
        int i = 0;
        for (; i + TSimd.Count <= count; i += TSimd.Count)
            TSimd.Store(TSimd.Add(TSimd.Load(target + i), TSimd.Multiply(f, TSimd.Load(source + i))), target + i);
        for (; i < count; i++) target[i] += factor * source[i];
    }

    /// <summary>Copies elements of any format as F32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Widen<TElement>(byte* source, float* target, int count) where TElement : struct, IElementFormat
    {
        int i = 0;
        for (; i + TSimd.Count <= count; i += TSimd.Count)
            TSimd.Store(TElement.Load<TSimd, TVector>(source + (nint)i * TElement.Size), target + i);
        for (; i < count; i++) target[i] = TElement.Scalar(source + (nint)i * TElement.Size);
    }

    /// <summary>Copies rows.</summary>
    public static void Copy(float* source, nint sourceRow, float* target, nint targetRow, int rows, int columns)
    {
        for (int r = 0; r < rows; r++) Widen<FormatF32>((byte*)(source + r * sourceRow), target + r * targetRow, columns);
    }

    /// <summary>Σ a b.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float Dot(float* a, float* b, int count)
    {
        TVector total = TSimd.Zero;
        int i = 0;
        for (; i + TSimd.Count <= count; i += TSimd.Count) total = TSimd.MultiplyAdd(TSimd.Load(a + i), TSimd.Load(b + i), total);
        float sum = TSimd.Sum(total);
        for (; i < count; i++) sum += a[i] * b[i];
        return sum;
    }

    /// <summary>target += Σ factors[j] · row j of four rows of weights, one after the other.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AccumulateFour<TElement>(float* factors, byte* weights, nint weightBytes, int count, float* target) where TElement : struct, IElementFormat
    {
        byte* w1 = weights + weightBytes, w2 = w1 + weightBytes, w3 = w2 + weightBytes;
        TVector f0 = TSimd.Broadcast(factors[0]), f1 = TSimd.Broadcast(factors[1]), f2 = TSimd.Broadcast(factors[2]), f3 = TSimd.Broadcast(factors[3]);
        int i = 0;
        nint at = 0;
        for (; i + TSimd.Count <= count; i += TSimd.Count, at += TSimd.Count * TElement.Size)
        {
            Prefetch.NextFour(weights + at, weightBytes);
            TVector sum = TSimd.MultiplyAdd(f0, TElement.Load<TSimd, TVector>(weights + at), TSimd.Load(target + i));
            sum = TSimd.MultiplyAdd(f1, TElement.Load<TSimd, TVector>(w1 + at), sum);
            sum = TSimd.MultiplyAdd(f2, TElement.Load<TSimd, TVector>(w2 + at), sum);
            sum = TSimd.MultiplyAdd(f3, TElement.Load<TSimd, TVector>(w3 + at), sum);
            TSimd.Store(sum, target + i);
        }

        for (; i < count; i++, at += TElement.Size)
        {
            float sum = MathF.FusedMultiplyAdd(factors[0], TElement.Scalar(weights + at), target[i]);
            sum = MathF.FusedMultiplyAdd(factors[1], TElement.Scalar(w1 + at), sum);
            sum = MathF.FusedMultiplyAdd(factors[2], TElement.Scalar(w2 + at), sum);
            target[i] = MathF.FusedMultiplyAdd(factors[3], TElement.Scalar(w3 + at), sum);
        }
    }
}

/// <summary>
/// Hints that memory will be read soon. The rows of one head lie far apart, which the processor's own prefetching does not
/// follow. A hint may point past the end of a tensor: it never faults.
/// </summary>
internal static unsafe class Prefetch
{
    /// <summary>How many rows ahead to ask for when rows are read one after the other.</summary>
    public const int Ahead = 6;

    /// <summary>Asks for a row of floats.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Row(float* row, int count) => Bytes((byte*)row, count * sizeof(float));

    /// <summary>Asks for a place in each of the four rows after the four that are being read.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void NextFour(byte* place, nint rowBytes)
    {
        if (!Sse.IsSupported) return;
        byte* next = place + 4 * rowBytes;
        Sse.Prefetch1(next);
        Sse.Prefetch1(next + rowBytes);
        Sse.Prefetch1(next + 2 * rowBytes);
        Sse.Prefetch1(next + 3 * rowBytes);
    }

    /// <summary>Asks for a range of bytes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Bytes(byte* start, int count)
    {
        if (!Sse.IsSupported) return;
        for (int i = 0; i < count; i += 64) Sse.Prefetch1(start + i);
    }
}

/// <summary>The transpose, in blocks of four by four.</summary>
internal static unsafe class Transposition
{
    /// <summary>target [columns, rows] = source [rows, columns]ᵀ.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(float* source, nint sourceRow, int rows, int columns, float* target, nint targetRow)
    {
        bool vectors = Sse.IsSupported || AdvSimd.Arm64.IsSupported;
        int fullRows = vectors ? rows - rows % 4 : 0, fullColumns = vectors ? columns - columns % 4 : 0;
        for (int r = 0; r < fullRows; r += 4)
        {
            float* s0 = source + r * sourceRow, s1 = s0 + sourceRow, s2 = s1 + sourceRow, s3 = s2 + sourceRow, t = target + r;
            for (int c = 0; c < fullColumns; c += 4)
            {
                (Vector128<float> a, Vector128<float> b) = Zip(Vector128.Load(s0 + c), Vector128.Load(s2 + c));
                (Vector128<float> d, Vector128<float> e) = Zip(Vector128.Load(s1 + c), Vector128.Load(s3 + c));
                (Vector128<float> t0, Vector128<float> t1) = Zip(a, d);
                (Vector128<float> t2, Vector128<float> t3) = Zip(b, e);
                t0.Store(t);
                t1.Store(t + targetRow);
                t2.Store(t + 2 * targetRow);
                t3.Store(t + 3 * targetRow);
                t += 4 * targetRow;
            }
        }

        for (int r = 0; r < rows; r++)
        {
            for (int c = r < fullRows ? fullColumns : 0; c < columns; c++) target[c * targetRow + r] = source[r * sourceRow + c];
        }
    }

    /// <summary>a0 b0 a1 b1 and a2 b2 a3 b3.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector128<float> Low, Vector128<float> High) Zip(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported
            ? (Sse.UnpackLow(a, b), Sse.UnpackHigh(a, b))
            : (AdvSimd.Arm64.ZipLow(a, b), AdvSimd.Arm64.ZipHigh(a, b));
}
