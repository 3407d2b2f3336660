// Thousands of requests of every kind on a server, good and bad ones, with every answer compared: what must hold before a server is left alone.
using System.CommandLine;
using System.Text.Json;
using Fathom.Cli.Benchmarks.Serve;
using Fathom.Cli.Benchmarks.Soak;
using Fathom.Cli.Terminal;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Server.Accounts;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom bench soak</c>.</summary>
internal static class BenchSoakVerb
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create()
    {
        var address = new Argument<string?>("url") { Description = "A server of 'fathom serve' that runs; with --model one is started.", DefaultValueFactory = _ => null };
        var model = new Option<string?>("--model") { Description = "Serve this folder for the soak, with keys, and watch the process's memory and files.", HelpName = "DIR" };
        var requests = new Option<int>("--requests") { Description = "How many requests.", HelpName = "N", DefaultValueFactory = _ => 10_000 };
        var streams = new Option<int>("--streams") { Description = "How many at a time.", HelpName = "N", DefaultValueFactory = _ => 32 };
        var context = new Option<int>("--context") { Description = "Context of the server that is started.", HelpName = "N", DefaultValueFactory = _ => 1024 };
        var cache = new Option<long>("--cache-tokens") { Description = "Tokens of its cache; few make requests give up their memory.", HelpName = "N", DefaultValueFactory = _ => 4096 };
        var threads = CommonOptions.Threads();
        var key = new Option<string?>("--key") { Description = "Key of a server that runs.", HelpName = "KEY" };
        var data = new Option<string?>("--data") { Description = "Text that prompts are cut from; the SDK's API documentation if not given.", HelpName = "FILE" };
        var seed = new Option<int>("--seed") { Description = "Decides what is asked.", HelpName = "N", DefaultValueFactory = _ => 1 };
        var json = new Option<string?>("--json") { Description = "Write the numbers to a file as well.", HelpName = "FILE" };
        var command = new Command("soak", "Ask a server thousands of things, right and wrong, and see that no answer is lost or another's, and nothing is left behind.")
        {
            address, model, requests, streams, context, cache, threads, key, data, seed, json,
        };
        command.SetAction(async (arguments, cancellation) =>
        {
            string? url = arguments.GetValue(address), folder = arguments.GetValue(model);
            if (url is null == folder is null) throw new FathomException("which server? give the address of one that runs, or --model DIR to start one");
            var shape = new SoakShape(AtLeastOne(requests, arguments.GetValue(requests)), AtLeastOne(streams, arguments.GetValue(streams)), arguments.GetValue(seed));
            PromptSource prompts = PromptSource.Open(arguments.GetValue(data), shape.Seed);
            DirectoryInfo temporary = Directory.CreateTempSubdirectory("fathom-soak-");
            try
            {
                SoakReport report;
                if (url is not null)
                {
                    if (!Uri.TryCreate(url, UriKind.Absolute, out Uri? server)) throw new FathomException($"the server's address is '{url}'; give one as http://127.0.0.1:8000");
                    report = await new SoakRun(server, new SoakKeys(arguments.GetValue(key) is { } given ? [given] : [], null), null).RunAsync(shape, prompts, cancellation);
                }
                else
                {
                    string books = Path.Combine(temporary.FullName, "keys.db");
                    SoakKeys keys = MakeKeys(books);
                    using SoakServer server = await SoakServer.StartAsync(
                        [
                            "--model", folder!, "--keys", books, "--context", Text(arguments.GetValue(context)), "--cache-tokens", Text(arguments.GetValue(cache)),
                            "--threads", Text(arguments.GetValue(threads)),
                        ],
                        cancellation);
                    report = await new SoakRun(server.Address, keys, server).RunAsync(shape, prompts, cancellation);
                }

                Console.WriteLine(report);
                if (arguments.GetValue(json) is { } file) AtomicFile.WriteAllText(file, report.ToJson().ToJsonString(Indented) + "\n");
                return report.Passed ? ExitCode.Success : ExitCode.Failed;
            }
            finally
            {
                temporary.Delete(recursive: true);
            }
        });
        return command;
    }

    private static SoakKeys MakeKeys(string file)
    {
        using var store = new KeyStore(file);
        return new SoakKeys([store.Add("ann").Key, store.Add("bob").Key, store.Add("eve", tokensPerMinute: 1_000_000_000).Key], store.Add("rare", requestsPerMinute: 30).Key);
    }

    private static string Text(long value) => value.ToString(System.Globalization.CultureInfo.InvariantCulture);

    private static int AtLeastOne(Option option, int value) => value >= 1 ? value : throw new FathomException($"{option.Name} is {value}, expected at least 1");
}
