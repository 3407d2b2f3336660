// Sampling on the GPU: a block has a row and goes over it a few times, out of the second-level cache. Greedy choice reads it once.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="ISamplingOperators"/> on a GPU.</summary>
internal sealed class CudaSampling : ISamplingOperators
{
    private const int Threads = 1024; // sampling.cu has the same
    private readonly CudaContext context;
    private readonly Kernel adjust, sample;

    public CudaSampling(CudaContext context)
    {
        this.context = context;
        KernelModule module = context.Module("sampling.cu", "adjust", "sample");
        (adjust, sample) = (module.Kernel("adjust"), module.Kernel("sample"));
    }

    public void Adjust(Tensor logits, Tensor rows, Tensor changes, Tensor masks)
    {
        SamplingWeights.CheckAdjust(logits, rows, changes, masks);
        adjust.Launch(
            new LaunchShape(rows.Rows, Threads), logits, logits.RowStride, logits.Rows, checked((int)logits.Columns), rows,
            changes, changes.IsEmpty ? 0L : changes.Rows, masks, masks.IsEmpty ? 0L : masks.Rows, masks.IsEmpty ? 0L : masks.Columns, context.Faults.Address);
    }

    public void Choose(Tensor logits, Tensor rows, Tensor rules, Tensor tokens)
    {
        SamplingWeights.Check(logits, rows, rules, tokens);
        sample.Launch(
            new LaunchShape(tokens.Elements, Threads), logits, logits.RowStride, logits.Rows, checked((int)logits.Columns), rows, rules, tokens, context.Faults.Address);
    }
}
