// The values of HiFloat8 codes as tables: 256 singles for lookups one by one, and the same in byte-wide halves for processors that look
// up 64 codes by one instruction (AVX-512 VBMI). All values are BF16, so a code's single has two bytes that are not zero; interleaved
// with zeros they are singles.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>
/// The upper two bytes of the values of codes 0 to 63 and 64 to 127. A kernel takes a copy of the instance, which then lies in registers.
/// </summary>
internal readonly unsafe struct HiFloat8Table
{
    private const byte NaN = 0x80;

    /// <summary>[256], the value of each code.</summary>
    public static readonly float* Values = Allocate();

    /// <summary>The tables.</summary>
    public static readonly HiFloat8Table Instance = new(Bytes(0, 16), Bytes(64, 16), Bytes(0, 24), Bytes(64, 24));

    private readonly Vector512<byte> low0, low1, high0, high1;

    private HiFloat8Table(Vector512<byte> low0, Vector512<byte> low1, Vector512<byte> high0, Vector512<byte> high1) =>
        (this.low0, this.low1, this.high0, this.high1) = (low0, low1, high0, high1);

    /// <summary>Whether <see cref="Expand"/> may be called.</summary>
    public static bool Expands
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => CpuFeatures.Avx512 && Avx512Vbmi.IsSupported;
    }

    /// <summary>Reads 64 codes as four vectors, in order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Expand(byte* codes, out Vector512<float> v0, out Vector512<float> v1, out Vector512<float> v2, out Vector512<float> v3)
    {
        // Interleaving works within 128-bit lanes: lane l of vector v comes from dword l of lane v, so that is where its codes go first.
        Vector512<uint> order = Vector512.Create(0u, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        Vector512<byte> code = Avx512F.PermuteVar16x32(Vector512.Load((uint*)codes), order).AsByte();
        Vector512<byte> nan = Vector512.Equals(code, Vector512.Create(NaN));
        Vector512<byte> low = Avx512Vbmi.PermuteVar64x8x2(low0, code, low1) | nan;
        Vector512<byte> high = Avx512Vbmi.PermuteVar64x8x2(high0, code, high1) | code & Vector512.Create((byte)0x80) | nan;
        Vector512<ushort> first = Avx512BW.UnpackLow(low, high).AsUInt16(), second = Avx512BW.UnpackHigh(low, high).AsUInt16();
        v0 = Avx512BW.UnpackLow(Vector512<ushort>.Zero, first).AsSingle();
        v1 = Avx512BW.UnpackHigh(Vector512<ushort>.Zero, first).AsSingle();
        v2 = Avx512BW.UnpackLow(Vector512<ushort>.Zero, second).AsSingle();
        v3 = Avx512BW.UnpackHigh(Vector512<ushort>.Zero, second).AsSingle();
    }

    private static float* Allocate()
    {
        var values = (float*)NativeMemory.AlignedAlloc(256 * sizeof(float), 64);
        for (int code = 0; code < 256; code++) values[code] = HiFloat8.FromBits((byte)code);
        return values;
    }

    // A byte of the values of 64 codes that are not negative; tables are looked up by a code's lower seven bits.
    private static Vector512<byte> Bytes(int firstCode, int shift)
    {
        var bytes = new byte[64];
        for (int i = 0; i < bytes.Length; i++) bytes[i] = (byte)(BitConverter.SingleToUInt32Bits(Values[firstCode + i]) >> shift);
        return Vector512.Create(bytes);
    }
}
