// One block a token: the row of V3's cache is 576 numbers.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="ICacheOperators"/> on a GPU. Latent and rotary key are F32 or BF16, both of one type; the cache either.</summary>
internal sealed class CudaCache : ICacheOperators
{
    private readonly CudaContext context;
    private readonly ElementKernels store, load;

    public CudaCache(CudaContext context)
    {
        this.context = context;
        KernelModule module = context.Module("cache.cu", [.. ElementKernels.Instances("cache_store", 2), .. ElementKernels.Instances("cache_load", 2)]);
        store = new ElementKernels(module, "cache_store", 2);
        load = new ElementKernels(module, "cache_load", 2);
    }

    public void Store(Tensor latent, Tensor rope, Tensor slots, Tensor cache)
    {
        Check("cache store", latent, rope, slots, cache);
        Require.Writable("cache store", "cache", cache);
        int width = Width(latent, rope, cache), columns = (int)cache.Columns;
        store.For(latent.DType, cache.DType, width).Launch(
            new LaunchShape(slots.Elements, Elementwise.ThreadsOfRow(columns, width)),
            latent, latent.RowStride, rope, rope.RowStride, slots, cache, cache.RowStride, cache.Rows, (int)latent.Columns, columns,
            context.Faults.Address);
    }

    public void Load(Tensor cache, Tensor slots, Tensor latent, Tensor rope)
    {
        Check("cache load", latent, rope, slots, cache);
        Require.Writable("cache load", "latent", latent);
        Require.Writable("cache load", "rope", rope);
        int width = Width(latent, rope, cache), columns = (int)cache.Columns;
        load.For(latent.DType, cache.DType, width).Launch(
            new LaunchShape(slots.Elements, Elementwise.ThreadsOfRow(columns, width)),
            cache, cache.RowStride, cache.Rows, slots, latent, latent.RowStride, rope, rope.RowStride, (int)latent.Columns, columns,
            context.Faults.Address);
    }

    /// <summary>As wide as the latent, the rotary key and the cache's row allow, so that no access crosses from one to the other.</summary>
    internal static int Width(in Tensor latent, in Tensor rope, in Tensor cache)
    {
        int width = Elementwise.Widest(cache, latent);
        bool allow = Elementwise.Aligned(width, cache.Columns, cache) && Elementwise.Aligned(width, latent.Columns, latent)
            && Elementwise.Aligned(width, rope.Columns, rope);
        return allow ? width : 1;
    }

    private static void Check(string op, in Tensor latent, in Tensor rope, in Tensor slots, in Tensor cache)
    {
        DType type = Elementwise.ActivationType(latent);
        Require.Vector(op, "slots", slots, slots.Elements, DType.I32);
        Require.Matrix(op, "cache", cache, cache.Rows, cache.Columns, Elementwise.ActivationType(cache));
        Require.Matrix(op, "latent", latent, slots.Elements, latent.Columns, type);
        Require.Matrix(op, "rope", rope, slots.Elements, cache.Columns - latent.Columns, type);
    }
}
