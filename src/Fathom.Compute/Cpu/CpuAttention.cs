// Attention on the processor: checks, the choice of tasks, and the launches. The kernels are in Attention/.
using Fathom.Compute.Cpu.Attention;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary>
/// Blocked attention over a worker team. Calls take turns: the scratch memory is one per device. Results depend neither on the
/// number of threads nor on the order of tasks.
/// </summary>
internal sealed unsafe partial class CpuAttention(WorkerTeam team) : IAttentionOperators
{
    private readonly AttentionKernels kernels = AttentionKernels.Create();
    private readonly Scratch scratch = new(team.Size);
    private readonly Lock oneCallAtATime = new();

    public void CausalForward(Tensor q, Tensor kv, Tensor kRope, float scale, int batch, Tensor output, Tensor logSumExp)
    {
        CausalShape shape = Shape(AttentionChecks.CheckForward(DType.F32, q, kv, kRope, batch, output, logSumExp));
        var task = new ForwardTask
        {
            Shape = shape,
            QueryBlock = shape.QueryBlock(team.Size),
            Q = new RowView(q),
            Kv = new RowView(kv),
            KRope = new RowView(kRope),
            Output = new RowView(output),
            LogSumExp = logSumExp.IsEmpty ? null : logSumExp.Pointer<float>(),
            Scale = scale,
        };
        lock (oneCallAtATime)
        {
            scratch.Reserve(new ForwardBuffers(null, shape, task.QueryBlock).Floats, 0);
            team.For(task.Tiles, new ForwardJob(kernels, scratch, task));
        }
    }

    public void CausalBackward(
        Tensor q, Tensor kv, Tensor kRope, in ScaledTensor output, Tensor logSumExp, Tensor doutput,
        float scale, int batch, Tensor dq, Tensor dkv, Tensor dkRope)
    {
        CausalShape shape = Shape(AttentionChecks.CheckBackward(DType.F32, q, kv, kRope, output, logSumExp, doutput, batch, dq, dkv, dkRope));
        Tensor values = AttentionChecks.Values(output);
        long tokens = (long)batch * shape.Queries;
        if (tokens == 0) return;
        lock (oneCallAtATime)
        {
            scratch.Reserve(new BackwardBuffers(null, shape).Floats, BackwardTask.SharedFloats(shape));
            var task = new BackwardTask
            {
                Shape = shape,
                Q = new RowView(q),
                Kv = new RowView(kv),
                KRope = new RowView(kRope),
                Output = new RowView(values),
                LogSumExp = logSumExp.Pointer<float>(),
                Doutput = new RowView(doutput),
                Scale = scale,
                Dq = new RowView(dq),
                Dkv = new RowView(dkv),
                DkRope = new RowView(dkRope),
                Shared = scratch.Shared,
            };
            team.For(task.Tiles, new BackwardJob(kernels, scratch, task));
            if (shape.KeyGroups > 1) team.For(shape.Batch * shape.Heads, new QueryGradientJob(kernels, task));
            team.For((int)((tokens + BackwardTask.RotaryRows - 1) / BackwardTask.RotaryRows), new RotaryGradientJob(kernels, task));
        }
    }

    private static CausalShape Shape(in CausalSizes sizes) =>
        new(sizes.Batch, sizes.Heads, sizes.Queries, sizes.Keys, sizes.Nope, sizes.Rope, sizes.Value);

    private readonly struct ForwardJob(AttentionKernels kernels, Scratch scratch, ForwardTask task) : ITileJob
    {
        private readonly ForwardTask task = task;

        public void Run(int tile, int worker) => kernels.Forward(task, tile, scratch.Worker(worker));
    }

    private readonly struct BackwardJob(AttentionKernels kernels, Scratch scratch, BackwardTask task) : ITileJob
    {
        private readonly BackwardTask task = task;

        public void Run(int tile, int worker) => kernels.Backward(task, tile, scratch.Worker(worker));
    }

    private readonly struct QueryGradientJob(AttentionKernels kernels, BackwardTask task) : ITileJob
    {
        private readonly BackwardTask task = task;

        public void Run(int tile, int worker) => kernels.AddQueryGradients(task, tile);
    }

    private readonly struct RotaryGradientJob(AttentionKernels kernels, BackwardTask task) : ITileJob
    {
        private readonly BackwardTask task = task;

        public void Run(int tile, int worker) => kernels.AddRotaryGradients(task, tile);
    }
}
