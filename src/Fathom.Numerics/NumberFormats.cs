// Whole spans between singles and the narrow formats. One driver per direction does the iteration (Lanes.cs); format and storage
// are type arguments that the compiler folds in. Bytes are widened by table where the processor can (ByteTable.cs).
using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Fathom.Numerics;

/// <summary>
/// Element-wise conversions. Widening is exact; narrowing rounds to nearest, ties to even (HiFloat8: away from zero). Source and destination have the
/// same length and may not overlap.
/// </summary>
public static partial class NumberFormats
{
    /// <summary>BF16 bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertBFloat16ToSingle(ReadOnlySpan<ushort> source, Span<float> destination) =>
        Widen<BFloat16Codec, WordCodes>(MemoryMarshal.AsBytes(source), destination);

    /// <summary>Singles to BF16 bit patterns.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToBFloat16(ReadOnlySpan<float> source, Span<ushort> destination) =>
        Narrow<BFloat16Codec, WordCodes>(source, MemoryMarshal.AsBytes(destination), false);

    /// <summary>IEEE half bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertHalfToSingle(ReadOnlySpan<ushort> source, Span<float> destination) =>
        Widen<SmallFloatCodec<HalfLayout>, WordCodes>(MemoryMarshal.AsBytes(source), destination);

    /// <summary>Singles to IEEE half bit patterns; past 65504 comes infinity, or 65504 when saturating.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToHalf(ReadOnlySpan<float> source, Span<ushort> destination, bool saturate = false) =>
        Narrow<SmallFloatCodec<HalfLayout>, WordCodes>(source, MemoryMarshal.AsBytes(destination), saturate);

    /// <summary>E4M3 bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertE4M3ToSingle(ReadOnlySpan<byte> source, Span<float> destination) =>
        WidenBytes<SmallFloatCodec<E4M3Layout>>(source, destination);

    /// <summary>Singles to E4M3 bit patterns; past 448 comes NaN, or 448 when saturating.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToE4M3(ReadOnlySpan<float> source, Span<byte> destination, bool saturate) =>
        Narrow<SmallFloatCodec<E4M3Layout>, ByteCodes>(source, destination, saturate);

    /// <summary>E5M2 bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertE5M2ToSingle(ReadOnlySpan<byte> source, Span<float> destination) =>
        WidenBytes<SmallFloatCodec<E5M2Layout>>(source, destination);

    /// <summary>Singles to E5M2 bit patterns; past 57344 comes infinity, or 57344 when saturating.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToE5M2(ReadOnlySpan<float> source, Span<byte> destination, bool saturate) =>
        Narrow<SmallFloatCodec<E5M2Layout>, ByteCodes>(source, destination, saturate);

    /// <summary>HiFloat8 bit patterns to singles.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertHiF8ToSingle(ReadOnlySpan<byte> source, Span<float> destination) =>
        WidenBytes<HiFloat8Codec>(source, destination);

    /// <summary>Singles to HiFloat8 bit patterns, ties away from zero; from 40960 on comes infinity, or 32768 when saturating.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertSingleToHiF8(ReadOnlySpan<float> source, Span<byte> destination, bool saturate) =>
        Narrow<HiFloat8Codec, ByteCodes>(source, destination, saturate);

    /// <summary>Bytes that packed E5M6 values take: two values in three bytes, an odd last one in two.</summary>
    public static long PackedE5M6Bytes(long values) => (3 * values + 1) / 2;

    /// <summary>Packed E5M6 values to singles.</summary>
    /// <param name="source"><see cref="PackedE5M6Bytes"/> of the destination's length: of each three bytes the low 12 bits are the first value, little-endian.</param>
    /// <param name="destination">The values.</param>
    /// <exception cref="ArgumentException">The lengths do not fit.</exception>
    public static void ConvertPackedE5M6ToSingle(ReadOnlySpan<byte> source, Span<float> destination) =>
        Widen<SmallFloatCodec<E5M6Layout>, PackedCodes>(source, destination);

