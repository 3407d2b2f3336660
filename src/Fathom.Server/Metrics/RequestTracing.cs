// A span for each request that is answered, with the names of OpenTelemetry's conventions for generative AI, so that tools made for them show
// it beside the spans of the application that asked. Prompts and answers are not in it.
using System.Diagnostics;
using Fathom.Inference;
using Fathom.Server.Answers;
using Microsoft.AspNetCore.Http;

namespace Fathom.Server.Metrics;

/// <summary>Makes spans. Without a listener it does nothing.</summary>
internal static class RequestTracing
{
    /// <summary>Name of the source.</summary>
    public const string SourceName = "Fathom.Server";

    /// <summary>A conversation is answered.</summary>
    public const string Chat = "chat";

    /// <summary>A text is continued.</summary>
    public const string Completion = "text_completion";

    private static readonly ActivitySource Source = new(SourceName, Hosting.ServerVersion.Text);

    /// <summary>Begins the span of a request, below the client's where it sent one (W3C trace context).</summary>
    public static Activity? Begin(HttpContext http, string id)
    {
        if (!Source.HasListeners()) return null;
        _ = ActivityContext.TryParse(http.Request.Headers.TraceParent, http.Request.Headers.TraceState, isRemote: true, out ActivityContext parent);
        Activity? span = Source.StartActivity("request", ActivityKind.Server, Activity.Current?.Context ?? parent);
        span?.SetTag("http.request.method", http.Request.Method).SetTag("url.path", http.Request.Path.Value).SetTag("fathom.request.id", id).SetTag("gen_ai.provider.name", "fathom");
        return span;
    }

    /// <summary>Says what is asked.</summary>
    public static void Asked(AnswerRequest request)
    {
        if (Activity.Current is not { Source.Name: SourceName } span) return;
        SamplingOptions sampling = request.Jobs[0].Sampling;
        span.DisplayName = $"{request.Operation} {request.Model}";
        span.SetTag("gen_ai.operation.name", request.Operation).SetTag("gen_ai.request.model", request.Model).SetTag("gen_ai.response.model", request.Model)
            .SetTag("gen_ai.request.max_tokens", sampling.MaxNewTokens).SetTag("gen_ai.request.temperature", (double)sampling.Temperature)
            .SetTag("gen_ai.request.top_p", (double)sampling.TopP).SetTag("gen_ai.request.choice.count", request.Jobs.Count);
    }

    /// <summary>Says how the answers ended and what they used.</summary>
    public static void Answered(IEnumerable<GenerationResult> results, TokenUsage usage)
    {
        if (Activity.Current is not { Source.Name: SourceName } span) return;
        span.SetTag("gen_ai.response.finish_reasons", results.Select(r => r.Reason.ToString().ToLowerInvariant()).ToArray())
            .SetTag("gen_ai.usage.input_tokens", usage.PromptTokens).SetTag("gen_ai.usage.output_tokens", usage.OutputTokens);
    }

    /// <summary>Says with which status it ended, before it is disposed.</summary>
    /// <param name="span">The span, or null.</param>
    /// <param name="status">HTTP status.</param>
    /// <param name="error">The error's code, or null.</param>
    public static void End(Activity? span, int status, string? error)
    {
        if (span is null) return;
        span.SetTag("http.response.status_code", status);
        if (error is null) return;
        span.SetTag("error.type", error);
        if (status >= 500) span.SetStatus(ActivityStatusCode.Error);
    }
}
