// Strings and numbers of a schema.
using System.Text.Json;

namespace Fathom.Inference;

internal sealed partial class SchemaCompiler
{
    private void String(string place, JsonElement schema, int start)
    {
        (int min, int? max) = Bounds(place, schema, "minLength", "maxLength");
        bool bounded = min > 0 || max is not null;
        Pattern? pattern = null;
        foreach (string keyword in (string[])["pattern", "format"])
        {
            if (!schema.TryGetProperty(keyword, out JsonElement value)) continue;
            if (value.ValueKind != JsonValueKind.String) throw Wrong(place, $"{keyword} is not a string");
            Pattern? wanted = keyword == "format" ? StringFormats.Find(value.GetString()!) : Parsed(place, value.GetString()!);
            if (wanted is null && keyword == "format" && strict)
                throw Wrong(place, $"format '{Shortened(value.GetString()!)}' is not supported in strict mode; those that are: {StringFormats.Names}");
            if (wanted is null || pattern is not null) Unsupported(place, keyword, pattern is null ? null : "pattern");
            pattern ??= wanted;
        }

        if (pattern is null)
        {
            builder.Jump(start, rules.String(min, max));
            return;
        }

        if (bounded) Unsupported(place, max is null ? "minLength" : "maxLength", schema.TryGetProperty("pattern", out _) ? "pattern" : "format");
        int inside = builder.Node(), finished = builder.Node(), end = builder.Node();
        builder.Character(start, '"', inside);
        pattern.Build(builder, inside, finished);
        builder.Character(finished, '"', end);
        builder.Return(end);
    }

    private Pattern? Parsed(string place, string expression)
    {
        if (PatternParser.TryParse(expression, out Pattern? pattern, out string? problem)) return pattern;
        if (strict) throw Wrong(place, $"pattern '{Shortened(expression)}' is not supported: {problem}");
        return null;
    }

    private void Number(string place, JsonElement schema, bool integer, int start)
    {
        Bound? low = Tighter(Read("minimum", false), Read("exclusiveMinimum", true), upper: false);
        Bound? high = Tighter(Read("maximum", false), Read("exclusiveMaximum", true), upper: true);
        if (low is null && high is null)
        {
            builder.Jump(start, integer ? rules.Integer() : rules.Number());
            return;
        }

        int end = builder.Node();
        NumberRange.Build(builder, start, end, low, high, integer);
        builder.Return(end);

        Bound? Read(string keyword, bool exclusive)
        {
            if (!schema.TryGetProperty(keyword, out JsonElement value)) return null;
            if (value.ValueKind != JsonValueKind.Number) throw Wrong(place, $"{keyword} {Described(value)} is not a number");
            if (value.TryGetDecimal(out decimal number) && NumberRange.Fits(number) && (double)number == value.GetDouble()) return new Bound(number, exclusive);
            if (strict) throw Wrong(place, $"{keyword} {Described(value)} is not supported: bounds have up to {JsonRules.MaxDigits} digits before the point and {NumberRange.MaxFraction} after it");
            ignored.Add($"{place}: {keyword}");
            return null;
        }

        static Bound? Tighter(Bound? a, Bound? b, bool upper)
        {
            if (a is not { } x || b is not { } y) return a ?? b;
            if (x.Value == y.Value) return new Bound(x.Value, x.Exclusive || y.Exclusive);
            return x.Value < y.Value == upper ? x : y;
        }
    }
}
