// From JSON nodes to template values. Numbers written without point and exponent are integers, as in Python's json.
using System.Globalization;
using System.Numerics;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Fathom.Text.Templates;

internal static class JsonValues
{
    private const int MaxDepth = 128;

    /// <summary>Converts a JSON node; <paramref name="what"/> names it in errors.</summary>
    public static object From(JsonNode? node, string what, int depth = 0)
    {
        if (depth > MaxDepth) throw new ChatTemplateException($"{what}: JSON nested more than {MaxDepth} levels deep is not accepted");
        switch (node)
        {
            case null:
                return None.Value;
            case JsonArray array:
                List<object> list = new(array.Count);
                foreach (JsonNode? item in array) list.Add(From(item, what, depth + 1));
                return list;
            case JsonObject properties:
                TemplateDictionary dictionary = new();
                foreach ((string name, JsonNode? value) in Properties(properties, what)) dictionary.Set(name, From(value, what, depth + 1));
                return dictionary;
            default:
                return Scalar(node.AsValue(), what);
        }
    }

    // A property that occurs twice is found only here, because JsonObject reads its properties lazily.
    private static JsonObject Properties(JsonObject properties, string what)
    {
        try
        {
            _ = properties.Count;
            return properties;
        }
        catch (ArgumentException error)
        {
            throw new ChatTemplateException($"{what}: a property occurs twice in a JSON object", error);
        }
    }

    private static object Scalar(JsonValue value, string what)
    {
        switch (value.GetValueKind())
        {
            case JsonValueKind.String:
                return value.TryGetValue(out string? text) ? text : value.ToString();
            case JsonValueKind.True:
                return true;
            case JsonValueKind.False:
                return false;
            case JsonValueKind.Number:
                return Number(value, what);
            default:
                throw new ChatTemplateException($"{what}: a JSON value of kind {value.GetValueKind()} is not accepted");
        }
    }

    private static object Number(JsonValue value, string what)
    {
        string text = value.ToJsonString();
        bool isFloat = text.AsSpan().IndexOfAny('.', 'e', 'E') >= 0 || value.GetValue<object>() is double or float;
        if (text.Length > 1000) throw new ChatTemplateException($"{what}: a number of more than 1000 digits is not accepted");
        return isFloat
            ? double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture)
            : BigInteger.Parse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
    }
}
