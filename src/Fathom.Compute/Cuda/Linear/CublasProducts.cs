// Products through cuBLASLt. Descriptors and the library's choice of kernel are made once for every form of product and kept;
// afterwards a call is one launch, and for E4M3 those before it that bring operands and scales into the library's order.
using System.Runtime.InteropServices;
using Fathom.Compute.Cuda.Hopper;
using Fathom.Compute.Cuda.Interop;
using Fathom.Compute.Cuda.Runtime;
using Fathom.Numerics;

namespace Fathom.Compute.Cuda.Linear;

/// <summary>cuBLASLt on one GPU.</summary>
internal sealed unsafe class CublasProducts
{
    private const long WorkspaceBytes = 32L << 20;

    private readonly CudaContext context;
    private readonly HopperTransposes? transposes;
    private readonly nint handle;
    private readonly DeviceMemory workspace;
    private readonly Dictionary<CublasPlan, Prepared?> prepared = [];
    private readonly Kernel scalesF32, scalesE8M0;

    private CublasProducts(CudaContext context, HopperTransposes? transposes, nint handle)
    {
        this.context = context;
        this.transposes = transposes;
        this.handle = handle;
        workspace = context.Memory.Take(WorkspaceBytes);
        Version = (long)CublasLt.GetVersion();
        const string F32 = "arrange_scales<float>", E8M0 = "arrange_scales<e8m0>";
        KernelModule module = context.Module("gemm_prepare.cu", F32, E8M0);
        (scalesF32, scalesE8M0) = (module.Kernel(F32), module.Kernel(E8M0));
    }

    /// <summary>Version of the library: 130000 for 13.0.0.</summary>
    public long Version { get; }

    /// <summary>The library on a GPU, or null where it is missing or does not start.</summary>
    /// <param name="context">The GPU.</param>
    /// <param name="transposes">Codes of weights transposed; a GPU without has no products of codes here.</param>
    public static CublasProducts? TryCreate(CudaContext context, HopperTransposes? transposes)
    {
        if (!NativeLibraries.Find(NativeLibraries.CublasLt).IsFound) return null;
        context.MakeCurrent();
        return CublasLt.Create(out nint handle) == CublasLt.Success ? new CublasProducts(context, transposes, handle) : null;
    }

    /// <summary>c (+)= a b, if the library has this product.</summary>
    /// <returns>Whether it was launched.</returns>
    public bool TryMultiply(in ScaledTensor a, in ScaledTensor b, in Tensor c, in GemmTraits p, bool accumulate)
    {
        CublasPlan? chosen = CublasPlan.Choose(
            p, a.Elements.RowStride, b.Elements.RowStride, c.RowStride, c.Address % CublasPlan.Alignment == 0, Version, context.Capability);
        if (chosen is not { } plan) return false;
        if (!prepared.TryGetValue(plan, out Prepared? ready)) prepared[plan] = ready = Prepare(plan);
        if (ready is null) return false;
        context.MakeCurrent();
        nint elementsA = a.Elements.Address, elementsB = b.Elements.Address;
        if (plan.A.Type == CudaDataType.E4M3)
        {
            // Only a weight may lie across the depth: its transpose is kept.
            if (p.B.Transposed)
            {
                if (transposes?.Of(b) is not { IsEmpty: false } transposed) return false;
                elementsB = transposed.Address;
            }

            var space = new Space(context.Workspace(SpaceFor(plan.Rows, plan.Depth) + SpaceFor(plan.Columns, plan.Depth)));
            nint scalesA = Arrange(a, p.A, plan.A.ScaleMode, plan.Rows, plan.Depth, ref space);
            nint scalesB = Arrange(b, p.B, plan.B.ScaleMode, plan.Columns, plan.Depth, ref space);
            Check(CublasLt.SetAttribute(ready.Description, MatmulAttribute.ScalesOfA, &scalesB, (nuint)sizeof(nint)), plan);
            Check(CublasLt.SetAttribute(ready.Description, MatmulAttribute.ScalesOfB, &scalesA, (nuint)sizeof(nint)), plan);
        }

        float one = 1, kept = accumulate ? 1 : 0;
        fixed (MatmulAlgorithm* algorithm = &ready.Algorithm)
        {
            Check(
                CublasLt.Multiply(
                    handle, ready.Description, &one, elementsB, ready.LayoutB, elementsA, ready.LayoutA, &kept, c.Address, ready.LayoutC, c.Address, ready.LayoutC,
                    algorithm, workspace.Address, (nuint)WorkspaceBytes, context.Stream.Handle),
                plan);
        }

        return true;
    }

    /// <summary>Scales in the library's order: where they lie, if that is it, or in the workspace.</summary>
    private nint Arrange(in ScaledTensor operand, in GemmSide side, MatmulScaleMode mode, long rows, long depth, ref Space space)
    {
        Tensor scales = operand.Scales;
        long tiles = ScaledTensor.Tiles(depth), outer = mode == MatmulScaleMode.Block128 ? ScaledTensor.Tiles(rows) : rows;
        (long fromOuter, long fromTile) = side.Transposed || side.Layout == ScaleLayout.TransposedColumnTile ? (1L, scales.RowStride) : (scales.RowStride, 1L);
        (long toOuter, long toTile, long paddedTiles) = mode == MatmulScaleMode.Block128 ? (CublasPlan.Padded(tiles, 4), 1L, CublasPlan.Padded(tiles, 4)) : (1L, rows, tiles);
        bool asTheyLie = scales.DType == DType.F32 && scales.Address % CublasPlan.Alignment == 0 && fromTile == toTile && fromOuter == toOuter && paddedTiles == tiles;
        if (asTheyLie) return scales.Address;
        nint to = space.Take(outer * paddedTiles * sizeof(float));
        const int Threads = 256;
        (scales.DType == DType.F32 ? scalesF32 : scalesE8M0).Launch(
            new LaunchShape(LaunchShape.Cover(outer * paddedTiles, Threads), Threads), scales, fromOuter, fromTile, to, toOuter, toTile, outer, tiles, paddedTiles);
        return to;
    }

