// Load on any OpenAI-compatible server, ours or another's, by the same command and the same definitions.
using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Cli.Benchmarks.Serve;
using Fathom.Cli.Terminal;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom bench serve</c>.</summary>
internal static class BenchServeVerb
{
    private const string KeyVariable = "FATHOM_API_KEY";
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create()
    {
        var address = new Argument<string>("url") { Description = "The server, with or without /v1.", DefaultValueFactory = _ => "http://127.0.0.1:8000/v1" };
        var command = new Command("serve", "Put load on an OpenAI-compatible server: open loop (--rate), closed loop (--streams), or a comparison (--compare).") { address };
        var load = new LoadArguments(command);
        command.SetAction(async (arguments, cancellation) =>
        {
            LoadArguments.Values values = load.Read(arguments);
            PromptSource prompts = PromptSource.Open(values.Data, values.Shape.Seed);
            using var endpoint = new ServeEndpoint(arguments.GetValue(address)!, values.Model, values.Key, values.Form);
            await endpoint.FindModelAsync(cancellation);
            var generator = new LoadGenerator(endpoint, prompts, values.Shape);
            await generator.WarmUpAsync(cancellation);
            Console.WriteLine(Invariant($"{endpoint.Model} at {endpoint.Address}; prompts of about {values.Shape.PromptTokens} tokens from {prompts.Name}, answers of at most {values.Shape.OutputTokens}; seed {values.Shape.Seed}"));
            var json = new JsonObject { ["url"] = endpoint.Address.ToString(), ["model"] = endpoint.Model, ["prompt_tokens"] = values.Shape.PromptTokens, ["output_tokens"] = values.Shape.OutputTokens, ["seed"] = values.Shape.Seed };
            bool failed = values.Compare is { } comparison
                ? await CompareAsync(comparison, values, new ServeComparison(endpoint, prompts, values.Shape), json, cancellation)
                : await LoadAsync(generator, values, json, cancellation);
            if (values.Json is { } file) AtomicFile.WriteAllText(file, json.ToJsonString(Indented) + "\n");
            return failed ? ExitCode.Failed : ExitCode.Success;
        });
        return command;
    }

    /// <summary>One load.</summary>
    /// <returns>Whether all requests failed.</returns>
    private static async Task<bool> LoadAsync(LoadGenerator generator, LoadArguments.Values values, JsonObject json, CancellationToken cancellation)
    {
        IReadOnlyList<RequestTiming> timings;
        if (values.Rate is { } rate)
        {
            Console.WriteLine(Invariant($"open loop: {values.Shape.Requests} requests, {rate} a second (Poisson)"));
            json["rate"] = rate;
            timings = await generator.ArriveAsync(rate, cancellation);
        }
        else
        {
            int streams = values.Streams!.Value;
            Console.WriteLine(Invariant($"closed loop: {values.Shape.Requests} requests, {streams} at a time"));
            json["streams"] = streams;
            timings = await generator.KeepBusyAsync(streams, cancellation);
        }

        var report = new LoadReport(timings);
        Console.WriteLine();
        Console.WriteLine(report);
        json["load"] = report.ToJson();
        return report.Answered == 0;
    }

    private static async Task<bool> CompareAsync(string name, LoadArguments.Values values, ServeComparison comparison, JsonObject json, CancellationToken cancellation)
    {
        ComparisonResult result = await (name switch
        {
            "streams" => comparison.StreamsAsync(values.Streams ?? 32, cancellation),
            "long-prompt" => comparison.LongPromptAsync(values.Streams ?? 8, values.LongTokens, cancellation),
            _ => comparison.PrefixAsync(values.PrefixTokens, cancellation),
        });
        Console.WriteLine();
        Console.WriteLine(result.Text);
        json[name] = result.Json;
        return false;
    }

