using System.Text.Json;
using Fathom.Server.Http;

namespace Fathom.Server.Anthropic;

/// <summary>Errors in Anthropic's shape.</summary>
internal static class AnthropicError
{
    /// <summary>Anthropic has no 422, and 529 for a server that is overloaded.</summary>
    public static ErrorShape Shape { get; } = new(Write, status => status switch { 422 => 400, 503 => 529, _ => status });

    /// <summary>{"type": "error", "error": {type, message}}.</summary>
    public static void Write(Utf8JsonWriter json, ApiException error)
    {
        json.WriteStartObject();
        json.WriteString("type", "error");
        json.WriteStartObject("error");
        json.WriteString("type", Type(error.Status));
        json.WriteString("message", error.Message);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static string Type(int status) => status switch
    {
        401 => "authentication_error",
        402 => "billing_error",
        404 => "not_found_error",
        408 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        >= 500 => "api_error",
        _ => "invalid_request_error",
    };
}
