// What happens to a value between memory and its code: nothing, or a product or quotient with one scale, with that of its 1x128
// tile or with one of its own (of its column). Quotients are real divisions, since x / s and x * (1 / s) round differently and the
// reference divides.
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Fathom.Numerics.Quantization;

namespace Fathom.Numerics;

/// <summary>An operation on the value or the vector of values at an index, folded into the drivers of <see cref="Lanes"/>.</summary>
internal interface IScaling
{
    float Apply(float value, nuint index);

    Vector256<float> Apply(Vector256<float> value, nuint index);

    Vector512<float> Apply(Vector512<float> value, nuint index);
}

/// <summary>The value as it is.</summary>
internal readonly struct Unscaled : IScaling
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value, nuint index) => value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value, nuint index) => value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value, nuint index) => value;
}

/// <summary>The value times a factor.</summary>
internal readonly struct Product(float factor) : IScaling
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value, nuint index) => value * factor;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value, nuint index) => value * Vector256.Create(factor);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value, nuint index) => value * Vector512.Create(factor);
}

/// <summary>The value divided by a divisor.</summary>
internal readonly struct Quotient(float divisor) : IScaling
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value, nuint index) => value / divisor;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value, nuint index) => value / Vector256.Create(divisor);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value, nuint index) => value / Vector512.Create(divisor);
}

/// <summary>The value times the scale of its 1x128 tile; the first value starts a tile.</summary>
internal readonly ref struct TileProducts(ref float scales) : IScaling
{
    private readonly ref float scales = ref scales;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value, nuint index) => value * Unsafe.Add(ref scales, index / TileQuantizer.TileLength);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value, nuint index) => value * Vector256.Create(Unsafe.Add(ref scales, index / TileQuantizer.TileLength));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value, nuint index) => value * Vector512.Create(Unsafe.Add(ref scales, index / TileQuantizer.TileLength));
}

/// <summary>The value divided by the scale of its 1x128 tile; the first value starts a tile.</summary>
internal readonly ref struct TileQuotients(ref float scales) : IScaling
{
    private readonly ref float scales = ref scales;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value, nuint index) => value / Unsafe.Add(ref scales, index / TileQuantizer.TileLength);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value, nuint index) => value / Vector256.Create(Unsafe.Add(ref scales, index / TileQuantizer.TileLength));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value, nuint index) => value / Vector512.Create(Unsafe.Add(ref scales, index / TileQuantizer.TileLength));
}

/// <summary>The value times a scale of its own.</summary>
internal readonly ref struct ElementProducts(ref float scales) : IScaling
{
    private readonly ref float scales = ref scales;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value, nuint index) => value * Unsafe.Add(ref scales, index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value, nuint index) => value * Vector256.LoadUnsafe(ref scales, index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value, nuint index) => value * Vector512.LoadUnsafe(ref scales, index);
}

/// <summary>The value divided by a scale of its own.</summary>
internal readonly ref struct ElementQuotients(ref float scales) : IScaling
{
    private readonly ref float scales = ref scales;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public float Apply(float value, nuint index) => value / Unsafe.Add(ref scales, index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector256<float> Apply(Vector256<float> value, nuint index) => value / Vector256.LoadUnsafe(ref scales, index);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Vector512<float> Apply(Vector512<float> value, nuint index) => value / Vector512.LoadUnsafe(ref scales, index);
}
