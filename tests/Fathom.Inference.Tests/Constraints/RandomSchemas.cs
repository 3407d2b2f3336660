// Random schemas, and random documents that they allow: with properties in the schema's order, and every freedom of spelling that is left.
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Fathom.Inference.Tests;

/// <summary>Draws schemas and documents.</summary>
internal sealed class RandomSchemas(int seed, bool strict)
{
    private static readonly string[] Names = ["a", "b", "name", "names", "value", "é", "quo\"te", "back\\slash", "", "日本", "x y", "😀", "tab\t"];
    private static readonly string[] Formats = ["email", "hostname", "ipv4", "ipv6", "uuid", "date", "time", "date-time"];
    private static readonly string[] Patterns = ["^[a-c]+$", "^(?:ab|cd)*x?$", @"^\d{3}-\d{4}$", "^[^a-z]{2,4}$", @"^\w+\s\S$", "b+", "^a|b"];
    private readonly Random random = new(seed);

    /// <summary>A schema with definitions that may refer to themselves.</summary>
    public JsonElement Schema()
    {
        JsonObject root = Object(0);
        root["$defs"] = new JsonObject
        {
            ["leaf"] = Value(3),
            ["node"] = Closed(new JsonObject
            {
                ["value"] = Value(3),
                ["next"] = new JsonObject { ["anyOf"] = new JsonArray(new JsonObject { ["$ref"] = "#/$defs/node" }, new JsonObject { ["type"] = "null" }) },
                ["children"] = new JsonObject { ["type"] = "array", ["items"] = new JsonObject { ["$ref"] = "#/$defs/node" }, ["maxItems"] = 2 },
            }),
        };
        return JsonSerializer.SerializeToElement(root);
    }

    private bool Coin(double probability = 0.5) => random.NextDouble() < probability;

    private JsonObject Value(int depth)
    {
        switch (random.Next(depth < 3 ? 12 : 8))
        {
            case 0: return new JsonObject { ["type"] = "boolean", ["description"] = "yes or no" };
            case 1: return new JsonObject { ["enum"] = new JsonArray("red", "re", "green", 1, 12, null, true, new JsonObject { ["k"] = new JsonArray(1, 2) }) };
            case 2: return new JsonObject { ["const"] = "fi\"xed" };
            case 3: return Number();
            case 4: return new JsonObject { ["type"] = "integer" };
            case 5: return new JsonObject { ["type"] = new JsonArray("string", "null") };
            case 6: return Coin() ? new JsonObject { ["type"] = "string", ["format"] = Formats[random.Next(Formats.Length)] } : new JsonObject { ["type"] = "string", ["pattern"] = Patterns[random.Next(Patterns.Length - (strict ? 1 : 0))] };
            case 7:
                int min = random.Next(4);
                var text = new JsonObject { ["type"] = "string", ["minLength"] = min };
                if (Coin()) text["maxLength"] = min + random.Next(5);
                return text;
            case 8: return new JsonObject { ["anyOf"] = new JsonArray(Value(depth + 1), Object(depth + 1), Object(depth + 1)) };
            case 9:
                int least = random.Next(3);
                var array = new JsonObject { ["type"] = "array", ["items"] = Value(depth + 1), ["minItems"] = least };
                if (Coin()) array["maxItems"] = least + random.Next(3);
                return array;
            case 10: return new JsonObject { ["$ref"] = Coin() ? "#/$defs/leaf" : "#/$defs/node" };
            default: return Object(depth + 1);
        }
    }

    private JsonObject Number()
    {
        decimal low = random.Next(-2000, 2000) / (Coin() ? 1m : 16m), high = low + random.Next(1, 500) / (Coin() ? 1m : 10m);
        var number = new JsonObject { ["type"] = Coin() ? "number" : "integer" };
        if ((string?)number["type"] == "integer") high = Math.Max(high, low + 3);
        if (Coin(0.7)) number[Coin() ? "minimum" : "exclusiveMinimum"] = low;
        if (Coin(0.7)) number[Coin() ? "maximum" : "exclusiveMaximum"] = high;
        return number;
    }

