// Continuous batching: requests join and leave between the steps of one thread, which alone touches model, cache and scheduler. Readers
// and submitters meet it in a list under a lock and in the channels of their generations. An error within a step ends the requests that took part in
// it, and the engine goes on with the others.
using System.Diagnostics;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>
/// Generates many texts side by side. A request with a seed gives the same text whatever else runs, on a device whose
/// <see cref="Compute.Device.LinearByRow"/> keeps its promise. Safe for use by many threads; the model must not be used by others meanwhile.
/// </summary>
public sealed class InferenceEngine : IDisposable
{
    private readonly LoadedModel loaded;
    private readonly EngineOptions options;
    private readonly LatentCache cache;
    private readonly Scheduler scheduler;
    private readonly StepRunner runner;
    private readonly Thread thread;
    private readonly Lock gate = new();
    private readonly SemaphoreSlim work = new(0);
    private readonly List<ActiveGeneration> incoming = [];
    private readonly List<ActiveGeneration> active = []; // the engine's thread alone
    private readonly EngineCounters counters = new();
    private readonly TaskCompletionSource drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int unfinished;
    private long submitted;
    private bool refusing;
    private bool stopping;

    /// <summary>Starts an engine; the memory of its cache is taken here.</summary>
    /// <param name="model">The model. A tokenizer is needed for text and stop sequences only.</param>
    /// <param name="options">Limits.</param>
    /// <exception cref="FathomException">Options that do not fit the model, or memory that is not to be had.</exception>
    public InferenceEngine(LoadedModel model, EngineOptions? options = null)
    {
        this.options = options ??= new EngineOptions();
        options.Validate();
        loaded = model;
        int most = model.Model.Config.MaxPositionEmbeddings;
        if (options.ContextTokens > most) throw new FathomException($"the model's context is {most} tokens (max_position_embeddings); {options.ContextTokens} were asked for");
        ContextTokens = options.ContextTokens > 0 ? options.ContextTokens : Math.Min(most, 32_768);
        long tokens = options.CacheTokens > 0 ? options.CacheTokens : 4L * ContextTokens;
        if (tokens < ContextTokens) throw new FathomException($"a cache of {tokens} tokens cannot hold a context of {ContextTokens}; give the cache more tokens, or the context fewer");
        if (options.DraftTokens > 0 && model.Model.MtpModules.Count == 0) throw new FathomException($"{model.Path} has no MTP module, so nothing can be drafted; leave the draft tokens at 0");
        cache = new LatentCache(model.Model.Device, model.Model.Config, tokens, options.CacheType, options.DraftTokens > 0 ? 1 : 0);
        scheduler = new Scheduler(cache.Pool, options);
        runner = new StepRunner(model.Model, cache, options);
        counters.Observe(scheduler, cache);
        thread = new Thread(Loop) { Name = "inference engine", IsBackground = true };
        thread.Start();
    }

    /// <summary>The model.</summary>
    public LoadedModel Model => loaded;

    /// <summary>Most tokens of one request, prompt and answer.</summary>
    public int ContextTokens { get; }

    /// <summary>How the cache holds latents.</summary>
    public DType CacheType => options.CacheType;

    /// <summary>Is told after each step, by the engine's thread, how many tokens it computed. Handlers must be quick and not throw.</summary>
    public event Action<int>? Stepped;

    /// <summary>The engine as of its last step.</summary>
    public EngineStatistics Statistics
    {
        get
        {
            lock (gate) return counters.Snapshot(incoming.Count) with { Submitted = submitted };
        }
    }

    /// <summary>Puts a request in the queue.</summary>
    /// <param name="request">What to generate.</param>
    /// <param name="cancellation">Ends it at any time.</param>
    /// <exception cref="FathomException">The request cannot be served: options, ids or lengths out of range. The message names them.</exception>
    /// <exception cref="EngineBusyException">The queue is full, or the engine takes no more.</exception>
    /// <exception cref="ObjectDisposedException">The engine has ended.</exception>
    public Generation Submit(GenerationRequest request, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        int[] prompt = Check(request);
        ActiveGeneration generation;
        lock (gate)
        {
            ObjectDisposedException.ThrowIf(stopping, this);
            if (refusing) throw new EngineBusyException("the engine is shutting down and takes no more requests");
            if (unfinished >= options.MostRunning + options.MostWaiting)
                throw new EngineBusyException($"{unfinished} requests are running or waiting, which is all that the engine takes; try again later");
            var handle = new Generation(submitted++, Wake);
            int limit = (int)Math.Min(ContextTokens, (long)prompt.Length + request.Sampling.MaxNewTokens);
            generation = new ActiveGeneration(handle, new CachedSequence(cache.Pool), request, prompt, limit, loaded.Tokenizer, loaded.EosIds, loaded.Model.Config.VocabSize);
            if (request.Sampling.MaxNewTokens == 0)
            {
                counters.Ended(generation.End(FinishReason.Length));
                return handle;
            }

            unfinished++;
            incoming.Add(generation);
        }

        generation.Handle.CancelWith(cancellation);
        Wake();
        return generation.Handle;
    }

