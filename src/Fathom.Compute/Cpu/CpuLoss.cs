// Cross-entropy, a row at a time while it stays in the second-level cache: the largest logit; the exponentials, summed and (where
// a gradient is wanted) left in place of the logits; then one multiplication turns them into the gradient. One exponential an
// element, and main memory sees each logit once coming and once going.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="ILossOperators"/> on the worker team.</summary>
internal sealed unsafe class CpuLoss(WorkerTeam team) : ILossOperators
{
    public void CrossEntropy(Tensor logits, Tensor targets, float gradientScale, Tensor losses, Tensor correct)
    {
        const string Op = "cross-entropy";
        Require.Matrix(Op, "logits", logits, logits.Rows, logits.Columns);
        Require.Vector(Op, "targets", targets, logits.Rows, DType.I32);
        Require.Vector(Op, "losses", losses, logits.Rows);
        Require.Writable(Op, "losses", losses);
        if (gradientScale != 0) Require.Writable(Op, "logits", logits);
        if (!correct.IsEmpty) Require.Vector(Op, "correct", correct, logits.Rows, DType.I32);
        var kernel = new Kernel(
            new(logits), logits.Columns, targets.Pointer<int>(), gradientScale, losses.Pointer<float>(), correct.Pointer<int>());
        Ranges.For(team, logits.Rows, Ranges.Grain(8 * logits.Columns), kernel);
    }

    private readonly struct Kernel(RowPointers<float> logits, long columns, int* targets, float gradientScale, float* losses, int* correct)
        : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            for (long m = start; m < end; m++)
            {
                float* row = logits[m];
                int target = targets[m];
                if (target >= columns)
                    Require.That(false, "cross-entropy", $"target {target} of row {m} is outside the vocabulary of {columns}");
                if (target < 0) Ignore(row, m);
                else Row<V>(row, m, target);
            }
        }

        private void Ignore(float* row, long m)
        {
            losses[m] = 0;
            if (correct != null) correct[m] = 0;
            if (gradientScale != 0) new Span<float>(row, (int)columns).Clear();
        }

        private void Row<V>(float* row, long m, int target) where V : struct, ISimd<V>
        {
            float largest = Largest<V>(row), logit = row[target];
            if (correct != null) correct[m] = IsFirst<V>(row, target, largest) ? 1 : 0;
            double sum = gradientScale == 0
                ? RowSum.Of<V, Exponential>(new Exponential(row, largest), columns)
                : RowSum.Of<V, StoredExponential>(new StoredExponential(row, largest), columns);
            losses[m] = (float)(Math.Log(sum) + ((double)largest - logit));
            if (gradientScale == 0) return;
            float probability = (float)(row[target] / sum);
            ElementLoop.Run<V, Scaled>(new Scaled(row, (float)(gradientScale / sum)), 0, columns);
            row[target] = (probability - 1) * gradientScale;
        }

        private float Largest<V>(float* row) where V : struct, ISimd<V>
        {
            V best0 = V.Broadcast(float.NegativeInfinity), best1 = best0, best2 = best0, best3 = best0;
            long i = 0;
            for (; i + 4 * V.Count <= columns; i += 4 * V.Count)
            {
                best0 = V.Larger(V.Load(row + i), best0);
                best1 = V.Larger(V.Load(row + i + V.Count), best1);
                best2 = V.Larger(V.Load(row + i + 2 * V.Count), best2);
                best3 = V.Larger(V.Load(row + i + 3 * V.Count), best3);
            }

            float largest = V.Largest(V.Larger(V.Larger(best0, best1), V.Larger(best2, best3)));
            for (; i < columns; i++)
            {
                if (row[i] > largest) largest = row[i];
            }

            return largest;
        }

        // Whether no logit before the target's equals the largest. A row that begins with NaN has its first place as best.
        private static bool IsFirst<V>(float* row, int target, float largest) where V : struct, ISimd<V>
        {
            if (target == 0 && float.IsNaN(row[0])) return true;
            if (row[target] != largest || float.IsNaN(row[0])) return false;
            long i = 0;
            V wanted = V.Broadcast(largest);
            for (; i + V.Count <= target; i += V.Count)
            {
                if (V.AnyEqual(V.Load(row + i), wanted)) return false;
            }

            for (; i < target; i++)
            {
                if (row[i] == largest) return false;
            }

            return true;
        }
    }

    private readonly struct Exponential(float* row, float largest) : ITerm
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public V At<V>(long i) where V : struct, ILanes<V> => VectorMath.Exp(V.Load(row + i) - V.Broadcast(largest));
    }

    private readonly struct StoredExponential(float* row, float largest) : ITerm
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public V At<V>(long i) where V : struct, ILanes<V>
        {
            V value = VectorMath.Exp(V.Load(row + i) - V.Broadcast(largest));
            value.Store(row + i);
            return value;
        }
    }

    private readonly struct Scaled(float* row, float scale) : IElementBody
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public void Apply<V>(long i) where V : struct, ILanes<V> => (V.Load(row + i) * V.Broadcast(scale)).Store(row + i);
    }
}
