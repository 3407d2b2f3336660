// The exponential at every vector width: accurate against F64, and the same bits whatever the width, which is what makes an element's
// value independent of its place in a row.
using System.Runtime.CompilerServices;
using Fathom.Compute.Cpu.Elementwise;
using Xunit;

namespace Fathom.Compute.Tests;

public sealed unsafe class VectorMathTests(ITestOutputHelper output)
{
    [Fact]
    public void Exp_is_accurate_and_the_same_at_every_width()
    {
        const int Count = 1 << 20;
        var x = new float[Count];
        for (int i = 0; i < Count; i++) x[i] = -87 + 175.5f * i / Count;
        float[] y = Exp<Scalar>(x);
        double worst = 0;
        float where = 0;
        for (int i = 0; i < Count; i++)
        {
            double relative = Math.Abs(y[i] / Math.Exp(x[i]) - 1);
            if (relative > worst) (worst, where) = (relative, x[i]);
        }

        output.WriteLine($"largest relative error {worst:E2} at {where:R}");
        Assert.True(worst <= 2e-7, $"{worst:E2} at {where:R}");
        Same<Simd128>(x, y);
        Same<Simd256>(x, y);
        Same<Simd512>(x, y);
    }

    [Fact]
    public void Exp_of_extremes()
    {
        float[] x = [0, -0f, 89, 1e30f, float.PositiveInfinity, -104, -1e30f, float.NegativeInfinity, float.NaN, -float.NaN, -95, 88.7f, -103.2f, 1e-30f, float.Epsilon, -87.4f];
        float[] y = Exp<Scalar>(x);
        Assert.Equal([1, 1, float.PositiveInfinity, float.PositiveInfinity, float.PositiveInfinity, 0, 0, 0, float.NaN, float.NaN], y[..10]);
        for (int i = 10; i < x.Length; i++) Assert.Equal(Math.Exp(x[i]), y[i], Math.Max(1.4e-45, 2e-7 * Math.Exp(x[i])));
        Same<Simd128>(x, y);
        Same<Simd256>(x, y);
        Same<Simd512>(x, y);
    }

    private static void Same<V>(float[] x, float[] expected) where V : struct, ISimd<V>
    {
        float[] actual = Exp<V>(x);
        for (int i = 0; i < x.Length; i++)
        {
            Assert.True(expected[i].Equals(actual[i]), $"{typeof(V).Name}: exp({x[i]:R}) is {actual[i]:R}, {expected[i]:R} one at a time");
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static float[] Exp<V>(float[] x) where V : struct, ILanes<V>
    {
        var y = new float[x.Length];
        fixed (float* from = x, to = y)
        {
            for (int i = 0; i < x.Length; i += V.Count) VectorMath.Exp(V.Load(from + i)).Store(to + i);
        }

        return y;
    }
}
