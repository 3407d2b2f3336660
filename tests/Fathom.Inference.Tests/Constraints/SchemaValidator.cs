// What a JSON Schema says of a document, written plainly from the specification and the standard library: it shares nothing with the compiler.
using System.Globalization;
using System.Net;
using System.Net.Mail;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Fathom.Inference.Tests;

/// <summary>Validates documents.</summary>
internal sealed class SchemaValidator(JsonElement root)
{
    /// <summary>Why a document is not valid, or null.</summary>
    public string? Problem(JsonElement document) => Problem(root, document, "$");

    private string? Problem(JsonElement schema, JsonElement value, string path)
    {
        if (schema.ValueKind == JsonValueKind.True) return null;
        if (schema.ValueKind == JsonValueKind.False) return $"{path}: nothing is allowed";
        foreach (JsonProperty keyword in schema.EnumerateObject())
        {
            string? problem = Problem(schema, keyword.Name, keyword.Value, value, path);
            if (problem is not null) return problem;
        }

        return null;
    }

    private string? Problem(JsonElement schema, string keyword, JsonElement argument, JsonElement value, string path)
    {
        bool valid = true;
        switch (keyword)
        {
            case "$ref": return Problem(Resolve(argument.GetString()!), value, path);
            case "type": valid = argument.ValueKind == JsonValueKind.Array ? argument.EnumerateArray().Any(t => HasType(value, t.GetString()!)) : HasType(value, argument.GetString()!); break;
            case "enum": valid = argument.EnumerateArray().Any(e => JsonElement.DeepEquals(e, value)); break;
            case "const": valid = JsonElement.DeepEquals(argument, value); break;
            case "anyOf": valid = argument.EnumerateArray().Any(s => Problem(s, value, path) is null); break;
            case "allOf": valid = argument.EnumerateArray().All(s => Problem(s, value, path) is null); break;
        }

        if (!valid) return $"{path}: {Cut(value)} violates {keyword} {Cut(argument)}";
        return value.ValueKind switch
        {
            JsonValueKind.Object => ObjectProblem(schema, keyword, argument, value, path),
            JsonValueKind.Array => ArrayProblem(keyword, argument, value, path),
            JsonValueKind.String => StringProblem(keyword, argument, value.GetString()!, path),
            JsonValueKind.Number => NumberProblem(keyword, argument, value, path),
            _ => null,
        };
    }

    private string? ObjectProblem(JsonElement schema, string keyword, JsonElement argument, JsonElement value, string path)
    {
        switch (keyword)
        {
            case "required":
                return argument.EnumerateArray().FirstOrDefault(n => !value.TryGetProperty(n.GetString()!, out _)) is { ValueKind: JsonValueKind.String } missing ? $"{path}: {missing} is missing" : null;
            case "properties":
                return argument.EnumerateObject().Select(p => value.TryGetProperty(p.Name, out JsonElement found) ? Problem(p.Value, found, $"{path}.{p.Name}") : null).FirstOrDefault(p => p is not null);
            case "additionalProperties":
                HashSet<string> declared = schema.TryGetProperty("properties", out JsonElement map) ? [.. map.EnumerateObject().Select(p => p.Name)] : [];
                return value.EnumerateObject().Where(p => !declared.Contains(p.Name)).Select(p => Problem(argument, p.Value, $"{path}.{p.Name}")).FirstOrDefault(p => p is not null);
            default: return null;
        }
    }

    private string? ArrayProblem(string keyword, JsonElement argument, JsonElement value, string path) => keyword switch
    {
        "items" => value.EnumerateArray().Select((item, i) => Problem(argument, item, $"{path}[{i}]")).FirstOrDefault(p => p is not null),
        "minItems" when value.GetArrayLength() < argument.GetInt32() => $"{path}: too few items",
        "maxItems" when value.GetArrayLength() > argument.GetInt32() => $"{path}: too many items",
        _ => null,
    };

