// What happens to a value between memory and its code: nothing, a product, or a quotient. The quotient is a real division, since
// x / s and x * (1 / s) round differently and the reference divides; for a power of two both are the same number.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Fathom.Numerics;

/// <summary>An operation on each value, folded into the drivers of <see cref="Lanes"/>.</summary>
internal interface IScaling
{
    float Apply(float value);

    Vector256<float> Apply(Vector256<float> value);

    Vector512<float> Apply(Vector512<float> value);
}

/// <summary>The value as it is.</summary>
internal readonly struct Unscaled : IScaling
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value) => value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value) => value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value) => value;
}

/// <summary>The value times a factor.</summary>
internal readonly struct Product(float factor) : IScaling
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value) => value * factor;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value) => value * Vector256.Create(factor);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value) => value * Vector512.Create(factor);
}

/// <summary>The value divided by a divisor.</summary>
internal readonly struct Quotient(float divisor) : IScaling
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value) => value / divisor;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value) => value / Vector256.Create(divisor);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value) => value / Vector512.Create(divisor);
}
