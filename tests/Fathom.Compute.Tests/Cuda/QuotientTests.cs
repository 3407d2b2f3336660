// Why three instructions divide on the device (Divisor of formats.cuh): q = x r, then q - r (s q - x), where r is the correctly rounded 1 / s.
// Before its last rounding that is the quotient to a relative 2^-46. So it can round another way than the quotient only beside the middle
// between two singles, a number M of 25 bits; and a code can tell only where one of the two singles is the middle between two codes,
// m of at most 8 bits, which leaves M = m 2^17 + 1 or - 1 (for m = 2^7 from below: m 2^18 - 1). With whole numbers X and S for the
// mantissas, X 2^j = S M + D, where |D| < 2^49 2^-46 = 8. For each m and D, S is known modulo 2^17, so all cases can be gone through.
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class QuotientTests(ITestOutputHelper output)
{
    private const int MiddleBits = 8, Shift = 25 - MiddleBits;
    private const long Least = 1 << 23, End = 1 << 24;

    [Fact]
    public void Quotients_that_come_close_to_the_middle_between_singles_are_rounded_as_by_division()
    {
        const int Reach = 64; // eight times what the bound asks for
        long cases = 0, byReciprocal = 0;
        for (int side = -1; side <= 1; side += 2)
        {
            for (long m = 1 << (MiddleBits - 1); m < 1 << MiddleBits; m++)
            {
                long middle = (m << Shift) + side;
                if (middle < End) middle = (m << (Shift + 1)) + side;
                for (long d = -Reach; d <= Reach; d++)
                {
                    for (long a = (Least >> Shift) - 1; a <= (End >> Shift) + 1; a++)
                    {
                        long s = (a << Shift) - side * d, product = s * middle + d;
                        if (s is < Least or >= End) continue;
                        long x = product >> (int)long.TrailingZeroCount(product);
                        if (x >= End) continue;
                        while (x < Least) x <<= 1;
                        cases++;
                        float exact = (float)x / s, quotient = Quotient(x, s);
                        Assert.True(exact == quotient, $"{x:x} / {s:x} is {exact:r}, not {quotient:r}");
                        if (x * (1 / (float)s) != exact) byReciprocal++;
                    }
                }
            }
        }

        output.WriteLine($"{cases} quotients, all as by division; a product with the reciprocal is off in {byReciprocal}");
        Assert.True(cases > 10_000 && byReciprocal > 1000, $"{cases} cases, {byReciprocal} off");
    }

    /// <summary>The quotient of a format's scale: every mantissa over each target's odd part, which the power of two beside it does not change.</summary>
    [Theory]
    [InlineData(7)]
    [InlineData(127)]
    [InlineData(15)]
    public void Every_mantissa_over_a_scale_target_is_rounded_as_by_division(int target)
    {
        for (long x = Least; x < End; x++) Assert.True(x / (float)target == Quotient(x, target), $"{x:x} / {target}");
        output.WriteLine($"{End - Least} mantissas over {target}, all as by division");
    }

    private static float Quotient(float x, float s)
    {
        float reciprocal = 1 / s, q = x * reciprocal;
        return MathF.FusedMultiplyAdd(-reciprocal, MathF.FusedMultiplyAdd(s, q, -x), q);
    }
}