    private JsonObject Object(int depth)
    {
        var properties = new JsonObject();
        foreach (string name in Names.OrderBy(_ => random.Next()).Take(random.Next(5)).ToArray()) properties[name] = Value(depth + 1);
        return Closed(properties);
    }

    private JsonObject Closed(JsonObject properties)
    {
        string[] required = [.. properties.Select(p => p.Key).Where(_ => strict || Coin())];
        var schema = new JsonObject { ["type"] = "object", ["properties"] = properties, ["required"] = new JsonArray([.. required.Select(n => (JsonNode)n)]) };
        if (strict || Coin()) schema["additionalProperties"] = false;
        else if (Coin(0.3)) schema["additionalProperties"] = Value(3);
        return schema;
    }
}

/// <summary>Writes documents of a schema. Of formats and patterns it knows one text each.</summary>
internal sealed class RandomDocuments(int seed, JsonElement root)
{
    private static readonly Dictionary<string, string> Samples = new()
    {
        ["email"] = "jane.doe+x@mail.example.org",
        ["hostname"] = "a-b.example.com",
        ["ipv4"] = "192.168.0.255",
        ["ipv6"] = "2001:db8::ff00:42:8329",
        ["uuid"] = "123e4567-e89b-12d3-a456-426614174000",
        ["date"] = "2024-02-29",
        ["time"] = "23:59:59Z",
        ["date-time"] = "1999-12-31T23:59:59.25+05:30",
        ["^[a-c]+$"] = "abcabc",
        ["^(?:ab|cd)*x?$"] = "abcdabx",
        [@"^\d{3}-\d{4}$"] = "555-1234",
        ["^[^a-z]{2,4}$"] = "Ä\"\n9",
        [@"^\w+\s\S$"] = "word\t!",
        ["b+"] = "…abba",
        ["^a|b"] = "abc",
    };

    private readonly Random random = new(seed);
    private readonly StringBuilder text = new();

    /// <summary>One document.</summary>
    public string Write()
    {
        text.Clear();
        Blank();
        Value(root, 0);
        return text.ToString();
    }

    private void Blank() => text.Append(random.Next(6) switch { 0 => " ", 1 => "\n", 2 => "\n  ", 3 => "\n\t\t", _ => "" });

    private void Value(JsonElement schema, int depth)
    {
        if (schema.ValueKind == JsonValueKind.True) text.Append("[1.5e-3,true]");
        else if (schema.TryGetProperty("$ref", out JsonElement reference)) Value(Resolve(reference.GetString()!), depth);
        else if (schema.TryGetProperty("const", out JsonElement constant)) Literal(constant);
        else if (schema.TryGetProperty("enum", out JsonElement values)) Literal(values[random.Next(values.GetArrayLength())]);
        else if (schema.TryGetProperty("anyOf", out JsonElement any)) Value(any[depth > 6 ? any.GetArrayLength() - 1 : random.Next(any.GetArrayLength())], depth);
        else Typed(schema, depth);
    }

    private void Typed(JsonElement schema, int depth)
    {
        JsonElement type = schema.GetProperty("type");
        switch (type.ValueKind == JsonValueKind.Array ? type[random.Next(type.GetArrayLength())].GetString() : type.GetString())
        {
            case "object": Object(schema, depth); break;
            case "array":
                int min = schema.TryGetProperty("minItems", out JsonElement least) ? least.GetInt32() : 0;
                int max = schema.TryGetProperty("maxItems", out JsonElement most) ? most.GetInt32() : min + 3;
                int count = depth > 6 ? min : random.Next(min, max + 1);
                List('[', ']', Enumerable.Repeat<Action>(() => Value(schema.GetProperty("items"), depth + 1), count));
                break;
            case "string": String(schema); break;
            case "integer": text.Append(Number(schema, true)); break;
            case "number": text.Append(Number(schema, false)); break;
            case "boolean": text.Append(random.Next(2) == 0 ? "true" : "false"); break;
            default: text.Append("null"); break;
        }
    }

