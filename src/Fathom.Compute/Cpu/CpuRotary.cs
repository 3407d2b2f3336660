// The turn of interleaved pairs as two products a vector: x · (c, c) + swapped x · (-s, s). The doubled tables of a token are made
// once and serve all its heads.
using Fathom.Compute.Cpu.Elementwise;
using Fathom.Compute.Operators;
using Fathom.Numerics;

namespace Fathom.Compute.Cpu;

/// <summary><see cref="IRotaryOperators"/> on the worker team.</summary>
internal sealed unsafe class CpuRotary(WorkerTeam team) : IRotaryOperators
{
    public void Rotate(Tensor x, int offset, Tensor cos, Tensor sin, Tensor positions, bool inverse)
    {
        const string Op = "rotary";
        long tokens = positions.Elements, pairs = cos.Columns;
        Require.Vector(Op, "positions", positions, tokens, DType.I32);
        Require.Matrix(Op, "x", x, x.Rows, x.Columns);
        Require.Writable(Op, "x", x);
        Require.Matrix(Op, "sin", sin, cos.Rows, pairs);
        Require.Matrix(Op, "cos", cos, cos.Rows, pairs);
        if (tokens == 0 || x.Rows == 0) return;
        if (x.Rows % tokens != 0) Require.That(false, Op, $"x is {x}, expected the same number of heads for each of {tokens} positions");
        if (offset < 0 || offset + 2 * pairs > x.Columns)
            Require.That(false, Op, $"columns {offset} to {offset + 2 * pairs - 1} are turned, x is {x}");
        long heads = x.Rows / tokens;
        var kernel = new Kernel(new(x), heads, offset, new(cos), new(sin), positions.Pointer<int>(), cos.Rows, pairs, inverse ? -1 : 1);
        Ranges.For(team, tokens, Ranges.Grain(16 * pairs * (heads + 1)), kernel);
    }

    private readonly struct Kernel(
        RowPointers<float> x, long heads, int offset, RowPointers<float> cos, RowPointers<float> sin, int* positions, long tableRows,
        long pairs, float direction) : IRangeKernel
    {
        public void Run<V>(long start, long end) where V : struct, ISimd<V>
        {
            float* c = (float*)Scratch.OfTile.Take(4 * pairs * sizeof(float)), s = c + 2 * pairs;
            for (long token = start; token < end; token++)
            {
                int position = positions[token];
                if ((ulong)position >= (ulong)tableRows)
                    Require.That(false, "rotary", $"position {position} of token {token} is outside the tables of {tableRows} positions");
                Double(cos[position], sin[position], c, s);
                for (long head = 0; head < heads; head++) Turn<V>(x[token * heads + head] + offset, c, s);
            }
        }

        private void Double(float* cosine, float* sine, float* c, float* s)
        {
            for (long p = 0; p < pairs; p++)
            {
                c[2 * p] = c[2 * p + 1] = cosine[p];
                s[2 * p] = -direction * sine[p];
                s[2 * p + 1] = direction * sine[p];
            }
        }

        private void Turn<V>(float* head, float* c, float* s) where V : struct, ISimd<V>
        {
            long i = 0;
            for (; i + V.Count <= 2 * pairs; i += V.Count)
            {
                V pair = V.Load(head + i);
                V.MultiplyAdd(V.SwapPairs(pair), V.Load(s + i), pair * V.Load(c + i)).Store(head + i);
            }

            for (; i < 2 * pairs; i += 2)
            {
                float re = head[i], im = head[i + 1];
                head[i] = float.MultiplyAddEstimate(im, s[i], re * c[i]);
                head[i + 1] = float.MultiplyAddEstimate(re, s[i + 1], im * c[i + 1]);
            }
        }
    }
}
