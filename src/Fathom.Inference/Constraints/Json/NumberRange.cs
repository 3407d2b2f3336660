// Numbers between two bounds, written digit by digit: while the digits so far are those of a bound, the next may not cross it; once they
// differ, anything goes. Only the plain notation is generated, without exponent. A number that can no longer be finished in range is
// never begun: see Grammar.Need.
using System.Globalization;

namespace Fathom.Inference;

/// <summary>An end of a range.</summary>
internal readonly record struct Bound(decimal Value, bool Exclusive);

/// <summary>Builds numbers of a range.</summary>
internal static class NumberRange
{
    /// <summary>Most digits after the point.</summary>
    public const int MaxFraction = 9;

    private const decimal Largest = 999_999_999_999_999_999m;

    /// <summary>Whether a bound has few enough digits.</summary>
    public static bool Fits(decimal value) => Math.Abs(value) <= Largest && decimal.Round(value, MaxFraction) == value;

    /// <summary>Numbers from <paramref name="low"/> to <paramref name="high"/>, at least one of which is given.</summary>
    public static void Build(GrammarBuilder builder, int from, int to, Bound? low, Bound? high, bool integer)
    {
        Bound least = low ?? new Bound(-Largest, false), most = high ?? new Bound(Largest, false);
        if (integer)
        {
            least = new Bound(decimal.Ceiling(least.Value) + (least.Exclusive && least.Value == decimal.Ceiling(least.Value) ? 1 : 0), false);
            most = new Bound(decimal.Floor(most.Value) - (most.Exclusive && most.Value == decimal.Floor(most.Value) ? 1 : 0), false);
        }

        if (most.Value >= 0) Magnitudes(builder, from, to, least.Value >= 0 ? least : new Bound(0, false), most, integer);
        if (least.Value > 0 || (least.Value == 0 && least.Exclusive)) return;
        int minus = builder.Node();
        builder.Character(from, '-', minus);
        Magnitudes(builder, minus, to, most.Value <= 0 ? most with { Value = -most.Value } : new Bound(0, false), least with { Value = -least.Value }, integer);
    }

    /// <summary>Numbers without sign: those of each length of the whole part by themselves.</summary>
    private static void Magnitudes(GrammarBuilder builder, int from, int to, Bound low, Bound high, bool integer)
    {
        if (low.Value > high.Value) return;
        (string whole, string fraction) lower = Digits(low.Value), upper = Digits(high.Value);
        for (int length = lower.whole.Length; length <= upper.whole.Length && length <= JsonRules.MaxDigits; length++)
        {
            var range = new OneLength(
                builder, to, length, length == lower.whole.Length ? lower.whole + lower.fraction : null,
                length == upper.whole.Length ? upper.whole + upper.fraction : null, low.Exclusive, high.Exclusive, integer ? 0 : MaxFraction);
            builder.Jump(from, range.Start);
        }
    }

    private static (string Whole, string Fraction) Digits(decimal value)
    {
        string[] parts = value.ToString("F" + MaxFraction, CultureInfo.InvariantCulture).Split('.');
        return (parts[0], parts[1]);
    }

    /// <summary>Numbers with whole parts of one length.</summary>
    private sealed class OneLength
    {
        private readonly GrammarBuilder builder;
        private readonly int to;
        private readonly int length;
        private readonly string? low; // digits without point, where numbers of this length can touch the bound
        private readonly string? high;
        private readonly bool lowExclusive;
        private readonly bool highExclusive;
        private readonly int fraction;
        private readonly Dictionary<(int Place, bool AtLow, bool AtHigh), int> nodes = [];

        public OneLength(GrammarBuilder builder, int to, int length, string? low, string? high, bool lowExclusive, bool highExclusive, int fraction)
        {
            (this.builder, this.to, this.length, this.low, this.high) = (builder, to, length, low, high);
            (this.lowExclusive, this.highExclusive, this.fraction) = (lowExclusive, highExclusive, fraction);
            Start = Node(0, low is not null, high is not null);
        }

        public int Start { get; }

        /// <summary>The node before the digit at <paramref name="place"/>; the recursion is as deep as a number is long.</summary>
        private int Node(int place, bool atLow, bool atHigh)
        {
            if (nodes.TryGetValue((place, atLow, atHigh), out int known)) return known;
            int node = nodes[(place, atLow, atHigh)] = builder.Node();
            if (place >= length && InRange(place, atLow, atHigh)) builder.Jump(node, to);
            if (place == length + fraction) return node;
            int digits = node;
            if (place == length)
            {
                digits = builder.Node();
                builder.Character(node, '.', digits);
            }

            for (char digit = place == 0 && length > 1 ? '1' : '0'; digit <= '9'; digit++)
            {
                if ((atLow && digit < low![place]) || (atHigh && digit > high![place])) continue;
                builder.Character(digits, digit, Node(place + 1, atLow && digit == low![place], atHigh && digit == high![place]));
            }

            return node;
        }

        /// <summary>Whether a number may end after so many digits; the digits that are left out are zeros.</summary>
        private bool InRange(int place, bool atLow, bool atHigh)
        {
            if (atLow && (low.AsSpan(place).ContainsAnyExcept('0') || lowExclusive)) return false;
            return !atHigh || high.AsSpan(place).ContainsAnyExcept('0') || !highExclusive;
        }
    }
}
