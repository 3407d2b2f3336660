// Start and end of serving. Draining happens while the sockets are still open, which is why it is StoppingAsync: a balancer that has not
// noticed yet gets a 503 and not a refused connection.
using Fathom.Inference;
using Fathom.Numerics;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Fathom.Server.Hosting;

/// <summary>Warms the engine up, and drains it.</summary>
internal sealed partial class EngineLifetime(InferenceEngine engine, FathomServerOptions options, ServingState state, ILogger<EngineLifetime> log) : IHostedLifecycleService
{
    private static readonly TimeSpan Farewell = TimeSpan.FromSeconds(5);

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken)
    {
        _ = WarmUpAsync();
        return Task.CompletedTask;
    }

    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        state.Phase = ServingPhase.Draining;
        LogDraining(state.Active);
        using (var cut = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken))
        {
            cut.CancelAfter(options.DrainDeadline);
            await engine.DrainAsync(cut.Token).ConfigureAwait(false);
        }

        // The engine is done; the last bytes may not be written yet.
        long end = Environment.TickCount64 + (long)Farewell.TotalMilliseconds;
        while (state.Active > 0 && Environment.TickCount64 < end && !cancellationToken.IsCancellationRequested) await Task.Delay(10, CancellationToken.None).ConfigureAwait(false);
        LogDrained(state.Active);
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private async Task WarmUpAsync()
    {
        try
        {
            if (options.WarmUp)
            {
                int token = engine.Model.Tokenizer?.BosId ?? 0;
                int length = Math.Min(64, engine.ContextTokens - 2);
                using Generation generation = engine.Submit(new GenerationRequest
                {
                    Prompt = [.. Enumerable.Repeat(token, Math.Max(1, length))],
                    Sampling = new SamplingOptions { MaxNewTokens = 2, Temperature = 0, StopAtEos = false },
                    UserId = "warm-up",
                });
                GenerationResult result = await generation.Completion.ConfigureAwait(false);
                if (result.Error is { } error) throw new FathomException(error);
                LogWarm(result.TotalTime.TotalMilliseconds);
            }

            if (state.Phase == ServingPhase.Starting) state.Phase = ServingPhase.Ready;
        }
        catch (Exception error) when (error is FathomException or ObjectDisposedException)
        {
            if (state.Phase == ServingPhase.Starting) state.Phase = ServingPhase.Broken;
            LogWarmUpFailed(error.Message);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "ready; the warm-up took {Milliseconds:F0} ms")]
    private partial void LogWarm(double milliseconds);

    [LoggerMessage(Level = LogLevel.Error, Message = "the warm-up failed, so /ready stays at 503: {Error}")]
    private partial void LogWarmUpFailed(string error);

    [LoggerMessage(Level = LogLevel.Information, Message = "draining: nothing new is taken, {Active} requests are finished")]
    private partial void LogDraining(int active);

    [LoggerMessage(Level = LogLevel.Information, Message = "drained; {Active} requests were cut")]
    private partial void LogDrained(int active);
}
