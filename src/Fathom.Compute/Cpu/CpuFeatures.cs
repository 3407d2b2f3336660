// The one gate through which kernels choose their vector width. The environment variable FATHOM_CPU (avx512, avx2, portable)
// narrows the choice, so that every kernel can be tested on one machine; it never widens it beyond what the processor has.
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Fathom.Compute.Cpu;

/// <summary>What the processor offers to kernels. Read once; the JIT folds the fields.</summary>
internal static class CpuFeatures
{
    /// <summary>512-bit vectors are fast.</summary>
    public static readonly bool Avx512 = Vector512.IsHardwareAccelerated && Environment.GetEnvironmentVariable("FATHOM_CPU") is not ("avx2" or "portable");

    /// <summary>256-bit vectors with fused multiply-add are fast.</summary>
    public static readonly bool Avx2 = Vector256.IsHardwareAccelerated && Fma.IsSupported && Environment.GetEnvironmentVariable("FATHOM_CPU") is not "portable";
}
