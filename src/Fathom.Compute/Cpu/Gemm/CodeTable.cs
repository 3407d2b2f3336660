// The values of 8-bit codes as tables: 256 singles for lookups one by one, and the same in byte-wide halves for processors that
// look up 64 codes by one instruction (AVX-512 VBMI). All values of these formats are BF16, so a code's single has two bytes that
// are not zero; interleaved with zeros they are singles, without a multiplication, subnormals and NaN included.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu.Gemm;

/// <summary>What expanding codes needs to know.</summary>
internal static class CodeTable
{
    /// <summary>2^120: E4M3 bits in a single's place are the value times its inverse.</summary>
    public const float E4M3Rescale = 1.329227995784916e36f;

    /// <summary>Whether kernels may expand 64 codes at a time.</summary>
    public static bool ExpandsMany
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => CpuFeatures.Avx512 && Avx512Vbmi.IsSupported;
    }
}

/// <summary>The values of one format.</summary>
internal static unsafe class CodeTable<TFormat> where TFormat : struct, ICodeFormat
{
    /// <summary>[256], the value of each code.</summary>
    public static readonly float* Values = Allocate();

    private static readonly Vector512<byte> Low0 = Half(0, 16), Low1 = Half(64, 16), High0 = Half(0, 24), High1 = Half(64, 24);

    /// <summary>Reads 64 codes as four vectors, in order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Expand(byte* codes, out Vector512<float> v0, out Vector512<float> v1, out Vector512<float> v2, out Vector512<float> v3)
    {
        // Interleaving works within 128-bit lanes: lane l of vector v comes from dword l of lane v, so that is where its codes go first.
        Vector512<uint> order = Vector512.Create(0u, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        Vector512<byte> code = Avx512F.PermuteVar16x32(Vector512.Load((uint*)codes), order).AsByte();
        Vector512<byte> low = Avx512Vbmi.PermuteVar64x8x2(Low0, code, Low1);
        Vector512<byte> high = Avx512Vbmi.PermuteVar64x8x2(High0, code, High1) | code & Vector512.Create((byte)0x80);
        if (TFormat.NegativeZeroIsNaN)
        {
            Vector512<byte> nan = Vector512.Equals(code, Vector512.Create((byte)0x80));
            low |= nan;
            high |= nan;
        }

        Vector512<ushort> first = Avx512BW.UnpackLow(low, high).AsUInt16(), second = Avx512BW.UnpackHigh(low, high).AsUInt16();
        v0 = Avx512BW.UnpackLow(Vector512<ushort>.Zero, first).AsSingle();
        v1 = Avx512BW.UnpackHigh(Vector512<ushort>.Zero, first).AsSingle();
        v2 = Avx512BW.UnpackLow(Vector512<ushort>.Zero, second).AsSingle();
        v3 = Avx512BW.UnpackHigh(Vector512<ushort>.Zero, second).AsSingle();
    }

    private static float* Allocate()
    {
        var values = (float*)NativeMemory.AlignedAlloc(256 * sizeof(float), 64);
        for (int code = 0; code < 256; code++) values[code] = TFormat.Value((byte)code);
        return values;
    }

    // A byte of the values of 64 codes that are not negative; tables are looked up by a code's lower seven bits.
    private static Vector512<byte> Half(int firstCode, int shift)
    {
        var bytes = new byte[64];
        for (int i = 0; i < bytes.Length; i++) bytes[i] = (byte)(BitConverter.SingleToUInt32Bits(Values[firstCode + i]) >> shift);
        return Vector512.Create(bytes);
    }
}
