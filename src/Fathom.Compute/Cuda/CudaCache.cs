// One block a token: the row of V3's cache is 576 numbers.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;
using Fathom.Numerics;
using Fathom.Numerics.Quantization;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="ICacheOperators"/> on a GPU. Latent and rotary key are F32 or BF16, both of one type; the cache is any.</summary>
internal sealed class CudaCache : ICacheOperators
{
    private const int CodesThreads = 128; // a warp for each tile of V3's latent
    private static readonly DType[] Types = [DType.F32, DType.BF16];
    private readonly CudaContext context;
    private readonly ElementKernels store, load;
    private readonly Kernel[] storeCodes, loadCodes; // by type of activations

    public CudaCache(CudaContext context)
    {
        this.context = context;
        string[] storing = [.. Types.Select(type => $"cache_store_codes<{DTypeNames.Of(type)}>")], loading = [.. Types.Select(type => $"cache_load_codes<{DTypeNames.Of(type)}>")];
        KernelModule module = context.Module(
            "cache.cu", [.. ElementKernels.Instances("cache_store", 2), .. ElementKernels.Instances("cache_load", 2), .. storing, .. loading]);
        store = new ElementKernels(module, "cache_store", 2);
        load = new ElementKernels(module, "cache_load", 2);
        storeCodes = [.. storing.Select(module.Kernel)];
        loadCodes = [.. loading.Select(module.Kernel)];
    }

    public void Store(Tensor latent, Tensor rope, Tensor slots, Tensor cache)
    {
        LatentRow row = CacheChecks.Check("cache store", Elementwise.ActivationType(latent), latent, rope, slots, cache);
        Require.Writable("cache store", "cache", cache);
        if (row.IsQuantized)
        {
            RequireWords("cache store", cache);
            storeCodes[Array.IndexOf(Types, latent.DType)].Launch(
                new LaunchShape(slots.Elements, CodesThreads), latent, latent.RowStride, rope, rope.RowStride, slots, cache, cache.RowStride, cache.Rows,
                row.Latent, row.Rope, TileQuantizer.SmallestAmax, context.Faults.Address);
            return;
        }

        int width = Width(latent, rope, cache), columns = row.Columns;
        store.For(latent.DType, cache.DType, width).Launch(
            new LaunchShape(slots.Elements, Elementwise.ThreadsOfRow(columns, width)),
            latent, latent.RowStride, rope, rope.RowStride, slots, cache, cache.RowStride, cache.Rows, row.Latent, columns,
            context.Faults.Address);
    }

    public void Load(Tensor cache, Tensor slots, Tensor latent, Tensor rope)
    {
        LatentRow row = CacheChecks.Check("cache load", Elementwise.ActivationType(latent), latent, rope, slots, cache);
        Require.Writable("cache load", "latent", latent);
        Require.Writable("cache load", "rope", rope);
        if (row.IsQuantized)
        {
            RequireWords("cache load", cache);
            loadCodes[Array.IndexOf(Types, latent.DType)].Launch(
                new LaunchShape(slots.Elements, CodesThreads), cache, cache.RowStride, cache.Rows, slots, latent, latent.RowStride, rope, rope.RowStride,
                row.Latent, row.Rope, context.Faults.Address);
            return;
        }

        int width = Width(latent, rope, cache), columns = row.Columns;
        load.For(latent.DType, cache.DType, width).Launch(
            new LaunchShape(slots.Elements, Elementwise.ThreadsOfRow(columns, width)),
            cache, cache.RowStride, cache.Rows, slots, latent, latent.RowStride, rope, rope.RowStride, row.Latent, columns,
            context.Faults.Address);
    }

    /// <summary>Rows of codes hold scales and rotary keys, which are read where they lie.</summary>
    internal static void RequireWords(string op, in Tensor cache) =>
        Require.That((cache.Address | (nint)cache.RowStride) % sizeof(float) == 0, op, $"cache is {cache}, expected rows of codes that begin at multiples of four bytes");

    /// <summary>As wide as the latent, the rotary key and the cache's row allow, so that no access crosses from one to the other.</summary>
    internal static int Width(in Tensor latent, in Tensor rope, in Tensor cache)
    {
        int width = Elementwise.Widest(cache, latent);
        bool allow = Elementwise.Aligned(width, cache.Columns, cache) && Elementwise.Aligned(width, latent.Columns, latent)
            && Elementwise.Aligned(width, rope.Columns, rope);
        return allow ? width : 1;
    }
}
