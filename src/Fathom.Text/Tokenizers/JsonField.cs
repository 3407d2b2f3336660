// A JSON value that knows where it stands, so that every complaint names the file and the field. JsonElement itself
// answers a wrong type or a string that is not UTF-8 with an InvalidOperationException that names neither.
using System.Text;
using System.Text.Json;

namespace Fathom.Text;

/// <summary>A value in a JSON file, with its file and path (<c>model.vocab</c>).</summary>
/// <param name="file">The file's path.</param>
/// <param name="path">Path of the value, or of the object or array that holds it if there is a key or an index.</param>
/// <param name="element">The value.</param>
/// <param name="key">Key in a large object; spelled out only when something is wrong, because there may be 128,000 of them.</param>
/// <param name="index">Index in an array, or -1.</param>
internal readonly struct JsonField(string file, string path, JsonElement element, string? key = null, int index = -1)
{
    /// <summary>The kind of value.</summary>
    public JsonValueKind Kind => element.ValueKind;

    /// <summary>Parses a whole file.</summary>
    /// <exception cref="TextFormatException">The file cannot be read or is not JSON.</exception>
    public static JsonDocument ReadFile(string file, string what)
    {
        try
        {
            return JsonDocument.Parse(File.ReadAllBytes(file), new JsonDocumentOptions { AllowDuplicateProperties = false });
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new TextFormatException($"reading the {what} {file}: {failure.Message}", failure);
        }
        catch (Exception failure) when (IsBrokenJson(failure))
        {
            throw new TextFormatException($"reading the {what} {file}: it is not valid JSON: {failure.Message.ReplaceLineEndings(" ")}; the file may be cut off, fetch it again", failure);
        }
    }

    /// <summary>Runs <paramref name="read"/> and reports strings that are not Unicode as an error of the file.</summary>
    public static T Guard<T>(string file, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception failure) when (IsBrokenJson(failure))
        {
            throw new TextFormatException($"reading {file}: a string in it is not valid Unicode: {failure.Message}", failure);
        }
    }

    /// <summary>Text from a file for a message: cut short, and with what is not printable escaped.</summary>
    public static string Quote(string text)
    {
        var quoted = new StringBuilder("\"");
        foreach (char c in text.Length <= 80 ? text : text[..80] + "…")
            quoted.Append(char.IsControl(c) || char.IsSurrogate(c) ? $"\\u{(int)c:X4}" : c);
        return quoted.Append('"').ToString();
    }

    /// <summary>A member; null where it is absent or null.</summary>
    public JsonField? Optional(string name)
    {
        MustBe(JsonValueKind.Object);
        return element.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null
            ? new JsonField(file, Path.Length == 0 ? name : $"{Path}.{name}", value)
            : null;
    }

    /// <summary>A member that must be there and not be null.</summary>
    public JsonField Required(string name) => Optional(name) ?? throw Refused($"field {name} is missing");

    /// <summary>The members of an object, each named once.</summary>
    public IEnumerable<(string Name, JsonField Value)> Members()
    {
        MustBe(JsonValueKind.Object);
        foreach (JsonProperty member in element.EnumerateObject())
            yield return (member.Name, new JsonField(file, Path, member.Value, key: member.Name));
    }

    /// <summary>The elements of an array.</summary>
    public IEnumerable<JsonField> Items()
    {
        MustBe(JsonValueKind.Array);
        int next = 0;
        foreach (JsonElement item in element.EnumerateArray()) yield return new JsonField(file, Path, item, index: next++);
    }

    /// <summary>The value of field <c>type</c>.</summary>
    public string Type() => Required("type").Text();

    /// <summary>A string.</summary>
    public string Text() => MustBe(JsonValueKind.String).Value.GetString()!;

    /// <summary>A number.</summary>
    public double Number() => MustBe(JsonValueKind.Number).Value.TryGetDouble(out double value) ? value : throw Refused("the number is out of range");

    /// <summary>A whole number from <paramref name="least"/> to <paramref name="most"/>.</summary>
    public int Integer(int least, int most) =>
        MustBe(JsonValueKind.Number).Value.TryGetInt32(out int value) && value >= least && value <= most
            ? value
            : throw Refused($"expected a whole number from {least} to {most}, found {Quote(Value.GetRawText())}");

    /// <summary>A Boolean member.</summary>
    public bool Flag(string name, bool otherwise = false)
    {
        if (Optional(name) is not JsonField field) return otherwise;
        return field.Kind is JsonValueKind.True or JsonValueKind.False ? field.Kind == JsonValueKind.True : throw field.WrongKind("true or false");
    }

    /// <summary>This value, which must be of <paramref name="kind"/>.</summary>
    public JsonField MustBe(JsonValueKind kind) => Kind == kind ? this : throw WrongKind($"a JSON {kind.ToString().ToLowerInvariant()}");

    /// <summary>The exception that says what is wrong with this value.</summary>
    public TextFormatException Refused(string why, Exception? inner = null) =>
        new($"reading {file}{(Path.Length == 0 ? "" : $", field {Path}")}: {why}", inner);

    private string Path => key is not null ? $"{path}[{Quote(key)}]" : index >= 0 ? $"{path}[{index}]" : path;

    private JsonElement Value => element;

    private TextFormatException WrongKind(string expected) => Refused($"expected {expected}, found a JSON {Kind.ToString().ToLowerInvariant()}");

    private static bool IsBrokenJson(Exception failure) => failure is JsonException or InvalidOperationException or DecoderFallbackException;
}
