// The kernels behind one virtual call a task: the vector width is chosen once, when the device is made.

namespace Fathom.Compute.Cpu.Attention;

/// <summary>A tensor's rows as kernels see them: the first element and the distance between rows.</summary>
internal readonly unsafe struct RowView(in Tensor tensor)
{
    private readonly float* data = tensor.Pointer<float>();
    private readonly long stride = tensor.RowStride;

    /// <summary>Elements from one row to the next.</summary>
    public long Stride => stride;

    /// <summary>A row's first element.</summary>
    public float* this[long row] => data + row * stride;
}

/// <summary>What one task of an operator computes. Scratch memory comes from the caller.</summary>
internal abstract unsafe class AttentionKernels
{
    /// <summary>The kernels for the widest vectors that are fast here.</summary>
    public static AttentionKernels Create() =>
        CpuFeatures.Avx512 ? new AttentionKernels<Simd512, System.Runtime.Intrinsics.Vector512<float>>()
        : CpuFeatures.Avx2 ? new AttentionKernels<Simd256, System.Runtime.Intrinsics.Vector256<float>>()
        : new AttentionKernels<Simd128, System.Runtime.Intrinsics.Vector128<float>>();

    /// <summary>Output and log-sum-exp of one block of queries of one head.</summary>
    public abstract void Forward(in ForwardTask task, int tile, float* scratch);

    /// <summary>Gradients that one group of keys of one head gives.</summary>
    public abstract void Backward(in BackwardTask task, int tile, float* scratch);

    /// <summary>Adds the parts of one sequence's query gradients of one head.</summary>
    public abstract void AddQueryGradients(in BackwardTask task, int tile);

    /// <summary>Adds the heads' parts of some rows of the rotary key's gradient.</summary>
    public abstract void AddRotaryGradients(in BackwardTask task, int tile);

    /// <summary>Takes one head's queries into the latent space.</summary>
    public abstract void Absorb(in DecodeTask task, int tile, float* scratch);

    /// <summary>Attends from some heads of one sequence to one split of its cached tokens.</summary>
    public abstract void Attend(in DecodeTask task, int tile, float* scratch);

    /// <summary>Joins the splits of one head and takes the result out of the latent space.</summary>
    public abstract void Project(in DecodeTask task, int tile, float* scratch);
}

/// <summary>The kernels at one vector width.</summary>
internal sealed unsafe partial class AttentionKernels<TSimd, TVector> : AttentionKernels
    where TSimd : struct, ISimd<TVector>
    where TVector : struct
{
    /// <summary>Columns as a product takes them.</summary>
    private static int Padded(int columns) => Scratch.RoundUp(columns, Product<TSimd, TVector>.ColumnStep);
}
