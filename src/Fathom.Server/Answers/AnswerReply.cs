// What the dialects have in common: jobs are submitted, followed to their end, settled, and told whole or as a stream. A dialect says only
// how it writes.
using System.Text.Json;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.Metrics;

namespace Fathom.Server.Answers;

/// <summary>How a dialect writes the answers to one request.</summary>
internal abstract class AnswerReply
{
    /// <summary>The answers' text so far, for the log.</summary>
    public abstract string Text { get; }

    /// <summary>Takes a step of an answer that is told whole.</summary>
    public abstract void Take(AnswerEvent next);

    /// <summary>Writes the whole reply, after the last step.</summary>
    public abstract void WriteWhole(Utf8JsonWriter json, TokenUsage usage);

    /// <summary>Sends what comes before the first step. Nothing is sent earlier, so that an error can still have its status.</summary>
    public virtual ValueTask BeginAsync(EventStream stream) => ValueTask.CompletedTask;

    /// <summary>Takes a step and sends it.</summary>
    public abstract ValueTask SendAsync(EventStream stream, AnswerEvent next);

    /// <summary>Sends the end of the stream.</summary>
    public abstract ValueTask EndAsync(EventStream stream, TokenUsage usage);

    /// <summary>Sends an error for which it is too late to have a status; the stream ends without its usual end.</summary>
    public abstract ValueTask FailAsync(EventStream stream, ApiException error);
}

/// <summary>A request, read.</summary>
/// <param name="Jobs">Its texts.</param>
/// <param name="Model">The name that it asks for.</param>
/// <param name="Stream">Whether the answer streams.</param>
internal sealed record AnswerRequest(IReadOnlyList<Job> Jobs, string Model, bool Stream)
{
    /// <summary>Whose request it is, in the client's words, or null.</summary>
    public string? User { get; init; }

    /// <summary>Of the queue: higher first.</summary>
    public int Priority { get; init; }

    /// <summary>What it is, as gen_ai.operation.name has it.</summary>
    public string Operation { get; init; } = RequestTracing.Chat;

    /// <summary>The request to answer a conversation.</summary>
    public static AnswerRequest Of(Dialog dialog, string model, bool stream, ModelService service) =>
        new(Answers.Jobs.Of(dialog, service), model, stream) { User = dialog.User, Priority = dialog.Priority };
}

/// <summary>Answers requests.</summary>
internal sealed class Answering(ModelService service, RequestPipeline pipeline)
{
    /// <summary>Submits a request's texts and sends what comes.</summary>
    /// <exception cref="ApiException">They cannot be served, or not now.</exception>
    /// <exception cref="AnswerFailedException">The engine failed.</exception>
    public async Task AnswerAsync(RequestScope scope, AnswerRequest request, AnswerReply reply)
    {
        RequestTracing.Asked(request);
        await using AnswerRun run = AnswerRun.Start(service, scope, request.Jobs, request.User, request.Priority);
        if (request.Stream) await StreamAsync(scope, run, reply).ConfigureAwait(false);
        else await SendAsync(scope, run, reply).ConfigureAwait(false);
        pipeline.LogText(scope, request.Jobs[0].Prompt.Text, reply.Text);
    }

    private static async Task SendAsync(RequestScope scope, AnswerRun run, AnswerReply reply)
    {
        await run.FollowAsync(
            next =>
            {
                reply.Take(next);
                return ValueTask.CompletedTask;
            },
            async () => await JsonReply.KeepAliveAsync(scope.Http).ConfigureAwait(false)).ConfigureAwait(false);
        TokenUsage usage = await run.SettleAsync().ConfigureAwait(false);
        await JsonReply.SendAsync(scope.Http, 200, json => reply.WriteWhole(json, usage)).ConfigureAwait(false);
    }

    private static async Task StreamAsync(RequestScope scope, AnswerRun run, AnswerReply reply)
    {
        using var stream = new EventStream(scope.Http);
        bool begun = false;
        try
        {
            await run.FollowAsync(
                async next =>
                {
                    if (!begun) await reply.BeginAsync(stream).ConfigureAwait(false);
                    begun = true;
                    await reply.SendAsync(stream, next).ConfigureAwait(false);
                },
                stream.KeepAliveAsync).ConfigureAwait(false);
        }
        catch (Exception error) when (scope.Http.Response.HasStarted && error is AnswerFailedException or ApiException)
        {
            await reply.FailAsync(stream, error as ApiException ?? ApiException.Fault(scope.Id)).ConfigureAwait(false);
            if (error is AnswerFailedException) throw;
            return;
        }

        TokenUsage usage = await run.SettleAsync().ConfigureAwait(false);
        await reply.EndAsync(stream, usage).ConfigureAwait(false);
    }
}
