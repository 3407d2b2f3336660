// A JSON Schema to a grammar: every subschema becomes one rule, whatever refers to it, so that the grammar is as large as the schema and
// recursion costs nothing. Subschemas wait in a queue, not on the call stack: depth cannot overflow it.
//
// Strict means what OpenAI's and DeepSeek's APIs mean: objects are closed and all their properties required; and what cannot be imposed is
// refused, with the keyword's name and place. Otherwise what cannot be imposed is left out and listed. Properties come in the
// order of the schema.
using System.Runtime.InteropServices;
using System.Text.Json;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>Compiles one schema.</summary>
internal sealed partial class SchemaCompiler(GrammarBuilder builder, JsonRules rules, JsonElement root, bool strict)
{
    /// <summary>Most properties of all objects of a schema together.</summary>
    public const int MaxProperties = 5000;

    /// <summary>Most values of all enums of a schema together.</summary>
    public const int MaxEnumValues = 5000;

    /// <summary>Most bytes of a schema's text.</summary>
    public const int MaxBytes = 1 << 20;

    /// <summary>Most subschemas.</summary>
    public const int MaxSubschemas = 10_000;

    private static readonly string[] Annotations =
        ["$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"];

    private static readonly string[] ObjectKeywords = ["properties", "required", "additionalProperties"];
    private static readonly string[] ArrayKeywords = ["items", "minItems", "maxItems"];
    private static readonly string[] StringKeywords = ["minLength", "maxLength", "pattern", "format"];
    private static readonly string[] NumberKeywords = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
    private static readonly string[] Supported = ["type", .. ObjectKeywords, .. ArrayKeywords, .. StringKeywords, .. NumberKeywords];
    private static readonly string[] AllTypes = ["object", "array", "string", "number", "boolean", "null"];

    private readonly Dictionary<string, int> rulesByPlace = [];
    private readonly Queue<(string Place, JsonElement Schema, int Node)> pending = new();
    private readonly List<string> ignored = [];
    private int properties;
    private int enumValues;

    /// <summary>Keywords that are not imposed, with their places.</summary>
    public IReadOnlyList<string> Ignored => ignored;

    /// <summary>The rule of the whole schema.</summary>
    /// <exception cref="FathomException">It is not a schema, too large, or, where strict, asks for what cannot be imposed.</exception>
    public int Compile()
    {
        if (root.ValueKind == JsonValueKind.Undefined) throw Wrong("#", "there is none");
        if (JsonMarshal.GetRawUtf8Value(root).Length > MaxBytes) throw Wrong("#", $"it is longer than {MaxBytes:N0} bytes; make it smaller");
        try
        {
            int start = Rule("#", root);
            while (pending.TryDequeue(out (string Place, JsonElement Schema, int Node) next)) Fill(next.Place, next.Schema, next.Node);
            return start;
        }
        catch (InvalidOperationException) // of System.Text.Json, for an escape of half a surrogate pair
        {
            throw Wrong("#", "a string in it is not valid Unicode");
        }
    }

    private static FathomException Wrong(string place, string problem) => new($"JSON schema at {place}: {problem}");

    private int Rule(string place, JsonElement schema)
    {
        if (rulesByPlace.TryGetValue(place, out int known)) return known;
        if (rulesByPlace.Count == MaxSubschemas) throw Wrong(place, $"the schema has more than {MaxSubschemas:N0} subschemas; make it smaller");
        int node = rulesByPlace[place] = builder.Node();
        pending.Enqueue((place, schema, node));
        return node;
    }

