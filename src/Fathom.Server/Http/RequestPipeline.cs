// What happens around every route, in one place, so that an application that maps the routes beside its own gets all of it and its own
// routes none: the server's state, the key, the limits of its rate and balance, errors in the dialect's shape, and one line in the log.
using System.Diagnostics;
using Fathom.Server.Accounts;
using Fathom.Server.Answers;
using Fathom.Server.Hosting;
using Fathom.Server.Metrics;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Fathom.Server.Http;

/// <summary>What a route needs.</summary>
internal enum RouteNeeds
{
    /// <summary>Nothing, not even a key.</summary>
    Nothing,

    /// <summary>A key, once there is one.</summary>
    Key,

    /// <summary>A key with room in its rates and balance, and a server that takes work.</summary>
    Work,
}

/// <summary>Runs the handlers of routes.</summary>
internal sealed partial class RequestPipeline(FathomServerOptions options, ServingState state, RateLimits rates, ILogger<RequestPipeline> log, KeyStore? keys = null)
{
    /// <summary>A handler with everything around it.</summary>
    /// <param name="needs">What the route needs.</param>
    /// <param name="errors">How the dialect tells of errors.</param>
    /// <param name="handler">Answers.</param>
    public RequestDelegate Wrap(RouteNeeds needs, ErrorShape errors, Func<RequestScope, Task> handler) => async http =>
    {
        long begun = Stopwatch.GetTimestamp();
        string id = $"req_{Guid.CreateVersion7():N}";
        http.Response.Headers["x-request-id"] = id;
        var scope = new RequestScope(http, id, null);
        bool entered = false;
        ApiException? refused = null;
        using Activity? span = needs == RouteNeeds.Work ? RequestTracing.Begin(http, id) : null;
        try
        {
            if (needs == RouteNeeds.Work) entered = Enter();
            if (needs != RouteNeeds.Nothing) scope = scope with { Account = Authenticate(http, needs) };
            await handler(scope).ConfigureAwait(false);
        }
        catch (ApiException error)
        {
            refused = error;
        }
        catch (Exception) when (http.RequestAborted.IsCancellationRequested)
        {
            LogGone(id, http.Request.Path);
            if (!http.Response.HasStarted) http.Response.StatusCode = 499;
        }
        catch (AnswerFailedException error)
        {
            LogFailed(id, error.Message);
            refused = ApiException.Fault(id);
        }
        catch (BadHttpRequestException error)
        {
            refused = new ApiException(error.StatusCode, ApiException.InvalidRequest, ApiException.InvalidRequest, error.Message);
        }
        catch (Exception error)
        {
            LogFault(error, id);
            refused = ApiException.Fault(id);
        }
        finally
        {
            if (entered) state.Leave();
        }

        if (refused is not null) await RefuseAsync(http, refused, errors).ConfigureAwait(false);
        RequestTracing.End(span, http.Response.StatusCode, refused?.Code);
        if (needs == RouteNeeds.Work)
        {
            TokenUsage usage = scope.Usage;
            LogRequest(id, scope.Account?.Id ?? "-", http.Request.Path, http.Response.StatusCode, refused?.Code ?? "-", usage.HitTokens, usage.MissTokens, usage.OutputTokens, Stopwatch.GetElapsedTime(begun).TotalMilliseconds);
        }
    };

    /// <summary>Writes an answer and its prompt to the log, where the operator asked for that.</summary>
    public void LogText(RequestScope scope, string prompt, string answer)
    {
        if (options.LogPrompts) LogPromptAndAnswer(scope.Id, prompt, answer);
    }

    private static async Task RefuseAsync(HttpContext http, ApiException error, ErrorShape errors)
    {
        if (error.RetryAfter is { } seconds && !http.Response.HasStarted) http.Response.Headers.RetryAfter = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
        if (error.Status == 401 && !http.Response.HasStarted) http.Response.Headers.WWWAuthenticate = "Bearer";
        try
        {
            await JsonReply.SendAsync(http, errors.Status(error.Status), json => errors.Write(json, error)).ConfigureAwait(false);
        }
        catch (Exception) when (http.RequestAborted.IsCancellationRequested)
        {
            // Nobody is there to be told.
        }
    }

    private bool Enter()
    {
        if (state.Phase == ServingPhase.Draining) throw ApiException.Overloaded("the server is shutting down and takes no more requests", retryAfter: 10);
        return state.TryEnter(options.MaxConcurrentRequests)
            ? true
            : throw ApiException.Overloaded($"{options.MaxConcurrentRequests} requests are in work, which is all that the server takes", retryAfter: 2);
    }

    private Account? Authenticate(HttpContext http, RouteNeeds needs)
    {
        if (keys is not { HasKeys: true }) return null;
        string? sent = http.Request.Headers.Authorization is [{ } header] && header.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase) ? header["Bearer ".Length..].Trim()
            : http.Request.Headers["x-api-key"] is [{ Length: > 0 } value] ? value.Trim()
            : null;
        if (string.IsNullOrEmpty(sent)) throw ApiException.Unauthorized("a key is needed: send the header Authorization: Bearer sk-…");
        Account account = keys.Find(sent) ?? throw ApiException.Unauthorized("the key is not valid");
        if (needs == RouteNeeds.Work)
        {
            if (account.BalanceNano is <= 0) throw ApiException.Balance();
            rates.Admit(account);
        }

        return account;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Request} key {Key} {Path} {Status} {Code}: {Hit} + {Miss} prompt tokens, {Output} generated, {Milliseconds:F0} ms")]
    private partial void LogRequest(string request, string key, string path, int status, string code, int hit, int miss, int output, double milliseconds);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Request} prompt {Prompt} answer {Answer}")]
    private partial void LogPromptAndAnswer(string request, string prompt, string answer);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Request} {Path}: the client has gone")]
    private partial void LogGone(string request, string path);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Request} the engine failed: {Error}")]
    private partial void LogFailed(string request, string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Request} failed")]
    private partial void LogFault(Exception error, string request);
}
