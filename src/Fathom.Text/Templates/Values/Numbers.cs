// Python's numbers: bool is an int, int has no width, float is float64, and the three compare and mix freely.
// Results are bounded to a few thousand bits, since 9**9**9 must be an error and not an hour.
using System.Globalization;
using System.Numerics;

namespace Fathom.Text.Templates;

internal static class Numbers
{
    private const int MaxBits = 4096;

    /// <summary>Reads a bool or an int.</summary>
    public static bool TryToInteger(object value, out BigInteger integer)
    {
        switch (value)
        {
            case BigInteger big:
                integer = big;
                return true;
            case bool flag:
                integer = flag ? BigInteger.One : BigInteger.Zero;
                return true;
            default:
                integer = default;
                return false;
        }
    }

    /// <summary>Reads a bool, an int (rounded to the nearest float64) or a float.</summary>
    public static bool TryToDouble(object value, out double number)
    {
        if (value is double real)
        {
            number = real;
            return true;
        }

        bool isInteger = TryToInteger(value, out BigInteger integer);
        number = isInteger ? (double)integer : 0;
        return isInteger;
    }

    /// <summary>Compares two numbers of any type; false when one is not a number. NaN compares as unordered (order 2).</summary>
    public static bool TryCompare(object left, object right, out int order)
    {
        if (TryToInteger(left, out BigInteger a) && TryToInteger(right, out BigInteger b))
        {
            order = a.CompareTo(b);
            return true;
        }

        order = 0;
        if (!TryToDouble(left, out double x) || !TryToDouble(right, out double y)) return false;
        order = double.IsNaN(x) || double.IsNaN(y) ? 2 : x.CompareTo(y);
        return true;
    }

    /// <summary>Applies + - * / // % ** to two numbers; null when an operand is not a number.</summary>
    public static object? Apply(RenderRun run, BinaryOperator operation, object left, object right)
    {
        if (TryToInteger(left, out BigInteger a) && TryToInteger(right, out BigInteger b))
        {
            return operation switch
            {
                BinaryOperator.Add => a + b,
                BinaryOperator.Subtract => a - b,
                BinaryOperator.Multiply => Bounded(run, a * b),
                BinaryOperator.Divide => b.IsZero ? throw DivisionByZero(run) : (double)a / (double)b,
                BinaryOperator.FloorDivide => b.IsZero ? throw DivisionByZero(run) : FloorDivide(a, b),
                BinaryOperator.Modulo => b.IsZero ? throw DivisionByZero(run) : a - (FloorDivide(a, b) * b),
                BinaryOperator.Power when b.Sign >= 0 => Power(run, a, b),
                BinaryOperator.Power => a.IsZero ? throw DivisionByZero(run) : Math.Pow((double)a, (double)b),
                _ => null,
            };
        }

        if (!TryToDouble(left, out double x) || !TryToDouble(right, out double y)) return null;
        return operation switch
        {
            BinaryOperator.Add => x + y,
            BinaryOperator.Subtract => x - y,
            BinaryOperator.Multiply => x * y,
            BinaryOperator.Divide => y == 0 ? throw DivisionByZero(run) : x / y,
            BinaryOperator.FloorDivide => y == 0 ? throw DivisionByZero(run) : Math.Floor(x / y),
            BinaryOperator.Modulo => y == 0 ? throw DivisionByZero(run) : FloatModulo(x, y),
            BinaryOperator.Power => FloatPower(run, x, y),
            _ => null,
        };
    }

    /// <summary>Rounds to decimal places as Python's round does: exactly, ties to the even digit.</summary>
    public static double Round(double value, int places)
    {
        if (!double.IsFinite(value) || places > 330) return value;
        if (places < -330) return 0;

        // value = mantissa · 2^exponent, as an exact fraction scaled by 10^places.
        long bits = BitConverter.DoubleToInt64Bits(Math.Abs(value));
        int exponent = (int)(bits >> 52);
        BigInteger numerator = exponent == 0 ? bits : (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000;
        exponent = Math.Max(exponent, 1) - 1075;
        BigInteger denominator = BigInteger.One;
        if (exponent >= 0) numerator <<= exponent;
        else denominator <<= -exponent;
        if (places >= 0) numerator *= BigInteger.Pow(10, places);
        else denominator *= BigInteger.Pow(10, -places);

        BigInteger quotient = BigInteger.DivRem(numerator, denominator, out BigInteger remainder);
        int half = (remainder * 2).CompareTo(denominator);
        if (half > 0 || (half == 0 && !quotient.IsEven)) quotient += 1;
        double rounded = double.Parse(
            string.Create(CultureInfo.InvariantCulture, $"{quotient}e{-places}"), NumberStyles.Float, CultureInfo.InvariantCulture);
        return Math.CopySign(rounded, value);
    }

    private static BigInteger FloorDivide(BigInteger a, BigInteger b)
    {
        BigInteger quotient = BigInteger.DivRem(a, b, out BigInteger remainder);
        return remainder.Sign != 0 && (remainder.Sign < 0) != (b.Sign < 0) ? quotient - 1 : quotient;
    }

    private static double FloatModulo(double x, double y)
    {
        double remainder = x % y;
        return remainder != 0 && (remainder < 0) != (y < 0) ? remainder + y : Math.CopySign(remainder, remainder == 0 ? y : remainder);
    }

    private static BigInteger Power(RenderRun run, BigInteger a, BigInteger b)
    {
        if (a.IsZero || a.IsOne || a == BigInteger.MinusOne) return b.IsZero ? 1 : a * (b.IsEven ? a : 1);
        if (b * a.GetBitLength() > MaxBits) throw TooLarge(run);
        return BigInteger.Pow(a, (int)b);
    }

    private static double FloatPower(RenderRun run, double x, double y)
    {
        if (x == 0 && y < 0) throw DivisionByZero(run);
        double power = Math.Pow(x, y);
        if (double.IsNaN(power) && !double.IsNaN(x) && !double.IsNaN(y)) throw run.Error("a power with a complex result is not covered");
        return power;
    }

    private static BigInteger Bounded(RenderRun run, BigInteger value) =>
        value.GetBitLength() > MaxBits ? throw TooLarge(run) : value;

    private static ChatTemplateException DivisionByZero(RenderRun run) => run.Error("division by zero");

    private static ChatTemplateException TooLarge(RenderRun run) => run.Error($"an integer grew beyond {MaxBits} bits");
}