    private void Fill(string place, JsonElement schema, int node)
    {
        if (strict && schema.ValueKind == JsonValueKind.True) throw Wrong(place, "strict mode wants to know what a value is: 'true' allows anything");
        if (schema.ValueKind == JsonValueKind.True) builder.Jump(node, rules.AnyValue());
        if (schema.ValueKind is JsonValueKind.True or JsonValueKind.False) return; // of false there is no value: the node stays without edges
        if (schema.ValueKind != JsonValueKind.Object) throw Wrong(place, $"a schema is an object, true or false, not {Described(schema)}");

        if (schema.TryGetProperty("$ref", out JsonElement reference)) Reference(place, schema, reference, node);
        else if (schema.TryGetProperty("const", out JsonElement constant)) Literals(place, schema, "const", [constant], node);
        else if (schema.TryGetProperty("enum", out JsonElement values)) Literals(place, schema, "enum", Elements(place, "enum", values), node);
        else if (schema.TryGetProperty("anyOf", out JsonElement choices)) AnyOf(place, schema, "anyOf", choices, node);
        else if (!strict && schema.TryGetProperty("oneOf", out choices)) AnyOf(place, schema, "oneOf", choices, node);
        else if (schema.TryGetProperty("allOf", out JsonElement all) && Elements(place, "allOf", all) is [var single])
        {
            Allow(place, schema, "allOf");
            builder.Jump(node, Rule($"{place}/allOf/0", single));
        }
        else Typed(place, schema, node);
    }

    /// <summary>Refuses or notes every keyword that is neither an annotation nor one of <paramref name="keywords"/>.</summary>
    private void Allow(string place, JsonElement schema, params ReadOnlySpan<string> keywords)
    {
        foreach (JsonProperty property in schema.EnumerateObject())
        {
            if (!Annotations.Contains(property.Name) && !keywords.Contains(property.Name)) Unsupported(place, property.Name, keywords is ["type", ..] ? null : keywords[0]);
        }
    }

    private void Unsupported(string place, string keyword, string? beside = null)
    {
        if (strict) throw Wrong(place, $"keyword '{keyword}'{(beside is null ? "" : $" beside '{beside}'")} is not supported in strict mode; leave it out, or send strict: false");
        ignored.Add($"{place}: {keyword}");
    }

    private void AnyOf(string place, JsonElement schema, string keyword, JsonElement choices, int node)
    {
        Allow(place, schema, keyword);
        JsonElement[] all = Elements(place, keyword, choices);
        for (int i = 0; i < all.Length; i++) builder.Jump(node, Rule($"{place}/{keyword}/{i}", all[i]));
    }

    private void Reference(string place, JsonElement schema, JsonElement reference, int node)
    {
        Allow(place, schema, "$ref");
        string target = reference.ValueKind == JsonValueKind.String ? reference.GetString()! : throw Wrong(place, "$ref is not a string");
        if (target != "#" && !target.StartsWith("#/", StringComparison.Ordinal))
            throw Wrong(place, $"$ref '{Shortened(target)}' is not supported: it must point into the same schema, as '#/$defs/name'");
        JsonElement found = root;
        string canonical = "#";
        foreach (string part in target.Split('/').Skip(1))
        {
            string name = Uri.UnescapeDataString(part).Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal);
            bool exists = found.ValueKind switch
            {
                JsonValueKind.Object => found.TryGetProperty(name, out found),
                JsonValueKind.Array => int.TryParse(name, out int index) && index >= 0 && index < found.GetArrayLength() && (found = found[index]).ValueKind != JsonValueKind.Undefined,
                _ => false,
            };
            if (!exists) throw Wrong(place, $"$ref '{Shortened(target)}' leads nowhere: there is no '{Shortened(name)}' in {Shortened(canonical)}");
            canonical += "/" + Escape(name);
        }

