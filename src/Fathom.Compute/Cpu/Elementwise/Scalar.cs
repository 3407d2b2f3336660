// One lane, for the elements that are left when a row is not a multiple of the vector. Rounds as the vectors do.
using System.Runtime.CompilerServices;

namespace Fathom.Compute.Cpu.Elementwise;

/// <summary>A single F32 as the narrowest vector.</summary>
internal readonly unsafe struct Scalar(float value) : ILanes<Scalar>
{
    private const MethodImplOptions Inline = MethodImplOptions.AggressiveInlining;

    public readonly float Value = value;

    public static int Count => 1;

    [MethodImpl(Inline)]
    public static Scalar Load(float* source) => new(*source);

    [MethodImpl(Inline)]
    public static Scalar LoadBF16(ushort* source) => new(BitConverter.UInt32BitsToSingle((uint)*source << 16));

    [MethodImpl(Inline)]
    public static Scalar Broadcast(float value) => new(value);

    [MethodImpl(Inline)]
    public static Scalar operator +(Scalar a, Scalar b) => new(a.Value + b.Value);

    [MethodImpl(Inline)]
    public static Scalar operator -(Scalar a, Scalar b) => new(a.Value - b.Value);

    [MethodImpl(Inline)]
    public static Scalar operator *(Scalar a, Scalar b) => new(a.Value * b.Value);

    [MethodImpl(Inline)]
    public static Scalar operator /(Scalar a, Scalar b) => new(a.Value / b.Value);

    [MethodImpl(Inline)]
    public static Scalar MultiplyAdd(Scalar a, Scalar b, Scalar c) => new(float.MultiplyAddEstimate(a.Value, b.Value, c.Value));

    [MethodImpl(Inline)]
    public static Scalar Sqrt(Scalar x) => new(MathF.Sqrt(x.Value));

    [MethodImpl(Inline)]
    public static Scalar Round(Scalar x) => new(MathF.Round(x.Value));

    [MethodImpl(Inline)]
    public static Scalar Clamp(Scalar x, float low, float high) => x.Value < low ? new(low) : x.Value > high ? new(high) : x;

    [MethodImpl(Inline)]
    public static Scalar Scale(Scalar x, Scalar n)
    {
        int exponent = (int)n.Value, half = exponent >> 1;
        return new(x.Value * PowerOfTwo(half) * PowerOfTwo(exponent - half));
    }

    [MethodImpl(Inline)]
    public void Store(float* destination) => *destination = Value;

    [MethodImpl(Inline)]
    public void StoreBF16(ushort* destination)
    {
        uint bits = BitConverter.SingleToUInt32Bits(Value);
        uint rounded = float.IsNaN(Value) ? bits | 0x0040_0000 : bits + 0x7FFF + ((bits >> 16) & 1);
        *destination = (ushort)(rounded >> 16);
    }

    [MethodImpl(Inline)]
    private static float PowerOfTwo(int n) => BitConverter.Int32BitsToSingle((n + 127) << 23);
}
