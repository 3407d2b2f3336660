// A request's texts on their way: submits them, splits them into parts, and settles what they cost. The order matters: usage is on disk
// before the client hears that its answer is complete, so that a crash can lose work in progress and never a finished answer's account.
using System.Diagnostics;
using System.Threading.Channels;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.Metrics;

namespace Fathom.Server.Answers;

/// <summary>The engine failed to compute an answer; the message is for the log.</summary>
internal sealed class AnswerFailedException(string message) : Exception(message);

/// <summary>The answers to one request. Disposing it ends what still runs and settles it.</summary>
internal sealed class AnswerRun : IAsyncDisposable
{
    private readonly ModelService service;
    private readonly RequestScope request;
    private readonly IReadOnlyList<Job> jobs;
    private readonly Channel<AnswerEvent> events = Channel.CreateUnbounded<AnswerEvent>(new UnboundedChannelOptions { SingleReader = true });
    private readonly CancellationTokenSource cut;
    private readonly Generation[] generations;
    private readonly Task<int>[] pumps; // each gives the number of its reasoning tokens
    private readonly long begun = Stopwatch.GetTimestamp();
    private Task<TokenUsage>? settled;

    private AnswerRun(ModelService service, RequestScope request, IReadOnlyList<Job> jobs, string? user, int priority)
    {
        (this.service, this.request, this.jobs) = (service, request, jobs);
        cut = CancellationTokenSource.CreateLinkedTokenSource(request.Aborted);
        cut.CancelAfter(service.Options.AnswerDeadline);
        generations = new Generation[jobs.Count];
        try
        {
            for (int i = 0; i < jobs.Count; i++) generations[i] = Submit(jobs[i], user, priority);
        }
        catch
        {
            cut.Cancel();
            cut.Dispose();
            throw;
        }

        pumps = [.. Enumerable.Range(0, jobs.Count).Select(i => Task.Run(() => PumpAsync(i)))];
        _ = CompleteAsync();
    }

    /// <summary>Puts a request's texts in the engine's queue.</summary>
    /// <exception cref="ApiException">They cannot be served, or not now.</exception>
    public static AnswerRun Start(ModelService service, RequestScope request, IReadOnlyList<Job> jobs, string? user, int priority)
    {
        int context = service.Engine.ContextTokens;
        foreach (Job job in jobs)
        {
            if (job.Prompt.Ids.Count >= context)
                throw ApiException.ContextLength($"the prompt has {job.Prompt.Ids.Count} tokens, which leaves no room for an answer in a context of {context}", request.PromptField);
        }

        return new AnswerRun(service, request, jobs, user, priority);
    }

    /// <summary>Follows the answers to their end.</summary>
    /// <param name="each">Is given what comes.</param>
    /// <param name="idle">Is called where nothing has come for the time of the keep-alive.</param>
    /// <exception cref="ApiException">The request waited too long.</exception>
    /// <exception cref="AnswerFailedException">The engine failed.</exception>
    /// <exception cref="OperationCanceledException">The client has gone.</exception>
    public async Task FollowAsync(Func<AnswerEvent, ValueTask> each, Func<ValueTask> idle)
    {
        while (true)
        {
            Task<bool> more = events.Reader.WaitToReadAsync(request.Aborted).AsTask();
            while (!more.IsCompleted)
            {
                try
                {
                    await more.WaitAsync(Patience()).ConfigureAwait(false);
                }
                catch (TimeoutException)
                {
                    RefuseAfterQueueDeadline();
                    await idle().ConfigureAwait(false);
                }
            }

            if (!await more.ConfigureAwait(false)) return;
            while (events.Reader.TryRead(out AnswerEvent next)) await each(next).ConfigureAwait(false);
        }
    }