        builder.Jump(node, Rule(canonical, found));
    }

    private void Literals(string place, JsonElement schema, string keyword, JsonElement[] values, int node)
    {
        Allow(place, schema, keyword, "type");
        if ((enumValues += values.Length) > MaxEnumValues) throw Wrong(place, $"the schema's enums have more than {MaxEnumValues:N0} values together; make them smaller");
        string[]? types = schema.TryGetProperty("type", out JsonElement type) ? Types(place, type) : null;
        int end = builder.Node();
        builder.Return(end);
        var literals = new LiteralValues(builder, rules, node, end);
        foreach (JsonElement value in values)
        {
            if (types is null || types.Contains(TypeOf(value)) || (types.Contains("integer") && IsInteger(value))) literals.Add(value);
        }
    }

    private static string TypeOf(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "object",
        JsonValueKind.Array => "array",
        JsonValueKind.String => "string",
        JsonValueKind.Number => "number",
        JsonValueKind.Null => "null",
        _ => "boolean",
    };

    private static bool IsInteger(JsonElement value) => value.ValueKind == JsonValueKind.Number && value.TryGetDecimal(out decimal number) && number == decimal.Truncate(number);

    private void Typed(string place, JsonElement schema, int node)
    {
        Allow(place, schema, Supported);
        if (schema.EnumerateObject().All(p => !Supported.Contains(p.Name)))
        {
            if (strict) throw Wrong(place, "strict mode wants to know what a value is: there is no 'type'");
            builder.Jump(node, rules.AnyValue());
            return;
        }

        foreach (string type in schema.TryGetProperty("type", out JsonElement given) ? Types(place, given) : ImpliedTypes(schema))
        {
            int start = builder.Node();
            builder.Jump(node, start);
            switch (type)
            {
                case "object": Object(place, schema, start); break;
                case "array": Array(place, schema, start); break;
                case "string": String(place, schema, start); break;
                case "number" or "integer": Number(place, schema, type == "integer", start); break;
                default:
                    int end = builder.Node();
                    foreach (string word in type == "null" ? (string[])["null"] : ["true", "false"]) builder.Literal(start, word, end);
                    builder.Return(end);
                    break;
            }
        }
    }

    /// <summary>Without a type: what the other keywords speak of.</summary>
    private static string[] ImpliedTypes(JsonElement schema)
    {
        return
        [
            .. Has(ObjectKeywords) ? ["object"] : (string[])[], .. Has(ArrayKeywords) ? ["array"] : (string[])[],
            .. Has(StringKeywords) ? ["string"] : (string[])[], .. Has(NumberKeywords) ? ["number"] : (string[])[],
        ];

        bool Has(string[] keywords) => schema.EnumerateObject().Any(p => keywords.Contains(p.Name));
    }

    private static string[] Types(string place, JsonElement type)
    {
        string[] types = [.. (type.ValueKind == JsonValueKind.Array ? type.EnumerateArray().ToArray() : [type]).Select(Name).Distinct()];
        return types.Contains("number") ? [.. types.Where(t => t != "integer")] : types;

        string Name(JsonElement t) => t.ValueKind == JsonValueKind.String && t.GetString() is { } name && (AllTypes.Contains(name) || name == "integer")
            ? name
            : throw Wrong(place, $"type {Described(t)} is none of object, array, string, number, integer, boolean, null");
    }

    private void Array(string place, JsonElement schema, int start)
    {
        (int min, int? max) = Bounds(place, schema, "minItems", "maxItems");
        int? item = schema.TryGetProperty("items", out JsonElement items) ? Rule($"{place}/items", items) : null;
        if (strict && item is null) throw Wrong(place, "strict mode wants 'items' in every array");
        rules.Array(start, item, min, max);
    }

    /// <summary>Two keywords that bound a number of items or characters.</summary>
    private static (int Min, int? Max) Bounds(string place, JsonElement schema, string minKeyword, string maxKeyword)
    {
        int min = Size(minKeyword) ?? 0;
        int? max = Size(maxKeyword);
        return max < min ? throw Wrong(place, $"{minKeyword} {min} is above {maxKeyword} {max}") : (min, max);

        int? Size(string keyword)
        {
            if (!schema.TryGetProperty(keyword, out JsonElement value)) return null;
            bool whole = value.ValueKind == JsonValueKind.Number && value.TryGetDecimal(out decimal number) && number == decimal.Truncate(number) && number is >= 0 and <= int.MaxValue;
            return whole ? (int)value.GetDecimal() : throw Wrong(place, $"{keyword} {Described(value)} is not a whole number from 0 to {int.MaxValue:N0}");
        }
    }

    private static JsonElement[] Elements(string place, string keyword, JsonElement array) => array.ValueKind == JsonValueKind.Array && array.GetArrayLength() > 0
        ? [.. array.EnumerateArray()]
        : throw Wrong(place, $"{keyword} is not an array with at least one element");

    private static string Described(JsonElement value) => Shortened(value.GetRawText());

    private static string Shortened(string text) => text.Length <= 60 ? text : $"{text.AsSpan(0, 60)}…";

    private static string Escape(string name) => name.Replace("~", "~0", StringComparison.Ordinal).Replace("/", "~1", StringComparison.Ordinal);
}
