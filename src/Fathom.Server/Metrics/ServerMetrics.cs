// Everything that is measured, in one Meter: /metrics and OTLP show the same instruments. Names and buckets are those of vLLM
// (vllm/v1/metrics/loggers.py) after the prefix, so that dashboards made for it fit.
using System.Diagnostics.Metrics;
using Fathom.Inference;
using Fathom.Model;

namespace Fathom.Server.Metrics;

/// <summary>The instruments of a server.</summary>
internal sealed class ServerMetrics : IDisposable
{
    /// <summary>Name of the meter.</summary>
    public const string MeterName = "Fathom.Server";

    private static readonly double[] FirstTokenBuckets = [.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560];
    private static readonly double[] NextTokenBuckets = [.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
    private static readonly double[] RequestBuckets = [.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];

    private static readonly double[] IterationBuckets = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

    private readonly Meter meter = new(MeterName, Hosting.ServerVersion.Text);
    private readonly InferenceEngine engine;
    private readonly KeyValuePair<string, object?> label;
    private readonly Histogram<double> firstToken, nextToken, perToken, endToEnd, queue, inference, prefill, decode, promptTokens, newTokens, choices, maxTokens;
    private readonly Histogram<double> iterationTokens;
    private readonly Counter<long> success;

    /// <summary>Instruments over an engine.</summary>
    /// <param name="engine">Whose statistics are observed.</param>
    /// <param name="options">The model's name, for the label.</param>
    public ServerMetrics(InferenceEngine engine, FathomServerOptions options)
    {
        string name = options.NameOf(engine.Model);
        label = new("model_name", name);
        double[] lengths = Lengths(engine.ContextTokens);
        firstToken = Histogram("time_to_first_token_seconds", "Time to the first token.", FirstTokenBuckets);
        nextToken = Histogram("inter_token_latency_seconds", "Time between tokens.", NextTokenBuckets);
        perToken = Histogram("request_time_per_output_token_seconds", "Mean time of a request's tokens after the first.", NextTokenBuckets);
        endToEnd = Histogram("e2e_request_latency_seconds", "Time of whole requests.", RequestBuckets);
        queue = Histogram("request_queue_time_seconds", "Time that requests wait.", RequestBuckets);
        inference = Histogram("request_inference_time_seconds", "Time that requests are computed.", RequestBuckets);
        prefill = Histogram("request_prefill_time_seconds", "Time from the beginning of the prompt to the first token.", RequestBuckets);
        decode = Histogram("request_decode_time_seconds", "Time from the first token to the last.", RequestBuckets);
        promptTokens = Histogram("request_prompt_tokens", "Tokens of prompts.", lengths);
        newTokens = Histogram("request_generation_tokens", "Tokens generated.", lengths);
        choices = Histogram("request_params_n", "Answers asked for.", [1, 2, 5, 10, 20]);
        maxTokens = Histogram("request_params_max_tokens", "Tokens asked for at most.", lengths);
        iterationTokens = Histogram("iteration_tokens_total", "Tokens of a step, of prompts and generated.", IterationBuckets);
        this.engine = engine;
        engine.Stepped += Stepped;
        success = meter.CreateCounter<long>("fathom.request_success", description: "Requests ended, by reason.");
        Observe(engine, name);
    }

    /// <summary>The meter.</summary>
    public Meter Meter => meter;

    /// <summary>The first token of a text came.</summary>
    public void FirstToken(TimeSpan after) => firstToken.Record(after.TotalSeconds, label);

    /// <summary>More tokens came.</summary>
    public void NextTokens(TimeSpan after, int count)
    {
        for (int i = 0; i < count; i++) nextToken.Record(after.TotalSeconds / count, label);
    }

    /// <summary>A text ended.</summary>
    public void Ended(GenerationResult result, SamplingOptions sampling, int answers)
    {
        string reason = result.Reason switch { FinishReason.Stop => "stop", FinishReason.Length => "length", FinishReason.Cancelled => "abort", _ => "error" };
        success.Add(1, label, new("finished_reason", reason));
        endToEnd.Record(result.TotalTime.TotalSeconds, label);
        queue.Record(result.QueueTime.TotalSeconds, label);
        inference.Record((result.TotalTime - result.QueueTime).TotalSeconds, label);
        if (result.TimeToFirstToken > TimeSpan.Zero)
        {
            prefill.Record((result.TimeToFirstToken - result.QueueTime).TotalSeconds, label);
            decode.Record((result.TotalTime - result.TimeToFirstToken).TotalSeconds, label);
        }

        if (result.TimePerToken > TimeSpan.Zero) perToken.Record(result.TimePerToken.TotalSeconds, label);
        promptTokens.Record(result.PromptTokens, label);
        newTokens.Record(result.NewTokens, label);
        choices.Record(answers, label);
        maxTokens.Record(sampling.MaxNewTokens, label);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        engine.Stepped -= Stepped;
        meter.Dispose();
    }

    /// <summary>1, 2, 5, 10 … up to the context.</summary>
    internal static double[] Lengths(int most)
    {
        List<double> buckets = [];
        for (double power = 1; power <= most; power *= 10)
        {
            foreach (double digit in (double[])[1, 2, 5])
            {
                if (digit * power <= most) buckets.Add(digit * power);
            }
        }

        return [.. buckets];
    }

    private void Stepped(int tokens) => iterationTokens.Record(tokens, label);

    private Histogram<double> Histogram(string name, string description, double[] buckets) =>
        meter.CreateHistogram("fathom." + name, description: description, advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = buckets });

