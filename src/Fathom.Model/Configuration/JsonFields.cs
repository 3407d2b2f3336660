// Typed access to the fields of one JSON object. Every failure names the file, the field and what it should be; what nobody
// asked for is left over, and is handed on rather than dropped.
using System.Text.Json;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>The fields of a JSON object; each read removes the field.</summary>
internal sealed class JsonFields
{
    private readonly string source;
    private readonly string prefix;
    private readonly Dictionary<string, JsonElement> fields = new(StringComparer.Ordinal);

    private JsonFields(string source, string prefix)
    {
        this.source = source;
        this.prefix = prefix;
    }

    /// <summary>What has not been read.</summary>
    public IReadOnlyDictionary<string, JsonElement> Remaining => fields;

    /// <summary>Parses a document whose root is an object.</summary>
    /// <exception cref="FathomException">No JSON, no object, a field given twice, text that is not Unicode.</exception>
    public static JsonFields Parse(ReadOnlyMemory<byte> utf8, string source)
    {
        try
        {
            var options = new JsonDocumentOptions { MaxDepth = 32, AllowDuplicateProperties = false };
            using JsonDocument document = JsonDocument.Parse(utf8, options);
            if (document.RootElement.ValueKind != JsonValueKind.Object)
                throw new FathomException($"{source}: a JSON object is expected, not {Describe(document.RootElement)}");
            var result = new JsonFields(source, "");
            result.Add(document.RootElement);
            return result;
        }
        catch (JsonException e)
        {
            throw new FathomException($"{source}: not valid JSON at line {e.LineNumber + 1}, byte {e.BytePositionInLine}; restore the file", e);
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException)
        {
            throw new FathomException($"{source}: a text in it is not valid Unicode; restore the file", e);
        }
    }

    /// <summary>A nested object, or null where the field is absent or null.</summary>
    public JsonFields? Object(string name)
    {
        if (!Take(name, out JsonElement value)) return null;
        if (value.ValueKind != JsonValueKind.Object) throw Wrong(name, value, "an object");
        var result = new JsonFields(source, prefix + name + ".");
        result.Add(value);
        return result;
    }

    /// <summary>An integer, or the default where the field is absent.</summary>
    public int Integer(string name, int otherwise)
    {
        if (fields.TryGetValue(name, out JsonElement value) && value.ValueKind == JsonValueKind.Null) throw Wrong(name, value, "an integer");
        return OptionalInteger(name) ?? otherwise;
    }

    /// <summary>An integer, or null where the field is absent or null.</summary>
    public int? OptionalInteger(string name)
    {
        if (!Take(name, out JsonElement value)) return null;
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number)
            ? number
            : throw Wrong(name, value, "an integer of 32 bits");
    }

    /// <summary>A number, or the default where the field is absent or null.</summary>
    public double Number(string name, double otherwise)
    {
        if (!Take(name, out JsonElement value)) return otherwise;
        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && double.IsFinite(number)
            ? number
            : throw Wrong(name, value, "a number");
    }

    /// <summary>A truth value, or the default where the field is absent or null.</summary>
    public bool Boolean(string name, bool otherwise)
    {
        if (!Take(name, out JsonElement value)) return otherwise;
        return value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong(name, value, "true or false");
    }

    /// <summary>A text, or null where the field is absent or null.</summary>
    public string? Text(string name)
    {
        if (!Take(name, out JsonElement value)) return null;
        return value.ValueKind == JsonValueKind.String ? value.GetString() : throw Wrong(name, value, "a text");
    }

    /// <summary>One of the named values, or the default where the field is absent or null.</summary>
    public T Choice<T>(string name, T otherwise, params ReadOnlySpan<(string Name, T Value)> choices)
    {
        if (!Take(name, out JsonElement value)) return otherwise;
        string known = "";
        foreach (var choice in choices)
        {
            if (value.ValueKind == JsonValueKind.String && value.ValueEquals(choice.Name)) return choice.Value;
            known += (known.Length > 0 ? ", " : "") + choice.Name;
        }

        throw Wrong(name, value, choices.Length == 1 ? $"\"{known}\", the only supported value" : $"one of {known}");
    }

    /// <summary>One integer or a list of them; empty where the field is absent or null.</summary>
    public int[] Integers(string name)
    {
        if (!Take(name, out JsonElement value)) return [];
        if (value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int single)) return [single];
        if (value.ValueKind != JsonValueKind.Array) throw Wrong(name, value, "an integer or a list of integers");
        var result = new int[value.GetArrayLength()];
        int i = 0;
        foreach (JsonElement item in value.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt32(out result[i++])) throw Wrong(name, item, "a list of integers");
        }

        return result;
    }

    /// <summary>A list of texts; empty where the field is absent or null.</summary>
    public string[] Texts(string name)
    {
        if (!Take(name, out JsonElement value)) return [];
        if (value.ValueKind != JsonValueKind.Array) throw Wrong(name, value, "a list of texts");
        var result = new List<string>();
        foreach (JsonElement item in value.EnumerateArray())
            result.Add(item.ValueKind == JsonValueKind.String ? item.GetString()! : throw Wrong(name, item, "a list of texts"));
        return [.. result];
    }

    /// <summary>An error about a field.</summary>
    public FathomException Error(string name, string what) => new($"{source}: {prefix}{name} {what}");

    private static string Describe(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "a list",
        JsonValueKind.Null => "null",
        _ => value.GetRawText() is { Length: <= 40 } text ? text : "something longer",
    };

    private FathomException Wrong(string name, JsonElement value, string expected) =>
        Error(name, $"is {Describe(value)}, expected {expected}");

    private bool Take(string name, out JsonElement value) =>
        fields.Remove(name, out value) && value.ValueKind != JsonValueKind.Null;

    // Every name and text is decoded once here, inside the caller's catch, so that no later use meets a broken one.
    private void Add(JsonElement container)
    {
        foreach (JsonProperty property in container.EnumerateObject())
        {
            CheckTexts(property.Value);
            fields[property.Name] = property.Value.Clone();
        }
    }

    private static void CheckTexts(JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.String:
                value.GetString();
                break;
            case JsonValueKind.Array:
                foreach (JsonElement item in value.EnumerateArray()) CheckTexts(item);
                break;
            case JsonValueKind.Object:
                foreach (JsonProperty property in value.EnumerateObject())
                {
                    _ = property.Name;
                    CheckTexts(property.Value);
                }

                break;
        }
    }
}
