// Reads request bodies by hand over JsonDocument: unknown fields are ignored, null is the same as absent, and an error names the field
// by its path as the client wrote it. The trap is text: an escaped lone surrogate passes the parser and fails only when it is read.
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Fathom.Server.Http;

/// <summary>A value of a request, and where it stands.</summary>
/// <param name="value">The value.</param>
/// <param name="path">Its path: messages[2].content; empty for the body.</param>
internal readonly struct JsonField(JsonElement value, string path)
{
    /// <summary>Where it stands.</summary>
    public string Path => path;

    /// <summary>The value itself.</summary>
    public JsonElement Value => value;

    public bool IsString => value.ValueKind == JsonValueKind.String;

    public bool IsObject => value.ValueKind == JsonValueKind.Object;

    public bool IsArray => value.ValueKind == JsonValueKind.Array;

    public bool IsNumber => value.ValueKind == JsonValueKind.Number;

    /// <summary>Number of an array's items.</summary>
    public int Length => IsArray ? value.GetArrayLength() : throw Wrong("an array");

    private string Name => path.Length == 0 ? "the body" : $"'{path}'";

    /// <summary>A field of this object, or null where it is absent or null.</summary>
    /// <exception cref="ApiException">This is not an object.</exception>
    public JsonField? Get(string name)
    {
        if (value.ValueKind != JsonValueKind.Object) throw Wrong("an object");
        return value.TryGetProperty(name, out JsonElement field) && field.ValueKind != JsonValueKind.Null
            ? new JsonField(field, path.Length == 0 ? name : $"{path}.{name}")
            : null;
    }

    /// <summary>A field that must be there.</summary>
    public JsonField Require(string name) =>
        Get(name) ?? throw ApiException.Format($"{Name} needs the field '{name}'", path.Length == 0 ? name : $"{path}.{name}");

    /// <summary>The text of a string.</summary>
    public string Text()
    {
        if (!IsString) throw Wrong("a string");
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            throw ApiException.Format($"{Name} holds half of a surrogate pair, which is no character", path);
        }
    }

    public bool Boolean() => value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong("true or false");

    /// <summary>A number within bounds.</summary>
    public double Number(double least, double most)
    {
        if (!IsNumber || !value.TryGetDouble(out double number)) throw Wrong("a number");
        return number >= least && number <= most ? number : throw OutOfRange(least, most);
    }

    /// <summary>A whole number within bounds.</summary>
    public long Integer(long least, long most)
    {
        if (!IsNumber) throw Wrong("a whole number");
        if (!value.TryGetInt64(out long number))
        {
            // 4.0 is whole too; what is beyond 64 bits is out of range, not of the wrong kind.
            if (!value.TryGetDouble(out double wide) || wide != Math.Floor(wide)) throw Wrong("a whole number");
            if (wide is < -9e18 or > 9e18) throw OutOfRange(least, most);
            number = (long)wide;
        }

        return number >= least && number <= most ? number : throw OutOfRange(least, most);
    }

    /// <summary>The items of an array.</summary>
    /// <param name="most">Most items there may be.</param>
    public IEnumerable<JsonField> Items(int most)
    {
        if (!IsArray) throw Wrong("an array");
        if (Length > most) throw ApiException.Value($"{Name} has {Length} items; at most {most} are taken", path);
        return Walk(value, path);

        static IEnumerable<JsonField> Walk(JsonElement array, string path)
        {
            int index = 0;
            foreach (JsonElement item in array.EnumerateArray()) yield return new JsonField(item, $"{path}[{index++}]");
        }
    }

    /// <summary>The fields of an object with their names.</summary>
    public IEnumerable<(string Name, JsonField Field)> Fields(int most)
    {
        if (!IsObject) throw Wrong("an object");
        int count = value.GetPropertyCount();
        if (count > most) throw ApiException.Value($"{Name} has {count} fields; at most {most} are taken", path);
        return Walk(value, path);

        static IEnumerable<(string, JsonField)> Walk(JsonElement json, string path)
        {
            foreach (JsonProperty property in json.EnumerateObject())
            {
                string name = NameOf(property, path);
                yield return (name, new JsonField(property.Value, $"{path}.{name}"));
            }
        }
    }

    /// <summary>A copy that outlives the request's document.</summary>
    public JsonNode Node()
    {
        try
        {
            JsonNode node = JsonNode.Parse(value.GetRawText())!;
            Force(node);
            return node;
        }
        catch (Exception error) when (error is InvalidOperationException or ArgumentException or JsonException)
        {
            throw ApiException.Format($"{Name} has a field twice, or holds half of a surrogate pair", path);
        }
    }

    /// <summary>The error of a value of the wrong kind.</summary>
    /// <param name="expected">What it should be: "a string".</param>
    public ApiException Wrong(string expected) => ApiException.Format($"{Name} must be {expected}, not {Kind(value.ValueKind)}", path);

    /// <summary>The error of a value that is not possible.</summary>
    public ApiException Impossible(string message) => ApiException.Value($"{Name} {message}", path);

    private ApiException OutOfRange(double least, double most) => Impossible(FormattableString.Invariant($"must be from {least} to {most}, not {Short(value.GetRawText())}"));

    private static string NameOf(JsonProperty property, string path)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException)
        {
            throw ApiException.Format($"'{path}' has a field whose name holds half of a surrogate pair", path);
        }
    }

    // Nodes read their strings and names late; what is wrong in them must come out here.
    private static void Force(JsonNode? node)
    {
        if (node is JsonObject fields)
        {
            foreach ((string _, JsonNode? field) in fields) Force(field);
        }
        else if (node is JsonArray items)
        {
            foreach (JsonNode? item in items) Force(item);
        }
        else if (node?.GetValueKind() == JsonValueKind.String)
        {
            _ = node.GetValue<string>();
        }
    }

    private static string Short(string text) => text.Length <= 40 ? text : text[..40] + "…";

    private static string Kind(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "an array",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "true or false",
        _ => "null",
    };
}
