// Absorbed decode: queries into the latent space, attention over splits of the cached latents, splits joined, out of the latent space.
// Here for any type and size; CudaAttention.DecodeHopper.cs has the way of DeepSeek-V2's and V3's sizes on Hopper.
// Nothing is read back: lengths live on the device, so blocks are launched for the longest sequence that the tables could hold.
// Floors of one token: the codes of kv_b_proj (16.8 MB of FP8 at V3's sizes, 3.9 us at 4.27 TB/s) and 1,152 bytes a cached token in BF16.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

internal sealed partial class CudaAttention
{
    private readonly Dictionary<DecodeVariant, DecodeKernels> decodes = [];

    public void LatentDecode(Tensor q, in ScaledTensor kvB, Tensor cache, Tensor blockTables, Tensor lengths, float scale, Tensor output)
    {
        DType type = ActivationType(AttentionChecks.Decode, q);
        DecodeSizes sizes = AttentionChecks.CheckDecode(type, q, kvB, cache, blockTables, lengths, output);
        if (sizes.Batch == 0 || sizes.Heads == 0 || sizes.Value == 0) return;
        Require.That(
            sizes.Latent <= DecodeVariant.MostLatent, AttentionChecks.Decode,
            $"kvB has {sizes.Latent} columns, expected a latent of at most {DecodeVariant.MostLatent} on a GPU");
        int splits = DecodeVariant.MostSplits(blockTables.Columns * sizes.BlockSize), weightBytes = kvB.DType.SizeInBytes();
        bool codes = cache.DType == DType.F8E4M3, aligned = codes ? (cache.Address | (nint)cache.RowStride) % 16 == 0 : CausalVariant.IsAligned(cache);
        if (codes) CudaCache.RequireWords(AttentionChecks.Decode, cache);
        var call = new DecodeCall(sizes, kvB)
        {
            Q = new(q),
            Output = new(output),
            Cache = new(cache),
            BlockTables = blockTables.Address,
            Lengths = lengths.Address,
            Fault = context.Faults.Address,
            TableColumns = blockTables.Columns,
            CacheBlocks = cache.Shape[0],
            Splits = splits,
            Vectors = sizes.Latent % 4 == 0 && kvB.Elements.RowStride % 4 == 0 && kvB.Elements.Address % (4 * weightBytes) == 0 ? 1 : 0,
            Scale = scale,
        };
        if (HopperDecodeVariant.Fits(context.Capability, type, sizes, kvB, cache, aligned && CausalVariant.IsAligned(q) && CausalVariant.IsAligned(output)))
            DecodeOnHopper(sizes, call, kvB, cache, splits);
        else
            DecodeAnySize(sizes, call, DecodeVariant.Choose(type, kvB.DType, cache.DType, sizes, splits, aligned, context.Multiprocessors, context.SharedBytesPerBlock));
    }

    private void DecodeAnySize(in DecodeSizes sizes, DecodeCall call, in DecodeVariant variant)
    {
        call.QueryLength = variant.TensorCores ? variant.Key : sizes.Key;
        long rows = (long)sizes.Batch * sizes.Heads, parts = rows * call.Splits;
        var memory = new Layout();
        long absorbed = memory.Take(rows * call.QueryLength * (variant.TensorCores ? sizeof(ushort) : sizeof(float)));
        long contexts = memory.Take(parts * sizes.Latent * sizeof(float));
        long largest = memory.Take(parts * sizeof(float)), total = memory.Take(parts * sizeof(float));
        long latents = memory.Take(rows * sizes.Latent * sizeof(float));
        nint workspace = context.Workspace(memory.Bytes);
        call.Absorbed = workspace + (nint)absorbed;
        call.Context = workspace + (nint)contexts;
        call.Largest = workspace + (nint)largest;
        call.Total = workspace + (nint)total;
        call.Latents = workspace + (nint)latents;
        DecodeKernels kernels = Decode(variant);
        kernels.Absorb.LaunchWith(variant.AbsorbShape(sizes), call);
        kernels.Attend.LaunchWith(variant.AttendShape(sizes, call.Splits), call);
        kernels.Join.LaunchWith(new LaunchShape((sizes.Heads, sizes.Batch, 1), DecodeVariant.Threads), call);
        kernels.Project.LaunchWith(variant.ProjectShape(sizes), call);
    }

    private DecodeKernels Decode(in DecodeVariant variant)
    {
        if (decodes.TryGetValue(variant, out DecodeKernels? known)) return known;
        const string join = "decode_join";
        KernelModule attention = context.Module("attention_decode.cu", variant.Attend, join);
        KernelModule projections = context.Module("attention_decode_projections.cu", variant.Absorb, variant.Project);
        return decodes[variant] = new DecodeKernels(
            projections.Kernel(variant.Absorb), attention.Kernel(variant.Attend), attention.Kernel(join), projections.Kernel(variant.Project));
    }

    private sealed record DecodeKernels(Kernel Absorb, Kernel Attend, Kernel Join, Kernel Project);

    /// <summary>Places of buffers in the workspace, each at a multiple of 256 bytes.</summary>
    private struct Layout
    {
        public long Bytes { get; private set; }

        public long Take(long bytes)
        {
            long start = Bytes;
            Bytes += LaunchShape.Cover(bytes, 256) * 256;
            return start;
        }
    }

    /// <summary>Decode in attention_decode.cuh, field by field.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct DecodeCall(in DecodeSizes sizes, in ScaledTensor kvB)
    {
        public RowsArgument Q, Output;
        public readonly RowsArgument Weights = new(kvB.Elements), Scales = kvB.Layout == ScaleLayout.None ? default : new(kvB.Scales);
        public RowsArgument Cache;
        public nint BlockTables, Lengths, Absorbed, Context, Largest, Total, Latents;
        public nint Fault;
        public long TableColumns, CacheBlocks;
        public readonly int Batch = sizes.Batch, Heads = sizes.Heads, Nope = sizes.Nope, Rope = sizes.Rope, Value = sizes.Value, Latent = sizes.Latent, BlockSize = sizes.BlockSize;
        public int QueryLength, Splits;
        public readonly int ScaleKind = kvB.Layout == ScaleLayout.None ? 0 : kvB.Scales.DType == DType.F32 ? 1 : 2;
        public readonly int ScaleRows = kvB.Layout == ScaleLayout.Block ? 1 : 0, ScaleColumns = kvB.Layout == ScaleLayout.Block ? 1 : 0;
        public int Vectors;
        public float Scale;
    }
}