    private void Observe(InferenceEngine engine, string name)
    {
        KeyValuePair<string, object?>[] labels = [new("model_name", name)];
        Gauge("num_requests_running", "Requests that are computed.", s => s.Running);
        Gauge("num_requests_waiting", "Requests that wait.", s => s.Waiting);
        Gauge("kv_cache_usage_perc", "Share of the cache in use.", s => s.CacheUsage);
        Gauge("engine_longest_step_seconds", "The longest step so far: what a token may have waited for a chunk of a prompt.", s => s.LongestStepSeconds);
        Gauge("tokens_per_second", "Tokens generated a second, lately.", s => s.TokensPerSecond);
        meter.CreateObservableGauge(
            "fathom.cache_config_info",
            () => new Measurement<double>(1, [labels[0], new("block_size", BlockPool.BlockSize), new("num_gpu_blocks", engine.Statistics.Blocks), new("cache_dtype", engine.CacheType.ToString().ToLowerInvariant()), new("enable_prefix_caching", true)]),
            description: "How the cache is laid out; always 1.");
        Count("prefix_cache_queries", "Tokens of prompts that were looked for in the cache.", s => s.PrefixQueriedTokens);
        Count("prefix_cache_hits", "Tokens of prompts that were found in the cache.", s => s.PrefixHitTokens);
        Count("num_preemptions", "Requests that gave up their memory.", s => s.Preemptions);
        Count("prompt_tokens", "Tokens of prompts that were computed.", s => s.PromptTokens);
        Count("generation_tokens", "Tokens generated.", s => s.GeneratedTokens);
        Count("engine_steps", "Steps of the engine.", s => s.Steps);
        Count("engine_faults", "Steps that failed.", s => s.Faults);
        Count("spec_decode_num_drafts", "Drafts.", s => s.Drafts);
        Count("spec_decode_num_draft_tokens", "Tokens drafted.", s => s.DraftedTokens.Sum());
        Count("spec_decode_num_accepted_tokens", "Drafted tokens that were right.", s => s.AcceptedTokens.Sum());
        meter.CreateObservableCounter(
            "fathom.spec_decode_num_accepted_tokens_per_pos",
            () => engine.Statistics.AcceptedTokens.Select((n, i) => new Measurement<long>(n, labels[0], new KeyValuePair<string, object?>("position", i))),
            description: "Drafted tokens that were right, by their place.");

        void Gauge(string instrument, string description, Func<EngineStatistics, double> read) =>
            meter.CreateObservableGauge("fathom." + instrument, () => new Measurement<double>(read(engine.Statistics), labels), description: description);

        void Count(string instrument, string description, Func<EngineStatistics, long> read) =>
            meter.CreateObservableCounter("fathom." + instrument, () => new Measurement<long>(read(engine.Statistics), labels), description: description);
    }
}
