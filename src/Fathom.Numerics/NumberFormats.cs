// Whole spans between singles and the narrow formats. One driver per direction does the iteration (512-bit vectors, else
// 256-bit, then single values); the operation is a type argument that the compiler folds in.
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Fathom.Numerics;

/// <summary>
/// Element-wise conversions. Widening is exact; narrowing rounds to nearest, ties to even. Source and destination have the
/// same length and may not overlap.
/// </summary>
public static partial class NumberFormats
{
    /// <summary>BF16 bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertBFloat16ToSingle(ReadOnlySpan<ushort> source, Span<float> destination) =>
        Widen<ushort, BFloat16Operation>(source, destination);

    /// <summary>Singles to BF16 bit patterns.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToBFloat16(ReadOnlySpan<float> source, Span<ushort> destination) =>
        Narrow<ushort, BFloat16Operation>(source, destination, false);

    /// <summary>IEEE half bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertHalfToSingle(ReadOnlySpan<ushort> source, Span<float> destination) =>
        Widen<ushort, SmallFloatOperation<HalfLayout>>(source, destination);

    /// <summary>Singles to IEEE half bit patterns; past 65504 comes infinity, or 65504 when saturating.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToHalf(ReadOnlySpan<float> source, Span<ushort> destination, bool saturate = false) =>
        Narrow<ushort, SmallFloatOperation<HalfLayout>>(source, destination, saturate);

    /// <summary>E4M3 bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertE4M3ToSingle(ReadOnlySpan<byte> source, Span<float> destination) =>
        Widen<byte, SmallFloatOperation<E4M3Layout>>(source, destination);

    /// <summary>Singles to E4M3 bit patterns; past 448 comes NaN, or 448 when saturating.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToE4M3(ReadOnlySpan<float> source, Span<byte> destination, bool saturate) =>
        Narrow<byte, SmallFloatOperation<E4M3Layout>>(source, destination, saturate);

    /// <summary>E5M2 bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertE5M2ToSingle(ReadOnlySpan<byte> source, Span<float> destination) =>
        Widen<byte, SmallFloatOperation<E5M2Layout>>(source, destination);

    /// <summary>Singles to E5M2 bit patterns; past 57344 comes infinity, or 57344 when saturating.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToE5M2(ReadOnlySpan<float> source, Span<byte> destination, bool saturate) =>
        Narrow<byte, SmallFloatOperation<E5M2Layout>>(source, destination, saturate);

    /// <summary>Little-endian elements of any float type to singles; doubles are rounded, everything else is exact.</summary>
    /// <param name="type">F32, F64, F16, BF16, F8E4M3, F8E5M2 or F8E8M0 (a power of two, 2^(code - 127); 255 is NaN).</param>
    /// <param name="source">As many bytes as the destination's elements take in that type.</param>
    /// <param name="destination">The values.</param>
    /// <exception cref="ArgumentException">The lengths do not fit, or the type is no float.</exception>
    public static void ConvertToSingle(DType type, ReadOnlySpan<byte> source, Span<float> destination)
    {
        if (source.Length != (long)destination.Length * type.SizeInBytes())
            throw new ArgumentException($"{source.Length} bytes of {type} for {destination.Length} elements");
        switch (type)
        {
            case DType.F32:
                source.CopyTo(MemoryMarshal.AsBytes(destination));
                break;
            case DType.F64:
                for (int i = 0; i < destination.Length; i++)
                    destination[i] = (float)BinaryPrimitives.ReadDoubleLittleEndian(source[(i * 8)..]);
                break;
            case DType.F16: ConvertHalfToSingle(MemoryMarshal.Cast<byte, ushort>(source), destination); break;
            case DType.BF16: ConvertBFloat16ToSingle(MemoryMarshal.Cast<byte, ushort>(source), destination); break;
            case DType.F8E4M3: ConvertE4M3ToSingle(source, destination); break;
            case DType.F8E5M2: ConvertE5M2ToSingle(source, destination); break;
            case DType.F8E8M0:
                for (int i = 0; i < destination.Length; i++) destination[i] = PowerOfTwo(source[i]);
                break;
            default: throw new ArgumentException($"{type} is no float type", nameof(type));
        }
    }