    /// <summary>Singles to packed E5M6 values; past 65024 comes infinity, or 65024 when saturating. The spare bits of an odd end are zero.</summary>
    /// <exception cref="ArgumentException">The destination is not <see cref="PackedE5M6Bytes"/> long.</exception>
    public static void ConvertSingleToPackedE5M6(ReadOnlySpan<float> source, Span<byte> destination, bool saturate) =>
        Narrow<SmallFloatCodec<E5M6Layout>, PackedCodes>(source, destination, saturate);

    /// <summary>E4M3 bit patterns to BF16 ones; exact.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertE4M3ToBFloat16(ReadOnlySpan<byte> source, Span<ushort> destination) =>
        WidenToBFloat16<SmallFloatCodec<E4M3Layout>>(source, destination);

    /// <summary>E5M2 bit patterns to BF16 ones; exact.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertE5M2ToBFloat16(ReadOnlySpan<byte> source, Span<ushort> destination) =>
        WidenToBFloat16<SmallFloatCodec<E5M2Layout>>(source, destination);

    /// <summary>HiFloat8 bit patterns to BF16 ones; exact.</summary>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void ConvertHiF8ToBFloat16(ReadOnlySpan<byte> source, Span<ushort> destination) =>
        WidenToBFloat16<HiFloat8Codec>(source, destination);

    /// <summary>Little-endian elements of any float type to singles; doubles are rounded, everything else is exact.</summary>
    /// <param name="type">F32, F64, F16, BF16, F8E4M3, F8E5M2, HiF8 or F8E8M0.</param>
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
                for (int i = 0; i < destination.Length; i++) destination[i] = ScaleE8M0.FromBits(source[i]);
                break;
            case DType.HiF8: ConvertHiF8ToSingle(source, destination); break;
            default: throw new ArgumentException($"{type} is no float type", nameof(type));
        }
    }

    /// <summary>Singles to little-endian elements of a float type, without saturation; F8E8M0 rounds up.</summary>
    /// <exception cref="ArgumentException">The lengths do not fit, or the type is no float.</exception>
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
            case DType.F8E8M0:
                for (int i = 0; i < source.Length; i++) destination[i] = ScaleE8M0.FromSingle(source[i]).Bits;
                break;
            case DType.HiF8: ConvertSingleToHiF8(source, destination, saturate: false); break;
            default: throw new ArgumentException($"singles are not written as {type}", nameof(type));
        }
    }

    private static void Widen<TCodec, TStorage>(ReadOnlySpan<byte> source, Span<float> destination)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        Check((long)TStorage.Bytes((nuint)destination.Length) == source.Length, source.Length, destination.Length);
        Lanes.Decode<TCodec, TStorage, Unscaled>(ref MemoryMarshal.GetReference(source), 0, ref MemoryMarshal.GetReference(destination), (nuint)destination.Length, default);
    }

    private static void Narrow<TCodec, TStorage>(ReadOnlySpan<float> source, Span<byte> destination, bool saturate)
        where TCodec : struct, ICodec
        where TStorage : struct, ICodeStorage
    {
        Check((long)TStorage.Bytes((nuint)source.Length) == destination.Length, source.Length, destination.Length);
        Lanes.Encode<TCodec, TStorage, Unscaled>(
            ref MemoryMarshal.GetReference(source), ref MemoryMarshal.GetReference(destination), 0, (nuint)source.Length, default, saturate);
    }

    private static void WidenBytes<TCodec>(ReadOnlySpan<byte> source, Span<float> destination) where TCodec : struct, ICodec
    {
        Check(source.Length == destination.Length, source.Length, destination.Length);
        Lanes.DecodeBytes<TCodec, Unscaled>(ref MemoryMarshal.GetReference(source), ref MemoryMarshal.GetReference(destination), (nuint)source.Length, default);
    }

    private static void WidenToBFloat16<TCodec>(ReadOnlySpan<byte> source, Span<ushort> destination) where TCodec : struct, ICodec
    {
        Check(source.Length == destination.Length, source.Length, destination.Length);
        Lanes.DecodeToBFloat16<TCodec>(ref MemoryMarshal.GetReference(source), ref MemoryMarshal.GetReference(MemoryMarshal.AsBytes(destination)), (nuint)source.Length);
    }

    private static void Check(bool fits, int source, int destination)
    {
        if (!fits) throw new ArgumentException($"{source} elements cannot be converted into {destination}: the lengths do not fit");
    }
}