    /// <summary>Options of the load.</summary>
    private sealed class LoadArguments
    {
        private readonly Option<double?> rate = new("--rate") { Description = "Open loop: requests a second, arriving at random (Poisson).", HelpName = "R" };
        private readonly Option<int?> streams = new("--streams") { Description = "Closed loop: requests under way at any time. With --compare: how many streams (32; long-prompt: 8).", HelpName = "N" };
        private readonly Option<string?> compare = new("--compare") { Description = "streams: many against one. long-prompt: what it delays. prefix: time to the first token with and without a shared one.", HelpName = "NAME" };
        private readonly Option<int> requests = new("--requests") { Description = "How many requests.", HelpName = "N", DefaultValueFactory = _ => 64 };
        private readonly Option<int> promptTokens = new("--prompt-tokens") { Description = "Tokens of each prompt, about.", HelpName = "N", DefaultValueFactory = _ => 256 };
        private readonly Option<int> outputTokens = new("--output-tokens") { Description = "Tokens of each answer.", HelpName = "N", DefaultValueFactory = _ => 128 };
        private readonly Option<int> longTokens = new("--long-tokens") { Description = "Tokens of the prompt of --compare long-prompt.", HelpName = "N", DefaultValueFactory = _ => 4000 };
        private readonly Option<int> prefixTokens = new("--prefix-tokens") { Description = "Tokens of the prefix of --compare prefix.", HelpName = "N", DefaultValueFactory = _ => 2000 };
        private readonly Option<string?> model = new("--model") { Description = "The model's name; the first that the server lists if not given.", HelpName = "NAME" };
        private readonly Option<string?> key = new("--key") { Description = $"The server's key; {KeyVariable} if not given.", HelpName = "KEY" };
        private readonly Option<string?> data = new("--data") { Description = "Text that prompts are cut from; the SDK's API documentation if not given.", HelpName = "FILE" };
        private readonly Option<bool> completions = new("--completions") { Description = "Have text continued (/completions) instead of chats answered: for models without a chat template." };
        private readonly Option<bool> natural = new("--natural-end") { Description = "Let answers end where the model ends them, and send standard fields only; otherwise all have the same length (ignore_eos)." };
        private readonly Option<double> timeout = new("--timeout") { Description = "Seconds after which a request has failed.", HelpName = "S", DefaultValueFactory = _ => 600 };
        private readonly Option<int?> seed = new("--seed") { Description = "Of arrivals, prompts and answers; another each time if not given, so that a server's cache knows no prompt from the run before.", HelpName = "N" };
        private readonly Option<string?> json = new("--json") { Description = "Write the numbers to a file as well.", HelpName = "FILE" };

        public LoadArguments(Command command)
        {
            compare.AcceptOnlyFromAmong("streams", "long-prompt", "prefix");
            foreach (Option option in (Option[])[rate, streams, compare, requests, promptTokens, outputTokens, longTokens, prefixTokens, model, key, data, completions, natural, timeout, seed, json])
                command.Options.Add(option);
        }

        public Values Read(ParseResult arguments)
        {
            double? perSecond = arguments.GetValue(rate);
            int? atOnce = arguments.GetValue(streams);
            string? comparison = arguments.GetValue(compare);
            if (perSecond is null && atOnce is null && comparison is null)
                throw new FathomException("which load? give --rate R for an open loop, --streams N for a closed one, or --compare streams, long-prompt or prefix");
            if (perSecond is not null && (atOnce ?? (object?)comparison) is not null)
                throw new FathomException("--rate is an open loop; --streams and --compare are other loads: give one of them");
            if (perSecond is not null and not (> 0 and <= 1e6)) throw new FathomException(Invariant($"--rate is {perSecond}, expected requests a second, above 0 and at most a million"));
            double limit = arguments.GetValue(timeout);
            if (limit is not (> 0 and <= 86400)) throw new FathomException(Invariant($"--timeout is {limit}; give seconds above 0, at most a day"));
            return new Values(
                perSecond,
                atOnce is null ? null : AtLeastOne(streams, atOnce.Value),
                comparison,
                new LoadShape(AtLeastOne(requests, arguments.GetValue(requests)), AtLeastOne(promptTokens, arguments.GetValue(promptTokens)), AtLeastOne(outputTokens, arguments.GetValue(outputTokens)), arguments.GetValue(seed) ?? Random.Shared.Next()),
                new RequestForm(!arguments.GetValue(completions), !arguments.GetValue(natural), TimeSpan.FromSeconds(limit)))
            {
                LongTokens = AtLeastOne(longTokens, arguments.GetValue(longTokens)),
                PrefixTokens = AtLeastOne(prefixTokens, arguments.GetValue(prefixTokens)),
                Model = arguments.GetValue(model),
                Key = arguments.GetValue(key) ?? Environment.GetEnvironmentVariable(KeyVariable),
                Data = arguments.GetValue(data),
                Json = arguments.GetValue(json),
            };
        }

        private static int AtLeastOne(Option option, int value) => value >= 1 ? value : throw new FathomException($"{option.Name} is {value}, expected at least 1");

        /// <summary>What was asked for.</summary>
        internal sealed record Values(double? Rate, int? Streams, string? Compare, LoadShape Shape, RequestForm Form)
        {
            public int LongTokens { get; init; }

            public int PrefixTokens { get; init; }

            public string? Model { get; init; }

            public string? Key { get; init; }

            public string? Data { get; init; }

            public string? Json { get; init; }
        }
    }
}