    private static string? StringProblem(string keyword, JsonElement argument, string value, string path)
    {
        bool valid = keyword switch
        {
            "minLength" => value.EnumerateRunes().Count() >= argument.GetInt32(),
            "maxLength" => value.EnumerateRunes().Count() <= argument.GetInt32(),
            "pattern" => Regex.IsMatch(WithoutSurrogates(value), argument.GetString()!.Replace("$", "\\z", StringComparison.Ordinal)),
            "format" => HasFormat(value, argument.GetString()!),
            _ => true,
        };
        return valid ? null : $"{path}: '{value}' violates {keyword} {argument}";
    }

    /// <summary>.NET's expressions count UTF-16 units, JSON Schema's characters: one of another plane becomes one that no pattern speaks of.</summary>
    private static string WithoutSurrogates(string value) => string.Concat(value.EnumerateRunes().Select(r => r.IsBmp ? r.ToString() : "\uE000"));

    private static bool HasFormat(string value, string format) => format switch
    {
        "email" => MailAddress.TryCreate(value, out MailAddress? address) && address.Address == value && address.Host.Contains('.', StringComparison.Ordinal),
        "hostname" => value.Length <= 253 && Regex.IsMatch(value, @"\A(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\z"),
        "ipv4" => value.Split('.') is { Length: 4 } parts && parts.All(p => byte.TryParse(p, NumberStyles.None, CultureInfo.InvariantCulture, out byte octet) && octet.ToString(CultureInfo.InvariantCulture) == p),
        "ipv6" => !value.Contains('[', StringComparison.Ordinal) && IPAddress.TryParse(value, out IPAddress? ip) && ip.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6,
        "uuid" => Guid.TryParseExact(value, "D", out _),
        "date" => DateOnly.TryParseExact(value, "yyyy-MM-dd", out _),
        "time" => IsTime(value),
        "date-time" => value.Length > 11 && value[10] == 'T' && HasFormat(value[..10], "date") && IsTime(value[11..]),
        _ => true,
    };

    private static bool IsTime(string value) =>
        Regex.Match(value, @"\A(\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-](\d\d):(\d\d))\z") is { Success: true } match && TimeOnly.TryParseExact(match.Groups[1].Value, "HH:mm:ss", out _)
        && (match.Groups[3].Value == "Z" || (int.Parse(match.Groups[4].Value, CultureInfo.InvariantCulture) < 24 && int.Parse(match.Groups[5].Value, CultureInfo.InvariantCulture) < 60));

    private static string? NumberProblem(string keyword, JsonElement argument, JsonElement value, string path)
    {
        if (keyword is not ("minimum" or "maximum" or "exclusiveMinimum" or "exclusiveMaximum")) return null;
        decimal number = value.GetDecimal(), bound = argument.GetDecimal();
        bool valid = keyword switch { "minimum" => number >= bound, "maximum" => number <= bound, "exclusiveMinimum" => number > bound, _ => number < bound };
        return valid ? null : $"{path}: {number} violates {keyword} {bound}";
    }

    private static bool HasType(JsonElement value, string type) => type switch
    {
        "object" => value.ValueKind == JsonValueKind.Object,
        "array" => value.ValueKind == JsonValueKind.Array,
        "string" => value.ValueKind == JsonValueKind.String,
        "number" => value.ValueKind == JsonValueKind.Number,
        "integer" => value.ValueKind == JsonValueKind.Number && value.GetRawText().TrimStart('-').All(char.IsAsciiDigit),
        "boolean" => value.ValueKind is JsonValueKind.True or JsonValueKind.False,
        "null" => value.ValueKind == JsonValueKind.Null,
        _ => throw new InvalidOperationException(type),
    };

    private JsonElement Resolve(string reference)
    {
        JsonElement found = root;
        foreach (string part in reference.Split('/').Skip(1)) found = found.GetProperty(part);
        return found;
    }

    private static string Cut(JsonElement value) => value.GetRawText() is { Length: > 80 } text ? text[..80] + "…" : value.GetRawText();
}
