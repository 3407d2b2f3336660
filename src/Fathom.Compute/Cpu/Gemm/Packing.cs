// Operands of a packed product are copied into panels: the few lines (rows of A, columns of B) that a tile kernel needs lie
// interleaved, [depth, width], so that it reads both operands from start to end. Packing also hides strides, formats and
// ragged edges: missing lines are packed as zeros. A line is either contiguous over the depth (then packing transposes) or
// adjacent to its neighbours (then it copies).
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>Copies operands into panels.</summary>
internal static unsafe class Packing
{
    /// <summary>Steps of the depth that are asked for before their turn, where steps are so far apart that no processor guesses the next.</summary>
    private const int StepsAhead = 12;

    /// <summary>Steps of the depth that are transposed for all lines of a panel before the next: the panel's part stays in the nearest cache.</summary>
    private const int TransposeBlock = 64;

    /// <summary>Packs lines that are contiguous over the depth and <paramref name="stride"/> elements apart.</summary>
    /// <typeparam name="TFormat">Format of the source.</typeparam>
    /// <param name="source">First element of the first line.</param>
    /// <param name="stride">Elements from line to line.</param>
    /// <param name="lines">Lines that exist; the last panel may be ragged.</param>
    /// <param name="width">Lines of a panel, at least 4.</param>
    /// <param name="depth">Elements of a line.</param>
    /// <param name="zeros">At least depth zeros, which stand for missing lines.</param>
    /// <param name="panel">[panels, depth, width].</param>
    public static void Transpose<TFormat>(byte* source, nint stride, int lines, nint width, nint depth, byte* zeros, float* panel)
        where TFormat : struct, IWeightFormat
    {
        nint pitch = stride * TFormat.Size;
        for (; lines > 0; lines -= (int)width, source += width * pitch, panel += width * depth)
        {
            // What is left to the vectors of four: missing lines, and the last steps of the depth.
            nint start = CpuFeatures.Avx512 && lines >= width ? PanelTransposition.Run<TFormat>(source, pitch, width, depth, panel) : 0;
            for (; start < depth; start += TransposeBlock)
            {
                nint count = Math.Min(TransposeBlock, depth - start);
                for (nint line = 0; line < width; line += 4)
                {
                    // Where the width is no multiple of four the last group overlaps the one before and writes the same values again.
                    nint first = Math.Min(line, width - 4);
                    byte* s0 = source + first * pitch + start * TFormat.Size;
                    byte* s1 = first + 1 < lines ? s0 + pitch : zeros, s2 = first + 2 < lines ? s0 + 2 * pitch : zeros, s3 = first + 3 < lines ? s0 + 3 * pitch : zeros;
                    TransposeFour<TFormat>(first < lines ? s0 : zeros, s1, s2, s3, width, count, panel + start * width + first);
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void TransposeFour<TFormat>(byte* s0, byte* s1, byte* s2, byte* s3, nint width, nint depth, float* panel)
        where TFormat : struct, IWeightFormat
    {
        nint ahead = TransposeBlock * TFormat.Size, i = 0;
        for (; i + 4 <= depth; i += 4)
        {
            Prefetch(s0 + ahead);
            Prefetch(s1 + ahead);
            Prefetch(s2 + ahead);
            Prefetch(s3 + ahead);
            Vector128<float> r0 = TFormat.Load<Vector128<float>, Width128>(s0), r1 = TFormat.Load<Vector128<float>, Width128>(s1);
            Vector128<float> r2 = TFormat.Load<Vector128<float>, Width128>(s2), r3 = TFormat.Load<Vector128<float>, Width128>(s3);
            Vector128<float> low01 = ZipLow(r0, r1), low23 = ZipLow(r2, r3), high01 = ZipHigh(r0, r1), high23 = ZipHigh(r2, r3);
            LowHalves(low01, low23).Store(panel);
            HighHalves(low01, low23).Store(panel + width);
            LowHalves(high01, high23).Store(panel + 2 * width);
            HighHalves(high01, high23).Store(panel + 3 * width);
            s0 += 4 * TFormat.Size;
            s1 += 4 * TFormat.Size;
            s2 += 4 * TFormat.Size;
            s3 += 4 * TFormat.Size;
            panel += 4 * width;
        }

        for (; i < depth; i++, panel += width)
        {
            panel[0] = TFormat.LoadOne(s0);
            panel[1] = TFormat.LoadOne(s1);
            panel[2] = TFormat.LoadOne(s2);
            panel[3] = TFormat.LoadOne(s3);
            s0 += TFormat.Size;
            s1 += TFormat.Size;
            s2 += TFormat.Size;
            s3 += TFormat.Size;
        }
    }

    /// <summary>Packs lines that are adjacent into panels of two vectors; steps of the depth are <paramref name="stride"/> elements apart.</summary>
    /// <typeparam name="TFormat">Format of the source.</typeparam>
    /// <typeparam name="TVector">The vector type.</typeparam>
    /// <typeparam name="TWidth">Its width: a panel has twice as many lines.</typeparam>
    /// <param name="source">First element of the first line.</param>
    /// <param name="stride">Elements from one step of the depth to the next.</param>
    /// <param name="lines">Lines that exist; the last panel may be ragged.</param>
    /// <param name="depth">Elements of a line.</param>
    /// <param name="panel">[panels, depth, 2 vectors].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void CopyColumns<TFormat, TVector, TWidth>(byte* source, nint stride, int lines, nint depth, float* panel)
        where TFormat : struct, IWeightFormat
        where TVector : struct
        where TWidth : struct, IVectorWidth<TVector>
    {
        int width = 2 * TWidth.Count, whole = lines / width;
        nint next = depth * width, ahead = StepsAhead * stride * TFormat.Size;
        // All panels advance together: a step of the depth is then read as one piece, however far apart the steps are.
        for (nint i = 0; i < depth; i++)
        {
            byte* from = source + i * stride * TFormat.Size;
            float* to = panel + i * width;
            for (int p = 0; p < whole; p++, from += width * TFormat.Size, to += next)
            {
                Prefetch(from + ahead);
                Prefetch(from + ahead + TWidth.Count * TFormat.Size);
                TWidth.Store(TFormat.Load<TVector, TWidth>(from), to);
                TWidth.Store(TFormat.Load<TVector, TWidth>(from + TWidth.Count * TFormat.Size), to + TWidth.Count);
            }
        }

        if (whole * width < lines) CopyRagged<TFormat>(source + whole * width * TFormat.Size, stride, lines - whole * width, width, depth, panel + whole * next);
    }

    /// <summary>Packs singles that are adjacent into narrow panels; steps of the depth are <paramref name="stride"/> elements apart.</summary>
    /// <param name="source">First element of the first line.</param>
    /// <param name="stride">Elements from one step of the depth to the next.</param>
    /// <param name="lines">Lines that exist; the last panel may be ragged.</param>
    /// <param name="width">Lines of a panel, 4 to 12.</param>
    /// <param name="depth">Elements of a line.</param>
    /// <param name="panel">[panels, depth, width].</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void CopyRows(float* source, nint stride, int lines, int width, nint depth, float* panel)
    {
        // Three vectors of four cover any such width; where they overlap they write the same values.
        nint middle = Math.Min(4, width - 4), last = width - 4, next = depth * width, ahead = StepsAhead * stride;
        int whole = lines / width;
        nint i = 0;
        for (; CpuFeatures.Avx512 && width == 12 && i + 4 <= depth; i += 4)
        {
            float* from = source + i * stride;
            float* to = panel + i * width;
            for (int p = 0; p < whole; p++, from += width, to += next)
            {
                Prefetch(from + ahead);
                Prefetch(from + ahead + stride);
                Prefetch(from + ahead + 2 * stride);
                Prefetch(from + ahead + 3 * stride);
                PanelTransposition.FourStepsOfTwelve(from, stride, to);
            }
        }

        for (; i < depth; i++)
        {
            float* from = source + i * stride;
            float* to = panel + i * width;
            for (int p = 0; p < whole; p++, from += width, to += next)
            {
                Prefetch(from + ahead);
                Vector128.Load(from).Store(to);
                Vector128.Load(from + middle).Store(to + middle);
                Vector128.Load(from + last).Store(to + last);
            }
        }

        if (whole * width < lines) CopyRagged<SingleFormat>((byte*)(source + whole * width), stride, lines - whole * width, width, depth, panel + whole * next);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(void* address)
    {
        if (Sse.IsSupported) Sse.Prefetch0(address);
    }

    private static void CopyRagged<TFormat>(byte* source, nint stride, int lines, int width, nint depth, float* panel)
        where TFormat : struct, IWeightFormat
    {
        for (; depth > 0; depth--, source += stride * TFormat.Size, panel += width)
        {
            for (int line = 0; line < lines; line++) panel[line] = TFormat.LoadOne(source + line * TFormat.Size);
            for (int line = lines; line < width; line++) panel[line] = 0;
        }
    }

    /// <summary>Interleaves the lower (a0 b0 a1 b1) halves of two vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> ZipLow(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.UnpackLow(a, b)
        : AdvSimd.Arm64.IsSupported ? AdvSimd.Arm64.ZipLow(a, b)
        : Vector128.Create(a[0], b[0], a[1], b[1]);

    /// <summary>Interleaves the upper (a2 b2 a3 b3) halves of two vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> ZipHigh(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.UnpackHigh(a, b)
        : AdvSimd.Arm64.IsSupported ? AdvSimd.Arm64.ZipHigh(a, b)
        : Vector128.Create(a[2], b[2], a[3], b[3]);

    /// <summary>a0 a1 b0 b1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> LowHalves(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.MoveLowToHigh(a, b)
        : AdvSimd.Arm64.IsSupported ? AdvSimd.Arm64.ZipLow(a.AsDouble(), b.AsDouble()).AsSingle()
        : Vector128.Create(a[0], a[1], b[0], b[1]);

    /// <summary>a2 a3 b2 b3.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> HighHalves(Vector128<float> a, Vector128<float> b) =>
        Sse.IsSupported ? Sse.MoveHighToLow(b, a)
        : AdvSimd.Arm64.IsSupported ? AdvSimd.Arm64.ZipHigh(a.AsDouble(), b.AsDouble()).AsSingle()
        : Vector128.Create(a[2], a[3], b[2], b[3]);
}
