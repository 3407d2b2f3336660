// Sixteen lanes: AVX-512.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>16 F32 lanes in a 512-bit register.</summary>
internal readonly unsafe struct Simd512 : ISimd<Simd512>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    private readonly Vector512<float> value;

    [MethodImpl(Inline)]
    private Simd512(Vector512<float> value) => this.value = value;

    public static int Count => 16;

    [MethodImpl(Inline)]
    public static Simd512 Load(float* source) => new(Vector512.Load(source));

    [MethodImpl(Inline)]
    public static Simd512 LoadBF16(ushort* source) =>
        new((Vector512.WidenLower(Vector256.Load(source).ToVector512Unsafe()) << 16).AsSingle());

    [MethodImpl(Inline)]
    public static Simd512 Broadcast(float value) => new(Vector512.Create(value));

    [MethodImpl(Inline)]
    public static Simd512 operator +(Simd512 a, Simd512 b) => new(a.value + b.value);

    [MethodImpl(Inline)]
    public static Simd512 operator -(Simd512 a, Simd512 b) => new(a.value - b.value);

    [MethodImpl(Inline)]
    public static Simd512 operator *(Simd512 a, Simd512 b) => new(a.value * b.value);

    [MethodImpl(Inline)]
    public static Simd512 operator /(Simd512 a, Simd512 b) => new(a.value / b.value);

    [MethodImpl(Inline)]
    public static Simd512 MultiplyAdd(Simd512 a, Simd512 b, Simd512 c) => new(Vector512.MultiplyAddEstimate(a.value, b.value, c.value));

    [MethodImpl(Inline)]
    public static Simd512 Sqrt(Simd512 x) => new(Vector512.Sqrt(x.value));

    [MethodImpl(Inline)]
    public static Simd512 Round(Simd512 x) => new(Vector512.Round(x.value));

    // x comes last: on x86 the last operand is the result where one of the two is NaN.
    [MethodImpl(Inline)]
    public static Simd512 Clamp(Simd512 x, float low, float high) =>
        new(Vector512.MinNative(Vector512.Create(high), Vector512.MaxNative(Vector512.Create(low), x.value)));

    [MethodImpl(Inline)]
    public static Simd512 Scale(Simd512 x, Simd512 n)
    {
        if (Avx512F.IsSupported) return new(Avx512F.Scale(x.value, n.value));
        Vector512<int> exponent = Vector512.ConvertToInt32Native(n.value), half = exponent >> 1;
        return new(x.value * PowerOfTwo(half) * PowerOfTwo(exponent - half));
    }

    [MethodImpl(Inline)]
    public static float Sum(Simd512 x) => Vector512.Sum(x.value);

    [MethodImpl(Inline)]
    public static Simd512 Larger(Simd512 x, Simd512 largest) =>
        new(Vector512.ConditionalSelect(Vector512.GreaterThan(x.value, largest.value), x.value, largest.value));

    [MethodImpl(Inline)]
    public static float Largest(Simd512 x)
    {
        float largest = x.value[0];
        for (int i = 1; i < Count; i++) largest = MathF.Max(largest, x.value[i]);
        return largest;
    }

    [MethodImpl(Inline)]
    public static bool AnyEqual(Simd512 a, Simd512 b) => Vector512.EqualsAny(a.value, b.value);

    [MethodImpl(Inline)]
    public static Simd512 SwapPairs(Simd512 x) =>
        Avx512F.IsSupported ? new(Avx512F.Permute4x32(x.value, 0b10_11_00_01)) : new(Vector512.Shuffle(x.value, Vector512.Create(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)));

    [MethodImpl(Inline)]
    public static (Simd512 Lower, Simd512 Upper) Widen(Simd512 x)
    {
        (Vector512<double> lower, Vector512<double> upper) = Vector512.Widen(x.value);
        return (new(lower.AsSingle()), new(upper.AsSingle()));
    }

    [MethodImpl(Inline)]
    public static Simd512 AddF64(Simd512 a, Simd512 b) => new((a.value.AsDouble() + b.value.AsDouble()).AsSingle());

    [MethodImpl(Inline)]
    public static Simd512 MultiplyAddF64(Simd512 a, Simd512 b, Simd512 c) =>
        new(Vector512.MultiplyAddEstimate(a.value.AsDouble(), b.value.AsDouble(), c.value.AsDouble()).AsSingle());

    [MethodImpl(Inline)]
    public static double SumF64(Simd512 x) => Vector512.Sum(x.value.AsDouble());

    [MethodImpl(Inline)]
    public void Store(float* destination) => value.Store(destination);

    [MethodImpl(Inline)]
    public void StoreBF16(ushort* destination)
    {
        Vector512<uint> bits = value.AsUInt32();
        Vector512<uint> rounded = bits + Vector512.Create(0x7FFFu) + ((bits >> 16) & Vector512<uint>.One);
        Vector512<uint> quiet = bits | Vector512.Create(0x0040_0000u);
        bits = Vector512.ConditionalSelect(Vector512.IsNaN(value).AsUInt32(), quiet, rounded) >> 16;
        Vector512.Narrow(bits, bits).GetLower().Store(destination);
    }

    [MethodImpl(Inline)]
    private static Vector512<float> PowerOfTwo(Vector512<int> n) => ((n + Vector512.Create(127)) << 23).AsSingle();
}
