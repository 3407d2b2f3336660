// Takes one string field out of one JSON line without building a document tree. A line is read to its end even when the
// field comes first, so that a half-written line never passes for a whole one.
using System.Text;
using System.Text.Json;

namespace Fathom.Text;

/// <summary>Reads one field of JSON objects; not for concurrent use.</summary>
/// <param name="field">The field's name, at the top level of the object.</param>
internal sealed class JsonLineParser(string field)
{
    private readonly byte[] _field = Encoding.UTF8.GetBytes(field);

    /// <summary>The field's text, or why there is none.</summary>
    public bool TryParse(ReadOnlySpan<byte> line, out string? text, out string? reason)
    {
        (text, reason) = (null, null);
        try
        {
            Utf8JsonReader json = new(line);
            json.Read();
            if (json.TokenType != JsonTokenType.StartObject)
            {
                reason = $"expected an object, found {Describe(json.TokenType)}";
                return false;
            }

            while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
            {
                bool wanted = json.ValueTextEquals(_field);
                json.Read();
                if (wanted && json.TokenType != JsonTokenType.String)
                    reason = $"field \"{field}\" holds {Describe(json.TokenType)}, not a string";
                else if (wanted)
                    (text, reason) = (json.GetString(), null);
                json.Skip();
            }

            json.Read();
        }
        catch (JsonException failure)
        {
            reason = $"not valid JSON at byte {failure.BytePositionInLine}";
            return false;
        }
        catch (InvalidOperationException)
        {
            // GetString's answer to an escaped half of a surrogate pair.
            reason = $"field \"{field}\" holds an escape that is no character (a lone surrogate)";
            return false;
        }

        if (text is null) reason ??= $"the object has no field \"{field}\"";
        return reason is null;
    }

    private static string Describe(JsonTokenType type) => type switch
    {
        JsonTokenType.StartObject => "an object",
        JsonTokenType.StartArray => "an array",
        JsonTokenType.String => "a string",
        JsonTokenType.Number => "a number",
        JsonTokenType.Null => "null",
        _ => "true or false",
    };
}
