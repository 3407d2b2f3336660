// The one gate through which every kernel learns how wide its vectors are. The values never change during a run, so the JIT
// folds them; FATHOM_CPU narrows them, which is how a wide machine tests the narrow kernels.
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Fathom.Compute.Cpu.MachineCode;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary>Vector widths that kernels may use. Where neither is set, kernels use 128-bit vectors, which every processor has.</summary>
internal static class CpuFeatures
{
    private static readonly Width Allowed = Parse(Environment.GetEnvironmentVariable("FATHOM_CPU"));

    /// <summary>512-bit vectors.</summary>
    public static readonly bool Avx512 = Vector512.IsHardwareAccelerated && Allowed >= Width.Avx512;

    /// <summary>Dot products of BF16 numbers, in 512-bit vectors.</summary>
    public static readonly bool BFloat16Dots = Vector512.IsHardwareAccelerated && Allowed >= Width.Avx512BFloat16 && BFloat16Code.IsSupported;

    /// <summary>256-bit vectors with fused multiply-add.</summary>
    public static readonly bool Avx2 = Vector256.IsHardwareAccelerated && Fma.IsSupported && Allowed >= Width.Avx2;

    /// <summary>The vectors in use, as people call them.</summary>
    public static string Name =>
        BFloat16Dots ? "AVX-512 with BF16 dot products"
        : Avx512 && Allowed >= Width.Avx512BFloat16 && BFloat16Code.IsForbidden ? "AVX-512 (no BF16 dot products: the system lets no code be written)"
        : Avx512 ? "AVX-512" : Avx2 ? "AVX2" : "128-bit vectors";

    private enum Width
    {
        Portable,
        Avx2,
        Avx512,
        Avx512BFloat16,
    }

    private static Width Parse(string? value) => value switch
    {
        null or "" or "avx512bf16" => Width.Avx512BFloat16,
        "avx512" => Width.Avx512,
        "avx2" => Width.Avx2,
        "portable" => Width.Portable,
        _ => throw new FathomException($"FATHOM_CPU is \"{value}\", expected avx512bf16, avx512, avx2 or portable"),
    };
}