    /// <summary>Waits for the end of all texts and writes their account, once.</summary>
    public Task<TokenUsage> SettleAsync() => settled ??= SettleOnceAsync();

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await cut.CancelAsync().ConfigureAwait(false);
        await SettleAsync().ConfigureAwait(false);
        cut.Dispose();
    }

    private bool HasStarted => generations.Any(g => g.HasStarted);

    private Generation Submit(Job job, string? user, int priority)
    {
        var generation = new GenerationRequest
        {
            Prompt = job.Prompt.Ids,
            Sampling = job.Sampling,
            Constraint = job.Grammar?.Grammar.Begin(),
            Priority = request.Account is null ? priority : Math.Min(priority, 0), // who shares a server may step back, not forward
            UserId = request.CacheScope(user),
            KeepSpecialTokens = job.Prompt.Start != AnswerStart.Plain && service.Prompts is { KeepSpecial: true },
        };
        try
        {
            return service.Engine.Submit(generation, cut.Token);
        }
        catch (EngineBusyException error)
        {
            throw ApiException.Overloaded(error.Message, retryAfter: 2);
        }
        catch (ObjectDisposedException)
        {
            throw ApiException.Overloaded("the server is shutting down", retryAfter: 10);
        }
        catch (FathomException error)
        {
            throw ApiException.Format(error.Message);
        }
    }

    private async Task<int> PumpAsync(int index)
    {
        Job job = jobs[index];
        Generation generation = generations[index];
        var parser = new AnswerParser(job.Prompt.Start, job.Prompt.CallName, job.Tools, service.Prompts?.Dropped, job.Grammar?.Json ?? AnswerJson.None);
        int reasoning = 0;
        long last = 0;
        void Give(AnswerPart part, string text, int call) => events.Writer.TryWrite(new AnswerEvent(index, (EventKind)part, text) { Call = call });
        try
        {
            await foreach (GenerationPiece piece in generation.ConfigureAwait(false))
            {
                if (piece.Tokens.Count > 0)
                {
                    long now = Stopwatch.GetTimestamp();
                    if (last == 0) service.Metrics.FirstToken(Stopwatch.GetElapsedTime(begun, now));
                    else service.Metrics.NextTokens(Stopwatch.GetElapsedTime(last, now), piece.Tokens.Count);
                    last = now;
                    if (parser.InReasoning) reasoning += piece.Tokens.Count;
                    if (job.Sampling.LogProbs is not null)
                        events.Writer.TryWrite(new AnswerEvent(index, EventKind.Tokens, "") { Tokens = piece.Tokens, Reasoning = parser.InReasoning });
                }

                if (piece.Text.Length > 0) parser.Push(piece.Text, Give);
            }
        }
        catch (FathomException)
        {
            // The result says what it was.
        }

        GenerationResult result = await generation.Completion.ConfigureAwait(false);
        service.Metrics.Ended(result, job.Sampling, jobs.Count);
        if (result.Reason == FinishReason.Failed)
        {
            events.Writer.TryComplete(new AnswerFailedException(result.Error ?? "unknown"));
            return reasoning;
        }

        parser.End(Give);
        EndReason reason = result.Reason switch
        {
            FinishReason.Stop => parser.Calls > 0 ? EndReason.ToolCalls : EndReason.Stop,
            FinishReason.Length => EndReason.Length,
            _ => EndReason.Cut,
        };
        events.Writer.TryWrite(new AnswerEvent(index, EventKind.End, "") { End = new AnswerEnd(reason, result) });
        return reasoning;
    }

    private async Task CompleteAsync()
    {
        try
        {
            await Task.WhenAll(pumps).ConfigureAwait(false);
            events.Writer.TryComplete();
        }
        catch (Exception error)
        {
            events.Writer.TryComplete(error);
        }
    }

    private async Task<TokenUsage> SettleOnceAsync()
    {
        int[] reasoning = await Task.WhenAll(pumps).ConfigureAwait(false);
        GenerationResult[] results = await Task.WhenAll(generations.Select(g => g.Completion)).ConfigureAwait(false);
        int hit = 0, miss = 0;
        // A prompt is paid once, as its first reader found it; one that was never computed costs nothing.
        foreach (IGrouping<int, int> same in Enumerable.Range(0, jobs.Count).Where(i => generations[i].HasStarted).GroupBy(i => jobs[i].PromptIndex))
        {
            GenerationResult first = same.Select(i => results[i]).MinBy(r => r.CachedTokens)!;
            hit += first.CachedTokens;
            miss += first.PromptTokens - first.CachedTokens;
        }

        var usage = new TokenUsage(hit, miss, results.Sum(r => r.NewTokens), reasoning.Sum());
        RequestTracing.Answered(results, usage);
        await service.SettleAsync(request, usage).ConfigureAwait(false);
        return usage;
    }

    private TimeSpan Patience()
    {
        if (HasStarted) return service.Options.KeepAlive;
        TimeSpan left = service.Options.QueueDeadline - Stopwatch.GetElapsedTime(begun) + TimeSpan.FromMilliseconds(1);
        return left < service.Options.KeepAlive ? left > TimeSpan.Zero ? left : TimeSpan.FromMilliseconds(1) : service.Options.KeepAlive;
    }

    private void RefuseAfterQueueDeadline()
    {
        if (!HasStarted && Stopwatch.GetElapsedTime(begun) >= service.Options.QueueDeadline)
            throw ApiException.Overloaded($"the request waited {service.Options.QueueDeadline.TotalSeconds:F0} s without being computed", retryAfter: 30);
    }
}
