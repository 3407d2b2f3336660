// Drafts of a model's own MTP module: acceptance and speed, with the costs that explain them.
using System.CommandLine;
using Fathom.Cli.Benchmarks;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom bench mtp</c>.</summary>
internal static class BenchMtpVerb
{
    private const int Prompts = 64, PromptTokens = 24, LeastTokens = 16;

    public static Command Create()
    {
        var model = CommonOptions.Model();
        var weights = CommonOptions.Weights();
        var data = new Option<string?>("--data") { Description = "Text whose documents' beginnings are continued; the held-out documents of the run if not given.", HelpName = "PATH" };
        var tokens = new Option<int>("--tokens") { Description = "Tokens to generate for each.", HelpName = "N", DefaultValueFactory = _ => 256 };
        var quick = new Option<bool>("--quick") { Description = "Each row once; the numbers are rougher." };
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var command = new Command("mtp", "Speculative decoding with the model's own MTP module: acceptance by place, tokens a second with and without.") { model, weights, data, tokens, quick, on, threads };
        command.SetAction(arguments =>
        {
            using Device device = CommonOptions.Device(arguments.GetValue(on), arguments.GetValue(threads));
            string path = arguments.GetRequiredValue(model);
            LoadedModel loaded = LoadedModel.Open(device, path, arguments.GetValue(weights));
            if (loaded.Model.MtpModules.Count == 0) throw new FathomException($"{loaded.Path} has no MTP module, so nothing can be drafted; train one with \"num_nextn_predict_layers\": 1");
            int count = arguments.GetValue(tokens);
            if (count < LeastTokens || count + PromptTokens >= loaded.Model.Config.MaxPositionEmbeddings)
                throw new FathomException($"--tokens is {count}; this model takes {LeastTokens} to {loaded.Model.Config.MaxPositionEmbeddings - PromptTokens - 1} behind a prompt");
            int[][] prompts = [.. Beginnings(loaded.RequireTokenizer(), path, arguments.GetValue(data)).Take(Prompts)];
            if (prompts.Length == 0) throw new FathomException("the text has no document to continue; give another with --data");
            Console.WriteLine($"{device.Name}; {loaded.Path}; {prompts.Length} prompts of up to {PromptTokens} tokens, {count} tokens each");
            Console.WriteLine();
            Console.WriteLine(BenchmarkRow.Header);
            foreach (BenchmarkRow row in new DraftBenchmark(loaded, prompts, count, arguments.GetValue(quick) ? 1 : 4).Run()) Console.WriteLine(row);
            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>An end token, which documents follow in training, and the first tokens of a document.</summary>
    private static IEnumerable<int[]> Beginnings(Tokenizer tokenizer, string model, string? data)
    {
        int[] before = tokenizer.EosId is { } eos ? [eos] : [];
        string heldOut = Path.Combine(model, "data", "heldout.tokens");
        if (data is null && !File.Exists(heldOut)) throw new FathomException($"{model} has no held-out text (data/heldout.tokens) to continue; give one with --data");
        if (data is not null)
        {
            foreach (Document document in Corpus.Read(data)) yield return [.. before, .. tokenizer.Encode(document.Text).Take(PromptTokens)];
            yield break;
        }

        using TokenFile file = TokenFile.Open(heldOut);
        int skipped = file.BosId is null ? 0 : 1, count = Math.Min(Prompts, file.DocumentCount);
        for (int i = 0; i < count; i++)
        {
            int document = (int)((long)i * file.DocumentCount / count);
            var ids = new int[Math.Min(PromptTokens, file.DocumentTokens(document) - skipped - 1)];
            file.CopyTokens(file.DocumentStart(document) + skipped, ids);
            yield return [.. before, .. ids];
        }
    }
}
