// Kernels of matrix products by their template arguments. There are too many combinations to compile them all, and a run uses a dozen:
// each is compiled (or read from the cache on disk) when it is first asked for.
using System.Globalization;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Linear;

/// <summary>The kernels of one GPU that were asked for so far.</summary>
internal sealed class GemmKernels(CudaContext context)
{
    private readonly Dictionary<Key, Kernel> products = [];
    private readonly Dictionary<DType, Kernel> combinations = [];

    /// <summary>The kernel that computes a product by a plan.</summary>
    public Kernel Of(in GemmTraits p, in GemmPlan plan)
    {
        bool exact = plan.Way is GemmWay.Simt or GemmWay.FewSimt;
        var key = new Key(
            plan.Way, p.A.DType, p.B.DType, p.C, plan.Staged, p.A.Transposed, p.B.Transposed, p.A.IsScaled, p.B.IsScaled,
            exact && p.A.WholeFours && p.B.WholeFours, plan.Tile, plan.Stages);
        if (products.TryGetValue(key, out Kernel? kernel)) return kernel;
        return products[key] = Compile(File(plan.Way), Instance(key));
    }

    /// <summary>The kernel that adds up what blocks found who shared the depth.</summary>
    public Kernel Combination(DType result)
    {
        if (combinations.TryGetValue(result, out Kernel? kernel)) return kernel;
        return combinations[result] = Compile(File(GemmWay.FewTensor), $"combine_splits<{DTypeNames.Of(result)}>");
    }

    /// <summary>The source file of a way.</summary>
    internal static string File(GemmWay way) => way switch
    {
        GemmWay.Tensor => "gemm_tensor.cu",
        GemmWay.Simt => "gemm_simt.cu",
        GemmWay.Codes => "gemm_codes.cu",
        _ => "gemm_few.cu",
    };

    /// <summary>The instantiation of a key, as C++.</summary>
    internal static string Instance(in Key k)
    {
        string types = $"{DTypeNames.Of(k.A)}, {DTypeNames.Of(k.B)}, {DTypeNames.Of(k.C)}", scaled = Word(k.ScaledA || k.ScaledB);
        return k.Way switch
        {
            GemmWay.Tensor => string.Create(CultureInfo.InvariantCulture,
                $"gemm_tensor<{types}, {DTypeNames.Of(k.Staged)}, {Word(k.TransposedA)}, {Word(k.TransposedB)}, {scaled}, {k.Tile}>"),
            GemmWay.Simt => string.Create(CultureInfo.InvariantCulture,
                $"gemm_simt<{types}, {Word(k.TransposedA)}, {Word(k.TransposedB)}, {Word(k.ScaledA)}, {Word(k.ScaledB)}, {Word(k.Vector)}, {k.Tile}>"),
            GemmWay.Codes => string.Create(CultureInfo.InvariantCulture, $"multiply_codes<{DTypeNames.Of(k.C)}, {scaled}, {k.Tile}, {k.Stages}>"),
            GemmWay.FewTensor => string.Create(CultureInfo.InvariantCulture, $"few_rows_tensor<{types}, {scaled}, {k.Tile / 8}>"),
            _ => $"few_rows_simt<{types}, {Word(k.ScaledA)}, {Word(k.ScaledB)}, {Word(k.Vector)}>",
        };
    }

    private static string Word(bool value) => value ? "true" : "false";

    private Kernel Compile(string file, string instance) => context.Module(file, instance).Kernel(instance);

    /// <summary>Template arguments.</summary>
    internal readonly record struct Key(
        GemmWay Way, DType A, DType B, DType C, DType Staged, bool TransposedA, bool TransposedB, bool ScaledA, bool ScaledB, bool Vector, int Tile, int Stages);
}
