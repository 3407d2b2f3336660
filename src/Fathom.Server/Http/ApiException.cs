// What a client is told when its request is refused. Every dialect writes the same facts in its own shape; messages name what is wrong
// and never what the machine looks like inside.
namespace Fathom.Server.Http;

/// <summary>A request is refused or has failed.</summary>
/// <param name="status">HTTP status.</param>
/// <param name="type">Kind of the error, as the field type of OpenAI's errors.</param>
/// <param name="code">Code within the kind.</param>
/// <param name="message">One line for a person.</param>
/// <param name="param">The field that is wrong, or null.</param>
internal sealed class ApiException(int status, string type, string code, string message, string? param = null) : Exception(message)
{
    public const string InvalidRequest = "invalid_request_error";

    public int Status => status;

    public string Type => type;

    public string Code => code;

    public string? Param => param;

    /// <summary>After how many seconds trying again makes sense; null where it does not.</summary>
    public int? RetryAfter { get; init; }

    /// <summary>The body is not what the route takes: 400.</summary>
    public static ApiException Format(string message, string? param = null) => new(400, InvalidRequest, InvalidRequest, message, param);

    /// <summary>A field of the right type holds a value that is not possible: 422.</summary>
    public static ApiException Value(string message, string param) => new(422, InvalidRequest, "invalid_parameter", message, param);

    /// <summary>Prompt and answer do not fit: 400 with OpenAI's code.</summary>
    public static ApiException ContextLength(string message, string param) => new(400, InvalidRequest, "context_length_exceeded", message, param);

    /// <summary>No such model is served here: 404.</summary>
    public static ApiException UnknownModel(string message) => new(404, InvalidRequest, "model_not_found", message, "model");

    /// <summary>The key is missing or unknown: 401.</summary>
    public static ApiException Unauthorized(string message) => new(401, "authentication_error", "invalid_api_key", message);

    /// <summary>A page in a browser, or a name, that the server does not answer to: 403.</summary>
    public static ApiException Forbidden(string code, string message) => new(403, "permission_error", code, message);

    /// <summary>The key's balance is spent: 402.</summary>
    public static ApiException Balance() => new(402, "insufficient_balance_error", "insufficient_balance", "the balance of this key is spent; ask the server's operator to add to it");

    /// <summary>Too many requests or tokens: 429.</summary>
    public static ApiException RateLimit(string message, int retryAfter) => new(429, "rate_limit_error", "rate_limit_exceeded", message) { RetryAfter = retryAfter };

    /// <summary>The server takes nothing now: 503.</summary>
    public static ApiException Overloaded(string message, int retryAfter) => new(503, "server_error", "server_overloaded", message) { RetryAfter = retryAfter };

    /// <summary>A fault of ours: 500, and no word about the inside.</summary>
    public static ApiException Fault(string requestId) => new(500, "server_error", "internal_error", $"the server failed to answer; its log has the reason under the request id {requestId}");
}