    private void Object(JsonElement schema, int depth)
    {
        HashSet<string?> required = [.. schema.GetProperty("required").EnumerateArray().Select(r => r.GetString())];
        List<Action> members = [];
        foreach (JsonProperty property in schema.GetProperty("properties").EnumerateObject())
        {
            if (required.Contains(property.Name) || (depth < 6 && random.Next(2) == 0)) members.Add(() => Member(property.Name, property.Value, depth));
        }

        bool closed = schema.TryGetProperty("additionalProperties", out JsonElement additional) && additional.ValueKind == JsonValueKind.False;
        if (!closed && depth < 6)
        {
            JsonElement other = additional.ValueKind == JsonValueKind.Undefined ? JsonSerializer.SerializeToElement(true) : additional;
            foreach (string name in (string[])["nam", "namesake", "zzz", "q\"\\/é😀\n"]) members.Add(() => Member(name, other, depth));
        }

        List('{', '}', members);
    }

    private void Member(string name, JsonElement schema, int depth)
    {
        Literal(JsonSerializer.SerializeToElement(name));
        Blank();
        text.Append(':');
        Blank();
        Value(schema, depth + 1);
    }

    private void List(char open, char close, IEnumerable<Action> items)
    {
        text.Append(open);
        Blank();
        bool first = true;
        foreach (Action item in items)
        {
            if (!first) text.Append(',');
            if (!first) Blank();
            first = false;
            item();
            Blank();
        }

        text.Append(close);
    }

    private void String(JsonElement schema)
    {
        if (schema.TryGetProperty("format", out JsonElement name) || schema.TryGetProperty("pattern", out name))
        {
            Literal(JsonSerializer.SerializeToElement(Samples[name.GetString()!]));
            return;
        }

        int min = schema.TryGetProperty("minLength", out JsonElement least) ? least.GetInt32() : 0;
        int max = schema.TryGetProperty("maxLength", out JsonElement most) ? most.GetInt32() : min + 12;
        string[] characters = ["a", "Z", " ", "é", "日", "😀", "\\n", "\\\"", "\\\\", "\\/", "\\u0000", "\\u00E9", "\\uD83D\\uDE00", "\u007f", "the ", "{", "]"];
        text.Append('"');
        for (int i = random.Next(min, max + 1), added; i > 0; i -= added)
        {
            string next = characters[random.Next(characters.Length)];
            added = next == "the " ? 4 : 1;
            if (added > i) (next, added) = ("t", 1);
            text.Append(next);
        }

        text.Append('"');
    }

    private string Number(JsonElement schema, bool integer)
    {
        decimal? low = Bound("minimum", "exclusiveMinimum"), high = Bound("maximum", "exclusiveMaximum");
        decimal value = low is null && high is null ? random.Next(-100000, 100000) : low is null ? high!.Value - random.Next(2, 9000) : high is null ? low.Value + random.Next(2, 9000) : (low.Value + high.Value) / 2;
        if (integer) value = decimal.Floor(value);
        else if (low is null && high is null) return ((double)value / 7e9).ToString("E5", CultureInfo.InvariantCulture).Replace("E-0", "E-", StringComparison.Ordinal);
        return decimal.Round(value, 9).ToString(CultureInfo.InvariantCulture);

        decimal? Bound(string inclusive, string exclusive) =>
            schema.TryGetProperty(inclusive, out JsonElement bound) || schema.TryGetProperty(exclusive, out bound) ? bound.GetDecimal() : null;
    }

    private void Literal(JsonElement value) => text.Append(value.ValueKind == JsonValueKind.String ? Quoted(value.GetString()!) : value.GetRawText());

    /// <summary>A string that escapes only what it must; System.Text.Json escapes characters of other planes whatever it is told.</summary>
    private static string Quoted(string value) => $"\"{value.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal).Replace("\t", "\\t", StringComparison.Ordinal)}\"";

    private JsonElement Resolve(string reference)
    {
        JsonElement found = root;
        foreach (string part in reference.Split('/').Skip(1)) found = found.GetProperty(part);
        return found;
    }
}
