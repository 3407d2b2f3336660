// Sampling on the GPU: a block has a row and goes over it a few times, out of the second-level cache. Greedy choice reads it once.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Compute.Operators;

namespace Fathom.Compute.Cuda;

/// <summary><see cref="ISamplingOperators"/> on a GPU.</summary>
internal sealed class CudaSampling(CudaContext context) : ISamplingOperators
{
    private const int Threads = 1024; // sampling.cu has the same
    private readonly Kernel sample = context.Module("sampling.cu", "sample").Kernel("sample");

    public void Choose(Tensor logits, Tensor rules, Tensor tokens)
    {
        SamplingWeights.Check(logits, rules, tokens);
        sample.Launch(new LaunchShape(logits.Rows, Threads), logits, logits.RowStride, checked((int)logits.Columns), rules, tokens);
    }
}
