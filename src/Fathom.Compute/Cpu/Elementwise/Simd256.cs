// Eight lanes: AVX2 with fused multiply-add.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>8 F32 lanes in a 256-bit register.</summary>
internal readonly unsafe struct Simd256 : ISimd<Simd256>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    private readonly Vector256<float> value;

    [MethodImpl(Inline)]
    private Simd256(Vector256<float> value) => this.value = value;

    public static int Count => 8;

    [MethodImpl(Inline)]
    public static Simd256 Load(float* source) => new(Vector256.Load(source));

    [MethodImpl(Inline)]
    public static Simd256 LoadBF16(ushort* source) =>
        new((Vector256.WidenLower(Vector128.Load(source).ToVector256Unsafe()) << 16).AsSingle());

    [MethodImpl(Inline)]
    public static Simd256 Broadcast(float value) => new(Vector256.Create(value));

    [MethodImpl(Inline)]
    public static Simd256 operator +(Simd256 a, Simd256 b) => new(a.value + b.value);

    [MethodImpl(Inline)]
    public static Simd256 operator -(Simd256 a, Simd256 b) => new(a.value - b.value);

    [MethodImpl(Inline)]
    public static Simd256 operator *(Simd256 a, Simd256 b) => new(a.value * b.value);

    [MethodImpl(Inline)]
    public static Simd256 operator /(Simd256 a, Simd256 b) => new(a.value / b.value);

    [MethodImpl(Inline)]
    public static Simd256 MultiplyAdd(Simd256 a, Simd256 b, Simd256 c) => new(Vector256.MultiplyAddEstimate(a.value, b.value, c.value));

    [MethodImpl(Inline)]
    public static Simd256 Sqrt(Simd256 x) => new(Vector256.Sqrt(x.value));

    [MethodImpl(Inline)]
    public static Simd256 Round(Simd256 x) => new(Vector256.Round(x.value));

    // x comes last: on x86 the last operand is the result where one of the two is NaN.
    [MethodImpl(Inline)]
    public static Simd256 Clamp(Simd256 x, float low, float high) =>
        new(Vector256.MinNative(Vector256.Create(high), Vector256.MaxNative(Vector256.Create(low), x.value)));

    [MethodImpl(Inline)]
    public static Simd256 Scale(Simd256 x, Simd256 n)
    {
        Vector256<int> exponent = Vector256.ConvertToInt32Native(n.value), half = exponent >> 1;
        return new(x.value * PowerOfTwo(half) * PowerOfTwo(exponent - half));
    }

    [MethodImpl(Inline)]
    public static float Sum(Simd256 x) => Vector256.Sum(x.value);

    [MethodImpl(Inline)]
    public static Simd256 Larger(Simd256 x, Simd256 largest) =>
        new(Vector256.ConditionalSelect(Vector256.GreaterThan(x.value, largest.value), x.value, largest.value));

    [MethodImpl(Inline)]
    public static float Largest(Simd256 x)
    {
        float largest = x.value[0];
        for (int i = 1; i < Count; i++) largest = MathF.Max(largest, x.value[i]);
        return largest;
    }

    [MethodImpl(Inline)]
    public static bool AnyEqual(Simd256 a, Simd256 b) => Vector256.EqualsAny(a.value, b.value);

    [MethodImpl(Inline)]
    public static Simd256 SwapPairs(Simd256 x) =>
        new(Vector256.Shuffle(x.value, Vector256.Create(1, 0, 3, 2, 5, 4, 7, 6)));

    [MethodImpl(Inline)]
    public static (Simd256 Lower, Simd256 Upper) Widen(Simd256 x)
    {
        (Vector256<double> lower, Vector256<double> upper) = Vector256.Widen(x.value);
        return (new(lower.AsSingle()), new(upper.AsSingle()));
    }

    [MethodImpl(Inline)]
    public static Simd256 AddF64(Simd256 a, Simd256 b) => new((a.value.AsDouble() + b.value.AsDouble()).AsSingle());

    [MethodImpl(Inline)]
    public static Simd256 MultiplyAddF64(Simd256 a, Simd256 b, Simd256 c) =>
        new(Vector256.MultiplyAddEstimate(a.value.AsDouble(), b.value.AsDouble(), c.value.AsDouble()).AsSingle());

    [MethodImpl(Inline)]
    public static double SumF64(Simd256 x) => Vector256.Sum(x.value.AsDouble());

    [MethodImpl(Inline)]
    public void Store(float* destination) => value.Store(destination);

    [MethodImpl(Inline)]
    public void StoreBF16(ushort* destination)
    {
        Vector256<uint> bits = value.AsUInt32();
        Vector256<uint> rounded = bits + Vector256.Create(0x7FFFu) + ((bits >> 16) & Vector256<uint>.One);
        Vector256<uint> quiet = bits | Vector256.Create(0x0040_0000u);
        bits = Vector256.ConditionalSelect(Vector256.IsNaN(value).AsUInt32(), quiet, rounded) >> 16;
        Vector256.Narrow(bits, bits).GetLower().Store(destination);
    }

    [MethodImpl(Inline)]
    private static Vector256<float> PowerOfTwo(Vector256<int> n) => ((n + Vector256.Create(127)) << 23).AsSingle();
}
