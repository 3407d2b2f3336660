// Attention on the processor: checks, the choice of tasks, and the launches. The kernels are in Attention/.
using Fathom.Compute.Cpu.Attention;
using Fathom.Compute.Operators;

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
        const string op = "attention.causal_forward";
        CausalShape shape = Check(op, q, kv, kRope, output, batch);
        Require.Writable(op, "output", output);
        if (!logSumExp.IsEmpty)
        {
            Require.Vector(op, "logSumExp", logSumExp, (long)shape.Batch * shape.Heads * shape.Queries);
            Require.Writable(op, "logSumExp", logSumExp);
        }

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
        Tensor q, Tensor kv, Tensor kRope, Tensor output, Tensor logSumExp, Tensor doutput,
        float scale, int batch, Tensor dq, Tensor dkv, Tensor dkRope)
    {
        const string op = "attention.causal_backward";
        CausalShape shape = Check(op, q, kv, kRope, output, batch);
        if (shape.Keys != shape.Queries)
            throw new ArgumentException($"{op}: kv has {shape.Keys} tokens a sequence and q {shape.Queries}; gradients need as many keys as queries");
        long tokens = (long)batch * shape.Queries;
        Require.Vector(op, "logSumExp", logSumExp, tokens * shape.Heads);
        Require.Matrix(op, "doutput", doutput, tokens * shape.Heads, shape.Value);
        Require.Matrix(op, "dq", dq, tokens * shape.Heads, shape.Key);
        Require.Matrix(op, "dkv", dkv, tokens * shape.Heads, shape.Nope + shape.Value);
        Require.Matrix(op, "dkRope", dkRope, tokens, shape.Rope);
        Require.Writable(op, "dq", dq);
        Require.Writable(op, "dkv", dkv);
        Require.Writable(op, "dkRope", dkRope);
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
                Output = new RowView(output),
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

    private static CausalShape Check(string op, in Tensor q, in Tensor kv, in Tensor kRope, in Tensor output, int batch)
    {
        CheckRank(op, "q", q, "[B·T, H, dn + dr]");
        CheckRank(op, "kv", kv, "[B·S, H, dn + dv]");
        CheckRank(op, "output", output, "[B·T, H, dv]");
        if (batch < 1 || q.Shape[0] % batch != 0 || kv.Shape[0] % batch != 0)
            throw new ArgumentException($"{op}: batch is {batch}, expected a positive divisor of the tokens of q {q.Shape} and kv {kv.Shape}");
        if (q.Shape[1] < 1) throw new ArgumentException($"{op}: q is {q}, expected at least one head");
        if (kRope.IsEmpty || kRope.Columns > q.Columns)
            throw new ArgumentException($"{op}: kRope is {kRope}, expected [B·S, dr] with dr at most the {q.Columns} columns of q");
        var shape = new CausalShape(
            batch, checked((int)q.Shape[1]), checked((int)(q.Shape[0] / batch)), checked((int)(kv.Shape[0] / batch)),
            checked((int)(q.Columns - kRope.Columns)), checked((int)kRope.Columns), checked((int)output.Columns));
        if (shape.Keys < shape.Queries)
            throw new ArgumentException($"{op}: kv has {shape.Keys} tokens a sequence, expected at least the {shape.Queries} of q");
        Require.Matrix(op, "q", q, q.Shape[0] * shape.Heads, shape.Key);
        Require.Matrix(op, "kv", kv, kv.Shape[0] * shape.Heads, shape.Nope + shape.Value);
        Require.Matrix(op, "kRope", kRope, kv.Shape[0], shape.Rope);
        Require.Matrix(op, "output", output, q.Shape[0] * shape.Heads, shape.Value);
        return shape;
    }

    private static void CheckRank(string op, string name, in Tensor tensor, string expected)
    {
        if (tensor.Shape.Rank != 3) throw new ArgumentException($"{op}: {name} is {tensor}, expected three dimensions {expected}");
    }

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
