// Four lanes: any processor.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>4 F32 lanes in a 128-bit register.</summary>
internal readonly unsafe struct Simd128 : ISimd<Simd128>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    private readonly Vector128<float> value;

    [MethodImpl(Inline)]
    private Simd128(Vector128<float> value) => this.value = value;

    public static int Count => 4;

    [MethodImpl(Inline)]
    public static Simd128 Load(float* source) => new(Vector128.Load(source));

    [MethodImpl(Inline)]
    public static Simd128 LoadBF16(ushort* source) =>
        new((Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(ulong*)source).AsUInt16()) << 16).AsSingle());

    [MethodImpl(Inline)]
    public static Simd128 Broadcast(float value) => new(Vector128.Create(value));

    [MethodImpl(Inline)]
    public static Simd128 operator +(Simd128 a, Simd128 b) => new(a.value + b.value);

    [MethodImpl(Inline)]
    public static Simd128 operator -(Simd128 a, Simd128 b) => new(a.value - b.value);

    [MethodImpl(Inline)]
    public static Simd128 operator *(Simd128 a, Simd128 b) => new(a.value * b.value);

    [MethodImpl(Inline)]
    public static Simd128 operator /(Simd128 a, Simd128 b) => new(a.value / b.value);

    [MethodImpl(Inline)]
    public static Simd128 MultiplyAdd(Simd128 a, Simd128 b, Simd128 c) => new(Vector128.MultiplyAddEstimate(a.value, b.value, c.value));

    [MethodImpl(Inline)]
    public static Simd128 Sqrt(Simd128 x) => new(Vector128.Sqrt(x.value));

    [MethodImpl(Inline)]
    public static Simd128 Round(Simd128 x) => new(Vector128.Round(x.value));

    // x comes last: on x86 the last operand is the result where one of the two is NaN.
    [MethodImpl(Inline)]
    public static Simd128 Clamp(Simd128 x, float low, float high) =>
        new(Vector128.MinNative(Vector128.Create(high), Vector128.MaxNative(Vector128.Create(low), x.value)));

    [MethodImpl(Inline)]
    public static Simd128 Scale(Simd128 x, Simd128 n)
    {
        Vector128<int> exponent = Vector128.ConvertToInt32Native(n.value), half = exponent >> 1;
        return new(x.value * PowerOfTwo(half) * PowerOfTwo(exponent - half));
    }

    [MethodImpl(Inline)]
    public static float Sum(Simd128 x) => Vector128.Sum(x.value);

    [MethodImpl(Inline)]
    public static Simd128 Larger(Simd128 x, Simd128 largest) =>
        new(Vector128.ConditionalSelect(Vector128.GreaterThan(x.value, largest.value), x.value, largest.value));

    [MethodImpl(Inline)]
    public static float Largest(Simd128 x)
    {
        float largest = x.value[0];
        for (int i = 1; i < Count; i++) largest = MathF.Max(largest, x.value[i]);
        return largest;
    }

    [MethodImpl(Inline)]
    public static bool AnyEqual(Simd128 a, Simd128 b) => Vector128.EqualsAny(a.value, b.value);

    [MethodImpl(Inline)]
    public static Simd128 SwapPairs(Simd128 x) =>
        new(Vector128.Shuffle(x.value, Vector128.Create(1, 0, 3, 2)));

    [MethodImpl(Inline)]
    public static (Simd128 Lower, Simd128 Upper) Widen(Simd128 x)
    {
        (Vector128<double> lower, Vector128<double> upper) = Vector128.Widen(x.value);
        return (new(lower.AsSingle()), new(upper.AsSingle()));
    }

    [MethodImpl(Inline)]
    public static Simd128 AddF64(Simd128 a, Simd128 b) => new((a.value.AsDouble() + b.value.AsDouble()).AsSingle());

    [MethodImpl(Inline)]
    public static Simd128 MultiplyAddF64(Simd128 a, Simd128 b, Simd128 c) =>
        new(Vector128.MultiplyAddEstimate(a.value.AsDouble(), b.value.AsDouble(), c.value.AsDouble()).AsSingle());

    [MethodImpl(Inline)]
    public static double SumF64(Simd128 x) => Vector128.Sum(x.value.AsDouble());

    [MethodImpl(Inline)]
    public void Store(float* destination) => value.Store(destination);

    [MethodImpl(Inline)]
    public void StoreBF16(ushort* destination)
    {
        Vector128<uint> bits = value.AsUInt32();
        Vector128<uint> rounded = bits + Vector128.Create(0x7FFFu) + ((bits >> 16) & Vector128<uint>.One);
        Vector128<uint> quiet = bits | Vector128.Create(0x0040_0000u);
        bits = Vector128.ConditionalSelect(Vector128.IsNaN(value).AsUInt32(), quiet, rounded) >> 16;
        *(ulong*)destination = Vector128.Narrow(bits, bits).AsUInt64().ToScalar();
    }

    [MethodImpl(Inline)]
    private static Vector128<float> PowerOfTwo(Vector128<int> n) => ((n + Vector128.Create(127)) << 23).AsSingle();
}