    /// <summary>Takes no more requests and ends those that are there.</summary>
    /// <param name="cut">When it is cancelled, what still runs is cancelled too.</param>
    /// <returns>Done when every request has ended.</returns>
    public async Task DrainAsync(CancellationToken cut = default)
    {
        lock (gate) refusing = true;
        Wake();
        using (cut.UnsafeRegister(static engine => ((InferenceEngine)engine!).CancelAll(), this)) await drained.Task.ConfigureAwait(false);
    }

    /// <summary>Cancels everything and ends the engine's thread, within a step.</summary>
    public void Dispose()
    {
        lock (gate)
        {
            refusing = true;
            stopping = true;
        }

        Wake();
        if (Thread.CurrentThread != thread) thread.Join();
    }

    private int[] Check(GenerationRequest request)
    {
        request.Sampling.Validate();
        int[] prompt = [.. request.Prompt];
        int vocabulary = loaded.Model.Config.VocabSize;
        if (prompt.Length == 0) throw new FathomException("the prompt is empty: there is nothing to continue from");
        if (prompt.Length >= ContextTokens)
            throw new FathomException($"the prompt has {prompt.Length} tokens, which leaves no room for an answer in a context of {ContextTokens}");
        foreach (int id in prompt.Concat(request.Sampling.LogitBias.Keys))
        {
            if ((uint)id >= (uint)vocabulary) throw new FathomException($"token id {id} is outside the model's vocabulary of {vocabulary}");
        }

        if (request.Sampling.StopSequences.Count > 0 && loaded.Tokenizer is null)
            throw new FathomException("stop sequences are text, and the model has no tokenizer");
        return prompt;
    }

    private void Wake() => work.Release();

    private void CancelAll()
    {
        lock (gate) stopping = true;
        Wake();
    }

    private void Loop()
    {
        while (true)
        {
            while (work.Wait(0)) ; // everything that woke it is looked at below
            bool stop = Gather();
            EndCancelled(stop);
            if (stop) break;
            if (Step()) continue;
            if (FinishDraining()) break;
            work.Wait();
        }

        drained.TrySetResult();
    }

    /// <summary>Takes new requests in.</summary>
    /// <returns>Whether the engine ends.</returns>
    private bool Gather()
    {
        lock (gate)
        {
            foreach (ActiveGeneration generation in incoming)
            {
                active.Add(generation);
                scheduler.Enqueue(generation);
            }

            incoming.Clear();
            return stopping;
        }
    }

    private bool FinishDraining()
    {
        lock (gate)
        {
            if (!refusing || incoming.Count > 0 || active.Count > 0) return false;
            stopping = true;
            return true;
        }
    }

    private void EndCancelled(bool all)
    {
        for (int i = active.Count - 1; i >= 0; i--)
        {
            if (all || active[i].Handle.IsCancelled) End(active[i], FinishReason.Cancelled);
        }

        lock (gate) counters.Observe(scheduler, cache);
    }

    /// <summary>Computes one step.</summary>
    /// <returns>Whether there was anything to compute.</returns>
    private bool Step()
    {
        StepPlan plan;
        try
        {
            plan = scheduler.Plan();
        }
        catch (Exception error)
        {
            // Nobody knows who is affected, so everybody is: an engine that stood still would be worse.
            Fail([.. active], error);
            return true;
        }

        if (plan.IsEmpty) return false;
        int tokens = plan.All.Sum(part => part.Count + part.Drafts);
        long start = Stopwatch.GetTimestamp();
        foreach (StepWork part in plan.All) ((ActiveGeneration)part.Sequence).Start();
        try
        {
            runner.Run(plan, (generation, error) => End(generation, FinishReason.Failed, error));
            foreach (StepWork part in plan.All) Complete((ActiveGeneration)part.Sequence);
        }
        catch (Exception error)
        {
            Fail(plan.All.Select(part => (ActiveGeneration)part.Sequence), error);
        }

        lock (gate)
        {
            counters.Step(Stopwatch.GetElapsedTime(start));
            counters.Observe(scheduler, cache, runner.Drafter);
        }

        Stepped?.Invoke(tokens);
        return true;
    }

    private void Fail(IEnumerable<ActiveGeneration> affected, Exception error)
    {
        foreach (ActiveGeneration generation in affected) End(generation, FinishReason.Failed, error);
        lock (gate) counters.Faults++;
    }

    private void Complete(ActiveGeneration generation)
    {
        if (!active.Contains(generation)) return; // it failed
        scheduler.Computed(generation);
        lock (gate) counters.Generated(generation.NewTokens - generation.CountedTokens);
        generation.CountedTokens = generation.NewTokens;
        if (generation.Finish is { } reason) End(generation, reason);
        else generation.Emit();
    }

    private void End(ActiveGeneration generation, FinishReason reason, Exception? error = null)
    {
        if (!active.Remove(generation)) return;
        scheduler.Remove(generation);
        string? message = error switch
        {
            null => null,
            FathomException => error.Message,
            OutOfMemoryException => "the memory for a step was not to be had; ask for a shorter context, or run fewer requests side by side",
            _ => $"a step failed: {error.GetType().Name}: {error.Message}",
        };
        lock (gate)
        {
            unfinished--;
            counters.Ended(generation.End(reason, message));
        }
    }
}
