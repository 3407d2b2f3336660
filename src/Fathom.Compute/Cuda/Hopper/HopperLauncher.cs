using System.Globalization;
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Hopper;

/// <summary>The kernels, as families of template instances.</summary>
internal enum HopperKernel
{
    /// <summary>E4M3, rows by weights [N, K].</summary>
    Fp8Rows,

    /// <summary>E4M3, weight gradient.</summary>
    Fp8Weights,

    /// <summary>BF16, rows by weights [N, K].</summary>
    BFloat16Rows,

    /// <summary>BF16, rows by weights [K, N] (input gradients).</summary>
    BFloat16RowsAcross,

    /// <summary>BF16, weight gradient.</summary>
    BFloat16Weights,
}

/// <summary>Chooses, compiles and launches Hopper's kernels.</summary>
/// <param name="context">The GPU.</param>
/// <param name="bounded">Whether waits inside of kernels are bounded and reported.</param>
internal sealed class HopperLauncher(CudaContext context, bool bounded)
{
    private readonly WaitReport? report = bounded ? new(context) : null;
    private readonly Dictionary<(HopperKernel Kernel, HopperTile Tile, DType Result, bool Accumulate), Kernel> kernels = [];
    private Kernel? singles;

    /// <summary>The tile that is taken whatever the heuristic says.</summary>
    public HopperTile? Forced { get; set; }

    /// <summary>Scales that are powers of two as F32, in the workspace, with their row stride: 4 bytes for 128 codes.</summary>
    public (nint Address, long RowStride) Singles(Tensor powers)
    {
        const string Instance = "arrange_scales<e8m0>";
        const int Threads = 256;
        singles ??= context.Module("gemm_prepare.cu", Instance).Kernel(Instance);
        long rows = powers.Rows, tiles = powers.Columns;
        nint to = context.Workspace(rows * tiles * sizeof(float));
        singles.Launch(new LaunchShape(LaunchShape.Cover(rows * tiles, Threads), Threads), powers, powers.RowStride, 1L, to, tiles, 1L, rows, tiles, tiles);
        return (to, tiles);
    }

    /// <summary>The tile of a product.</summary>
    public HopperTile Choose(HopperTile[] tiles, Tensor result, double depth, int groups, bool grouped, bool accumulate, int elementBytes)
    {
        if (Forced is { } forced && tiles.Contains(forced) && !(forced.Copies && accumulate)) return forced;
        long rows = grouped ? result.Rows : result.Rows / groups;
        int moved = result.DType.SizeInBytes() * (accumulate ? 2 : 1);
        return HopperTile.Choose(tiles, rows, result.Columns, depth, groups, grouped, moved, context.Multiprocessors, elementBytes);
    }

    /// <summary>Launches a product whose operands are described; the result is described here.</summary>
    /// <param name="kind">Which product.</param>
    /// <param name="tile">Its tile.</param>
    /// <param name="d">The result.</param>
    /// <param name="added">What is added to the product: d, another matrix like it, or nothing.</param>
    /// <param name="product">The operands.</param>
    public void Launch(HopperKernel kind, HopperTile tile, Tensor d, Tensor added, ref HopperProduct product)
    {
        bool accumulate = !added.IsEmpty;
        product.D = d.Address;
        product.DStride = d.RowStride;
        if (report is not null) product.Report = report.Clear();
        bool weights = kind is HopperKernel.Fp8Weights or HopperKernel.BFloat16Weights;
        int results = weights ? product.Groups : 1;
        long stride = product.DGroup;
        if (accumulate) product.Old = Boxes(added, tile.Rows);
        if (tile.Copies) product.Stored = Boxes(d, HopperTile.StoreRows);
        long across = LaunchShape.Cover(product.Columns, tile.Columns);
        long most = weights
            ? product.Groups * LaunchShape.Cover(product.Rows, tile.Rows) * across
            : (LaunchShape.Cover(product.Rows, tile.Rows) + product.Groups - 1) * across;
        long blocks = Math.Min(most, (long)context.Multiprocessors * tile.PerMultiprocessor);
        Kernel kernel = Find(kind, tile, d.DType, accumulate);
        kernel.LaunchWith(new LaunchShape(blocks, tile.Threads, tile.SharedBytes(product.Groups, kind == HopperKernel.Fp8Weights)), in product);
        report?.Check(kernel);

        TensorMap Boxes(Tensor matrices, int rows) =>
            TensorMap.OfOperand(HopperMatrix.Of(matrices) with { Rows = matrices.Rows / results, Count = results, MatrixStride = stride }, rows, rank: 3);
    }

    /// <summary>The C++ expression of an instance.</summary>
    internal static string Instance(HopperKernel kind, HopperTile tile, DType result, bool accumulate, bool bounded)
    {
        static string Text(bool value) => value ? "true" : "false";
        string fp8 = string.Create(CultureInfo.InvariantCulture, $"{tile.Teams}, {tile.Waves}, {tile.Columns}, {tile.Stages}, {tile.PerMultiprocessor}");
        string bf16 = string.Create(CultureInfo.InvariantCulture, $"{tile.Columns}, {tile.Stages}, {Text(bounded)}>"), d = DTypeNames.Of(result), add = Text(accumulate);
        return kind switch
        {
            HopperKernel.Fp8Rows => $"fp8_rows<{d}, {add}, {fp8}, {Text(bounded)}>",
            HopperKernel.Fp8Weights => $"fp8_weights<{add}, {fp8}, {Text(tile.Copies)}, {Text(bounded)}>",
            HopperKernel.BFloat16Rows => $"bf16_product<{d}, {add}, false, false, false, {bf16}",
            HopperKernel.BFloat16RowsAcross => $"bf16_product<{d}, {add}, false, true, false, {bf16}",
            _ => $"bf16_product<{d}, {add}, true, true, true, {bf16}",
        };
    }

    private Kernel Find(HopperKernel kind, HopperTile tile, DType result, bool accumulate)
    {
        ref Kernel? kernel = ref CollectionsMarshal.GetValueRefOrAddDefault(kernels, (kind, tile, result, accumulate), out _);
        if (kernel is not null) return kernel;
        string file = kind is HopperKernel.Fp8Rows or HopperKernel.Fp8Weights ? "hopper_gemm.cu" : "hopper_bf16.cu";
        string instance = Instance(kind, tile, result, accumulate, bounded);
        return kernel = context.Module(file, instance).Kernel(instance);
    }
}
