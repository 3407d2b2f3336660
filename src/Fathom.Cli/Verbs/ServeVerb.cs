// A model behind HTTP. Everything about the API is Fathom.Server's; here are the arguments, and the books of keys.
using System.CommandLine;
using System.Globalization;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom serve</c>.</summary>
internal static class ServeVerb
{
    public static Command Create()
    {
        var model = CommonOptions.Model();
        var weights = CommonOptions.Weights();
        var command = new Command("serve", "Serve a model over HTTP, as OpenAI's and DeepSeek's APIs do.") { model, weights };
        var network = new NetworkArguments(command);
        var batching = new EngineArguments(command);
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        command.Options.Add(on);
        command.Options.Add(threads);
        command.Subcommands.Add(ServeKeysVerb.Create());
        command.SetAction(async (arguments, cancellation) =>
        {
            FathomServerOptions options = network.Read(arguments);
            EngineOptions limits = batching.Read(arguments);
            using Device device = CommonOptions.Device(arguments.GetValue(on), arguments.GetValue(threads));
            LoadedModel loaded = LoadedModel.Open(device, arguments.GetRequiredValue(model), arguments.GetValue(weights));
            using var engine = new InferenceEngine(loaded, limits);
            await using FathomServer server = await FathomServer.StartAsync(engine, options, cancellation: cancellation);
            // The first line of the output is where it listens, for scripts that let the system choose the port.
            Console.WriteLine(server.Address);
            await server.WaitAsync(cancellation);
            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>Options of the server.</summary>
    private sealed class NetworkArguments
    {
        private static readonly FathomServerOptions Usual = new();
        private readonly Option<string> host = new("--host") { Description = "Address to listen on; 0.0.0.0 for all. Others than this machine should need a key.", HelpName = "ADDRESS", DefaultValueFactory = _ => Usual.Host };
        private readonly Option<int> port = new("--port") { Description = "Port to listen on; 0 for a free one.", HelpName = "N", DefaultValueFactory = _ => Usual.Port };
        private readonly Option<string?> name = new("--name") { Description = "Name of the model for clients; the folder's or the run's name if not given.", HelpName = "NAME" };
        private readonly Option<string[]> alias = new("--alias") { Description = "Further name of the model, as deepseek-chat; may be given several times.", HelpName = "NAME", DefaultValueFactory = _ => [] };
        private readonly Option<string[]> origins = new("--allow-origin") { Description = "Origin of web pages that may use the server from a browser, as https://app.example.com; * for all. Pages of this machine may.", HelpName = "ORIGIN", DefaultValueFactory = _ => [] };
        private readonly Option<string[]> hosts = new("--allow-host") { Description = "Name to answer to besides localhost while no key is needed, as behind a proxy; * for all.", HelpName = "NAME", DefaultValueFactory = _ => [] };
        private readonly Option<string?> keys = new("--keys") { Description = "File with keys and usage (SQLite). Once it holds a key, requests need one: 'fathom serve keys add'.", HelpName = "FILE" };
        private readonly Option<string?> prices = new("--prices") { Description = "Prices of a million tokens: from the cache, other input, output. CNY,0.1,1,2 if not given.", HelpName = "CUR,HIT,MISS,OUT" };
        private readonly Option<int> maxTokens = new("--max-tokens") { Description = "Tokens of an answer where the request does not say.", HelpName = "N", DefaultValueFactory = _ => Usual.DefaultMaxTokens };
        private readonly Option<double> deadline = new("--deadline") { Description = "Seconds after which an answer is cut.", HelpName = "S", DefaultValueFactory = _ => Usual.AnswerDeadline.TotalSeconds };
        private readonly Option<double> drain = new("--drain") { Description = "Seconds that answers may still take after SIGTERM.", HelpName = "S", DefaultValueFactory = _ => Usual.DrainDeadline.TotalSeconds };
        private readonly Option<string[]> runs = DashboardVerb.Runs();
        private readonly Option<string> metrics = new("--metrics-compat") { Description = "Prefix of the names at /metrics: vllm for dashboards made for it.", HelpName = "fathom|vllm", DefaultValueFactory = _ => Usual.MetricsPrefix };
        private readonly Option<string?> otlp = new("--otlp") { Description = "Send metrics and traces there with OTLP over HTTP, as http://localhost:4318.", HelpName = "URL" };
        private readonly Option<bool> logPrompts = new("--log-prompts") { Description = "Write prompts and answers to the log." };

        public NetworkArguments(Command command)
        {
            foreach (Option option in (Option[])[host, port, name, alias, origins, hosts, keys, prices, maxTokens, deadline, drain, runs, metrics, otlp, logPrompts]) command.Options.Add(option);
        }

        public FathomServerOptions Read(ParseResult arguments)
        {
            var options = new FathomServerOptions
            {
                Host = arguments.GetValue(host)!,
                Port = arguments.GetValue(port),
                ModelName = arguments.GetValue(name),
                KeysFile = arguments.GetValue(keys),
                DefaultMaxTokens = arguments.GetValue(maxTokens),
                AnswerDeadline = Seconds(arguments.GetValue(deadline), "--deadline"),
                DrainDeadline = Seconds(arguments.GetValue(drain), "--drain"),
                MetricsPrefix = arguments.GetValue(metrics)!,
                LogPrompts = arguments.GetValue(logPrompts),
            };
            foreach (string other in arguments.GetValue(alias) ?? []) options.Aliases.Add(other);
            foreach (string origin in arguments.GetValue(origins) ?? []) options.AllowedOrigins.Add(origin);
            foreach (string known in arguments.GetValue(hosts) ?? []) options.AllowedHosts.Add(known);
            if (arguments.GetValue(prices) is { } list) options.Prices = Prices(list);
            if (arguments.GetValue(otlp) is { } url)
                options.OtlpEndpoint = Uri.TryCreate(url, UriKind.Absolute, out Uri? endpoint) ? endpoint : throw new FathomException($"--otlp is '{url}'; give a URL as http://localhost:4318");
            DashboardVerb.AddRuns(options, arguments.GetValue(runs));
            options.Validate();
            return options;
        }

        private static TimeSpan Seconds(double seconds, string option) => seconds is > 0 and <= 86400
            ? TimeSpan.FromSeconds(seconds)
            : throw new FathomException(Invariant($"{option} is {seconds}; give seconds above 0, at most a day"));

        private static PriceList Prices(string text) =>
            text.Split(',') is [{ } currency, { } hit, { } miss, { } output] && Number(hit) is { } h && Number(miss) is { } m && Number(output) is { } o
                ? new PriceList(currency, h, m, o)
                : throw new FathomException($"--prices is '{text}'; give a currency and three prices of a million tokens, as CNY,0.1,1,2");

        private static decimal? Number(string text) => decimal.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number) ? number : null;
    }

    /// <summary>Options of the engine.</summary>
    private sealed class EngineArguments
    {
        private static readonly EngineOptions Usual = new();
        private readonly Option<int> context = new("--context") { Description = "Most tokens of a request, prompt and answer; 0 for the model's own, at most 32,768.", HelpName = "N" };
        private readonly Option<long> cache = new("--cache-tokens") { Description = "Tokens that the cache holds, of all requests together; 0 for four contexts.", HelpName = "N" };
        private readonly Option<DType> cacheType = CommonOptions.Cache();
        private readonly Option<int> running = new("--max-running") { Description = "Most requests that are computed side by side.", HelpName = "N", DefaultValueFactory = _ => Usual.MostRunning };
        private readonly Option<int> waiting = new("--max-waiting") { Description = "Most requests that wait; further ones are refused.", HelpName = "N", DefaultValueFactory = _ => Usual.MostWaiting };
        private readonly Option<int> step = new("--step-tokens") { Description = "Tokens of a step: how long a prompt may delay the tokens of others.", HelpName = "N", DefaultValueFactory = _ => Usual.StepTokens };
        private readonly Option<bool> invariant = new("--batch-invariant") { Description = "Whether a request with a seed has the same text whatever else runs; false multiplies faster, above all on a GPU.", HelpName = "true|false", DefaultValueFactory = _ => Usual.BatchInvariant };
        private readonly Option<int> draft = new("--draft") { Description = "Most tokens that the model's MTP module drafts a step; 0 drafts none.", HelpName = "N" };

        public EngineArguments(Command command)
        {
            foreach (Option option in (Option[])[context, cache, cacheType, running, waiting, step, invariant, draft]) command.Options.Add(option);
        }

        public EngineOptions Read(ParseResult arguments)
        {
            var options = new EngineOptions
            {
                ContextTokens = arguments.GetValue(context),
                CacheTokens = arguments.GetValue(cache),
                CacheType = arguments.GetValue(cacheType),
                MostRunning = arguments.GetValue(running),
                MostWaiting = arguments.GetValue(waiting),
                StepTokens = arguments.GetValue(step),
                BatchInvariant = arguments.GetValue(invariant),
                DraftTokens = arguments.GetValue(draft),
            };
            options.Validate();
            return options;
        }
    }
}
