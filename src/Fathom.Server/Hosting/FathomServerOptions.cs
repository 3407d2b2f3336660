using System.Net;
using Fathom.Inference;
using Fathom.Numerics;

namespace Fathom.Server;

/// <summary>How a model is served. Limits of memory and batching are the engine's own (<see cref="Inference.EngineOptions"/>).</summary>
public sealed class FathomServerOptions
{
    /// <summary>Address that <see cref="FathomServer"/> listens on. The loopback address keeps others out.</summary>
    public string Host { get; set; } = "127.0.0.1";

    /// <summary>Port that <see cref="FathomServer"/> listens on; 0 for any that is free.</summary>
    public int Port { get; set; } = 8000;

    /// <summary>Name under which the model is served; null for the name of its folder, or of its run.</summary>
    public string? ModelName { get; set; }

    /// <summary>Further names that requests may ask for, as "deepseek-chat".</summary>
    public IList<string> Aliases { get; } = [];

    /// <summary>
    /// Origins of web pages, as "https://app.example.com", that may use <see cref="FathomServer"/> from a browser besides pages of this
    /// machine; "*" lets all.
    /// </summary>
    public IList<string> AllowedOrigins { get; } = [];

    /// <summary>
    /// Names besides localhost and addresses under which <see cref="FathomServer"/> answers while it needs no key and listens on the loopback
    /// address, as behind a proxy that passes its own name on; "*" lets all.
    /// </summary>
    public IList<string> AllowedHosts { get; } = [];

    /// <summary>SQLite file with keys and usage; null for none. It is made where it is missing. Once it holds a key, every route but /health needs one.</summary>
    public string? KeysFile { get; set; }

    /// <summary>Directories whose training runs <see cref="FathomServer"/> shows at /dashboard: each a run, or a directory that holds runs or folders of runs; none for no such page.</summary>
    public IList<string> RunDirectories { get; } = [];

    /// <summary>What tokens cost those whose keys have a balance.</summary>
    public PriceList Prices { get; set; } = PriceList.DeepSeekV3Launch;

    /// <summary>Longest body, in bytes.</summary>
    public long MaxBodyBytes { get; set; } = 8 << 20;

    /// <summary>Longest time that a body may take to arrive.</summary>
    public TimeSpan BodyDeadline { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>Tokens of an answer where the request does not say.</summary>
    public int DefaultMaxTokens { get; set; } = 4096;

    /// <summary>Most answers to one request, n times prompts.</summary>
    public int MaxChoices { get; set; } = 16;

    /// <summary>Most requests that are answered at the same time over the network, waiting ones included; further ones get 503.</summary>
    public int MaxConcurrentRequests { get; set; } = 2048;

    /// <summary>Longest time that a request waits before it is computed; then it gets 503.</summary>
    public TimeSpan QueueDeadline { get; set; } = TimeSpan.FromMinutes(10);

    /// <summary>Longest time of a whole answer; it is cut then.</summary>
    public TimeSpan AnswerDeadline { get; set; } = TimeSpan.FromMinutes(30);

    /// <summary>How long answers may still take after the server was asked to stop; they are cut then.</summary>
    public TimeSpan DrainDeadline { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>Time after which a waiting client is told that the connection is alive.</summary>
    public TimeSpan KeepAlive { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Prefix of the names at /metrics, without the colon: "fathom", or "vllm" for dashboards made for vLLM.</summary>
    public string MetricsPrefix { get; set; } = "fathom";

    /// <summary>Where metrics are sent with OTLP over HTTP, as http://localhost:4318; null for nowhere.</summary>
    public Uri? OtlpEndpoint { get; set; }

    /// <summary>Whether the log holds what is asked and answered. Otherwise it holds numbers alone.</summary>
    public bool LogPrompts { get; set; }

    /// <summary>Whether the server generates a few tokens before /ready says yes.</summary>
    public bool WarmUp { get; set; } = true;

    /// <summary>Whether <see cref="Host"/> can be reached from this machine alone.</summary>
    internal bool IsLoopback => Host == "localhost" || IPAddress.TryParse(Host, out IPAddress? address) && IPAddress.IsLoopback(address);

    /// <summary>The name that a model is served under.</summary>
    internal string NameOf(LoadedModel model) => ModelName ?? (model.Name.Length > 0 ? model.Name : "fathom");

    /// <summary>Checks the values.</summary>
    /// <exception cref="FathomException">Names the option.</exception>
    public void Validate()
    {
        Check(Host == "localhost" || IPAddress.TryParse(Host, out _), $"the host to listen on is an address or localhost, not '{Host}'; 0.0.0.0 listens on all addresses");
        Check(Port is >= 0 and <= 65535, $"the port is 0 to 65535, not {Port}");
        Check(ModelName is null || ModelName.Length > 0, "the model's name must not be empty");
        Check(Aliases.All(a => a.Length > 0), "an alias must not be empty");
        foreach (string origin in AllowedOrigins)
            Check(origin == "*" || Uri.TryCreate(origin, UriKind.Absolute, out Uri? url) && url.GetLeftPart(UriPartial.Authority) == origin, $"an origin is * or as https://app.example.com, without a path, not '{origin}'");
        Check(AllowedHosts.All(h => h == "*" || Uri.CheckHostName(h) != UriHostNameType.Unknown), "a host is * or a name, without a port");
        Check(MaxBodyBytes > 0, "the longest body must have at least one byte");
        Check(DefaultMaxTokens > 0, "the default length of an answer must be at least one token");
        Check(MaxChoices is > 0 and <= 1024, "1 to 1024 answers can be allowed for a request");
        Check(MaxConcurrentRequests > 0, "at least one request must be allowed at a time");
        Check(MetricsPrefix is "fathom" or "vllm", $"the metrics' prefix is fathom or vllm, not '{MetricsPrefix}'");
        Check(OtlpEndpoint is null || OtlpEndpoint.IsAbsoluteUri && OtlpEndpoint.Scheme is "http" or "https", "the OTLP endpoint is a URL as http://localhost:4318");
        foreach ((TimeSpan time, string name) in new[]
                 {
                     (BodyDeadline, "body"), (QueueDeadline, "queue"), (AnswerDeadline, "answer"), (DrainDeadline, "drain"), (KeepAlive, "keep-alive"),
                 })
        {
            Check(time > TimeSpan.Zero && time <= TimeSpan.FromDays(1), $"the {name} time must be above zero and at most a day");
        }

        Prices.Validate();

        static void Check(bool holds, string what)
        {
            if (!holds) throw new FathomException(what);
        }
    }
}
