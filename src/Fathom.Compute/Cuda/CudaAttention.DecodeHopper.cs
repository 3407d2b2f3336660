// Decode in three launches on Hopper: into the latent space, attention over splits, and splits joined and taken out of the latent space
// (attention_decode_projections_mma.cu and attention_decode_hopper.cu). Between them lie BF16 queries [B, H, 576] and BF16 means of splits
// with the logarithms of their denominators: 1 KB a head and split, where 384 tokens are 442 KB for 128 heads.
// Floors at V3's sizes and 128 sequences of 4,096 tokens: 146 GFLOP in 0.21 ms at 700 TFLOP/s, 604 MB of cache in 0.14 ms.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cuda;

internal sealed partial class CudaAttention
{
    private readonly Dictionary<HopperDecodeVariant, HopperDecodeKernels> hopperDecodes = [];

    private void DecodeOnHopper(in DecodeSizes sizes, DecodeCall call, in ScaledTensor kvB, in Tensor cache, int splits)
    {
        var variant = HopperDecodeVariant.Choose(kvB.DType, sizes);
        long rows = (long)sizes.Batch * sizes.Heads, parts = rows * splits;
        var memory = new Layout();
        long absorbed = memory.Take(rows * HopperDecodeVariant.QueryLength * sizeof(ushort));
        long means = memory.Take(parts * sizes.Latent * sizeof(ushort)), logarithms = memory.Take(parts * sizeof(float));
        nint workspace = context.Workspace(memory.Bytes);
        call.Absorbed = workspace + (nint)absorbed;
        call.Context = workspace + (nint)means;
        call.Largest = workspace + (nint)logarithms;
        call.QueryLength = HopperDecodeVariant.QueryLength;
        var queries = new HopperMatrix(call.Absorbed, sizeof(ushort), rows, HopperDecodeVariant.QueryLength, HopperDecodeVariant.QueryLength);
        var hopperCall = new DecodeHopperCall
        {
            Queries = TensorMap.OfOperand(queries, HopperDecodeVariant.Tile, rank: 2),
            Keys = TensorMap.OfOperand(HopperMatrix.Of(cache), HopperDecodeVariant.Tile, rank: 2),
            Decode = call,
        };
        HopperDecodeKernels kernels = HopperDecode(variant);
        kernels.Absorb.LaunchWith(variant.AbsorbShape(sizes), call);
        kernels.Attend.LaunchWith(HopperDecodeVariant.AttendShape(sizes, splits, context.Multiprocessors), hopperCall);
        kernels.Project.LaunchWith(HopperDecodeVariant.ProjectShape(sizes), call);
    }

    private HopperDecodeKernels HopperDecode(in HopperDecodeVariant variant)
    {
        if (hopperDecodes.TryGetValue(variant, out HopperDecodeKernels? known)) return known;
        KernelModule projections = context.Module("attention_decode_projections_mma.cu", variant.Absorb, variant.Project);
        Kernel attend = hopperDecodes.Values.FirstOrDefault()?.Attend
            ?? context.Module("attention_decode_hopper.cu", HopperDecodeVariant.Attend).Kernel(HopperDecodeVariant.Attend);
        return hopperDecodes[variant] = new HopperDecodeKernels(projections.Kernel(variant.Absorb), attend, projections.Kernel(variant.Project));
    }

    private sealed record HopperDecodeKernels(Kernel Absorb, Kernel Attend, Kernel Project);

    /// <summary>HopperDecode in attention_decode_hopper.cu, byte for byte.</summary>
    [StructLayout(LayoutKind.Sequential, Size = Bytes)]
    private struct DecodeHopperCall
    {
        public const int Bytes = 512;

        public TensorMap Queries, Keys;
        public DecodeCall Decode;
    }
}