    private static long SpaceFor(long rows, long depth) => Space.Rounded(rows * CublasPlan.Padded(ScaledTensor.Tiles(depth), 4) * sizeof(float));

    /// <summary>Descriptors of a product and the library's first choice for it; null where it has none.</summary>
    private Prepared? Prepare(in CublasPlan plan)
    {
        context.MakeCurrent();
        Check(CublasLt.CreateDescription(out nint description, CublasLt.Compute32F, CudaDataType.F32), plan);
        if (plan.B.Along) Set(description, MatmulAttribute.TransposeA, CublasLt.Transposed, plan);
        if (!plan.A.Along) Set(description, MatmulAttribute.TransposeB, CublasLt.Transposed, plan);
        bool known = true;
        if (plan.A.ScaleMode != MatmulScaleMode.Scalar)
        {
            // A library of the right version may still not have them. Its choice does not read scales, but wants to know that there are some.
            nint some = workspace.Address;
            Check(CublasLt.SetAttribute(description, MatmulAttribute.ScalesOfA, &some, (nuint)sizeof(nint)), plan);
            Check(CublasLt.SetAttribute(description, MatmulAttribute.ScalesOfB, &some, (nuint)sizeof(nint)), plan);
            known = TrySet(description, MatmulAttribute.ScaleModeOfA, (int)plan.B.ScaleMode) && TrySet(description, MatmulAttribute.ScaleModeOfB, (int)plan.A.ScaleMode);
        }

        nint layoutB = Layout(plan.B.Type, plan.B.Along ? plan.Depth : plan.Columns, plan.B.Along ? plan.Columns : plan.Depth, plan.B.Stride, plan);
        nint layoutA = Layout(plan.A.Type, plan.A.Along ? plan.Depth : plan.Rows, plan.A.Along ? plan.Rows : plan.Depth, plan.A.Stride, plan);
        nint layoutC = Layout(plan.C, plan.Columns, plan.Rows, plan.StrideC, plan);
        Check(CublasLt.CreatePreference(out nint preference), plan);
        ulong bytes = (ulong)WorkspaceBytes;
        Check(CublasLt.SetPreference(preference, MatmulPreference.WorkspaceBytes, &bytes, sizeof(ulong)), plan);
        uint alignment = CublasPlan.Alignment;
        for (MatmulPreference which = MatmulPreference.AlignmentOfA; which <= MatmulPreference.AlignmentOfD; which++)
            Check(CublasLt.SetPreference(preference, which, &alignment, sizeof(uint)), plan);
        MatmulHeuristic best = default;
        int found = 0;
        bool has = known
            && CublasLt.GetHeuristic(handle, description, layoutB, layoutA, layoutC, layoutC, preference, 1, &best, out found) == CublasLt.Success
            && found > 0 && best.State == CublasLt.Success;
        _ = CublasLt.DestroyPreference(preference);
        if (has) return new Prepared(description, layoutA, layoutB, layoutC, best.Algorithm);
        _ = CublasLt.DestroyLayout(layoutA);
        _ = CublasLt.DestroyLayout(layoutB);
        _ = CublasLt.DestroyLayout(layoutC);
        _ = CublasLt.DestroyDescription(description);
        return null;
    }

    private static nint Layout(CudaDataType type, long rows, long columns, long stride, in CublasPlan plan)
    {
        Check(CublasLt.CreateLayout(out nint layout, type, (ulong)rows, (ulong)columns, stride), plan);
        return layout;
    }

    private static void Set(nint description, MatmulAttribute attribute, int value, in CublasPlan plan) =>
        Check(CublasLt.SetAttribute(description, attribute, &value, sizeof(int)), plan);

    private static bool TrySet(nint description, MatmulAttribute attribute, int value) =>
        CublasLt.SetAttribute(description, attribute, &value, sizeof(int)) == CublasLt.Success;

    private static void Check(int status, in CublasPlan plan)
    {
        if (status != CublasLt.Success)
            throw new CudaException($"cuBLASLt failed with {Marshal.PtrToStringUTF8(CublasLt.GetStatusName(status)) ?? $"status {status}"} for {plan}");
    }

    /// <summary>Descriptors and kernel of one form of product; kept as long as the GPU is used.</summary>
    private sealed class Prepared(nint description, nint layoutA, nint layoutB, nint layoutC, MatmulAlgorithm algorithm)
    {
        public MatmulAlgorithm Algorithm = algorithm;

        public nint Description => description;

        public nint LayoutA => layoutA;

        public nint LayoutB => layoutB;

        public nint LayoutC => layoutC;
    }

    /// <summary>Hands out parts of the workspace.</summary>
    private struct Space(nint next)
    {
        private const long Unit = 256;

        public static long Rounded(long bytes) => CublasPlan.Padded(bytes, Unit);

        public nint Take(long bytes)
        {
            nint taken = next;
            next += (nint)Rounded(bytes);
            return taken;
        }
    }
}
