using System.Text.Json;
using Fathom.Server.Http;

namespace Fathom.Server.OpenAI;

/// <summary>Errors in OpenAI's shape.</summary>
internal static class ErrorBody
{
    /// <summary>With OpenAI's and DeepSeek's own statuses.</summary>
    public static ErrorShape Shape { get; } = new(Write, status => status);

    /// <summary>{"error": {message, type, param, code}}.</summary>
    public static void Write(Utf8JsonWriter json, ApiException error)
    {
        json.WriteStartObject();
        json.WriteStartObject("error");
        json.WriteString("message", error.Message);
        json.WriteString("type", error.Type);
        json.WriteString("param", error.Param);
        json.WriteString("code", error.Code);
        json.WriteEndObject();
        json.WriteEndObject();
    }
}