    /// <summary>Singles to little-endian elements of a float type, without saturation.</summary>
    /// <exception cref="ArgumentException">The lengths do not fit, or the type is not F32, F64, F16, BF16, F8E4M3 or F8E5M2.</exception>
    public static void ConvertFromSingle(DType type, ReadOnlySpan<float> source, Span<byte> destination)
    {
        if (destination.Length != (long)source.Length * type.SizeInBytes())
            throw new ArgumentException($"{destination.Length} bytes of {type} for {source.Length} elements");
        switch (type)
        {
            case DType.F32: MemoryMarshal.AsBytes(source).CopyTo(destination); break;
            case DType.F64:
                for (int i = 0; i < source.Length; i++) BinaryPrimitives.WriteDoubleLittleEndian(destination[(i * 8)..], source[i]);
                break;
            case DType.F16: ConvertSingleToHalf(source, MemoryMarshal.Cast<byte, ushort>(destination)); break;
            case DType.BF16: ConvertSingleToBFloat16(source, MemoryMarshal.Cast<byte, ushort>(destination)); break;
            case DType.F8E4M3: ConvertSingleToE4M3(source, destination, saturate: false); break;
            case DType.F8E5M2: ConvertSingleToE5M2(source, destination, saturate: false); break;
            default: throw new ArgumentException($"singles are not written as {type}", nameof(type));
        }
    }

    // Code 0 is 2^-127, a subnormal single; code 255 is NaN.
    private static float PowerOfTwo(byte code) =>
        code == 255 ? float.NaN : BitConverter.UInt32BitsToSingle(code == 0 ? 0x00400000u : (uint)code << 23);

    private static void Widen<TStorage, TOperation>(ReadOnlySpan<TStorage> source, Span<float> destination)
        where TStorage : unmanaged
        where TOperation : struct, IConversion
    {
        CheckLengths(source.Length, destination.Length);
        ref TStorage from = ref MemoryMarshal.GetReference(source);
        ref float to = ref MemoryMarshal.GetReference(destination);
        nuint i = 0, length = (nuint)source.Length;
        if (Vector512.IsHardwareAccelerated)
        {
            for (; i + 16 <= length; i += 16) TOperation.Decode(Load512(ref from, i)).StoreUnsafe(ref to, i);
        }
        else if (Vector256.IsHardwareAccelerated)
        {
            for (; i + 8 <= length; i += 8) TOperation.Decode(Load256(ref from, i)).StoreUnsafe(ref to, i);
        }

        for (; i < length; i++) Unsafe.Add(ref to, i) = TOperation.Decode(ToCode(Unsafe.Add(ref from, i)));
    }

    private static void Narrow<TStorage, TOperation>(ReadOnlySpan<float> source, Span<TStorage> destination, bool saturate)
        where TStorage : unmanaged
        where TOperation : struct, IConversion
    {
        CheckLengths(source.Length, destination.Length);
        ref float from = ref MemoryMarshal.GetReference(source);
        ref TStorage to = ref MemoryMarshal.GetReference(destination);
        nuint i = 0, length = (nuint)source.Length;
        if (Vector512.IsHardwareAccelerated)
        {
            for (; i + 16 <= length; i += 16) Store(TOperation.Encode(Vector512.LoadUnsafe(ref from, i), saturate), ref to, i);
        }
        else if (Vector256.IsHardwareAccelerated)
        {
            for (; i + 8 <= length; i += 8) Store(TOperation.Encode(Vector256.LoadUnsafe(ref from, i), saturate), ref to, i);
        }

        for (; i < length; i++) Unsafe.Add(ref to, i) = FromCode<TStorage>(TOperation.Encode(Unsafe.Add(ref from, i), saturate));
    }

    private static void CheckLengths(int source, int destination)
    {
        if (source != destination) throw new ArgumentException($"{source} elements cannot be converted into {destination}");
    }
}
