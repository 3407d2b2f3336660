// Continues a text or a row of ids. The new text goes to standard output as it comes; the numbers about it to the error stream, so
// that output can be piped.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Text;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom generate</c>.</summary>
internal static class GenerateVerb
{
    public static Command Create()
    {
        var model = CommonOptions.Model();
        var weights = CommonOptions.Weights();
        var prompt = new Option<string?>("--prompt", "-p") { Description = "Text to continue.", HelpName = "TEXT" };
        var promptFile = new Option<string?>("--prompt-file") { Description = "File with the text to continue; - for standard input.", HelpName = "FILE" };
        var ids = new Option<string?>("--ids") { Description = "Token ids to continue, as 1,2,3; needs no tokenizer.", HelpName = "IDS" };
        var printIds = new Option<bool>("--print-ids") { Description = "Print one line with the ids of prompt and continuation, between commas, in place of text; so does a model without tokenizer." };
        var raw = new Option<bool>("--raw") { Description = "Print the continuation alone: no prompt before it, no numbers after it." };
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var cache = CommonOptions.Cache();
        var command = new Command("generate", "Continue a text.") { model, weights, prompt, promptFile, ids, printIds, raw };
        var sampling = new SamplingArguments(command, defaultTokens: 128, defaultTemperature: 0.7f);
        command.Options.Add(on);
        command.Options.Add(threads);
        command.Options.Add(cache);
        command.Validators.Add(result =>
        {
            if (new Option[] { prompt, promptFile, ids }.Count(o => result.GetResult(o) is not null) != 1)
                result.AddError("give one of --prompt TEXT, --prompt-file FILE and --ids 1,2,3");
        });
        command.SetAction(arguments =>
        {
            SamplingOptions options = sampling.Read(arguments);
            int[]? given = arguments.GetValue(ids) is { } list ? TokenIds.Parse(list) : null;
            string? text = given is null ? arguments.GetValue(prompt) ?? ReadPrompt(arguments.GetValue(promptFile)!) : null;
            using Device device = CommonOptions.Device(arguments.GetValue(on), arguments.GetValue(threads));
            LoadedModel loaded = LoadedModel.Open(device, arguments.GetRequiredValue(model), arguments.GetValue(weights));
            int[] tokens = given ?? Encode(loaded.RequireTokenizer(), text!);
            bool asIds = arguments.GetValue(printIds) || loaded.Tokenizer is null;
            if (asIds && options.StopSequences.Count > 0) throw new FathomException("--stop is about text; it does not go with --print-ids or a model without tokenizer");
            using var interruption = new Interruption();
            using InferenceEngine engine = Engine(loaded, tokens.Length, options.MaxNewTokens, arguments.GetValue(cache));
            Generation generation = engine.Submit(new GenerationRequest { Prompt = tokens, Sampling = options }, interruption.Token);
            if (asIds) PrintIds(generation, tokens);
            else PrintText(generation, text, arguments.GetValue(raw));
            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>An engine for one text, with room for prompt and continuation as far as the model's context goes.</summary>
    private static InferenceEngine Engine(LoadedModel model, int prompt, int more, DType cache)
    {
        int room = (int)Math.Min(model.Model.Config.MaxPositionEmbeddings, (long)prompt + Math.Max(1, more));
        return new InferenceEngine(model, new EngineOptions { ContextTokens = room, CacheTokens = room, CacheType = cache, MostRunning = 1, Reuse = PrefixReuse.None, BatchInvariant = false });
    }

    private static void PrintIds(Generation generation, int[] tokens)
    {
        List<int> all = [.. tokens];
        foreach (GenerationPiece piece in generation.ToBlockingEnumerable()) all.AddRange(piece.Tokens.Select(token => token.Id));
        Console.WriteLine(TokenIds.Format(all));
    }

    private static void PrintText(Generation generation, string? text, bool raw)
    {
        if (!raw && text is not null) Console.Write(text);
        foreach (GenerationPiece piece in generation.ToBlockingEnumerable())
        {
            Console.Write(piece.Text);
            Console.Out.Flush();
        }

        if (raw) return;
        GenerationResult result = generation.Completion.Result;
        Console.WriteLine();
        Console.Error.WriteLine(Invariant($"[{result.PromptTokens} tokens read in {result.TimeToFirstToken.TotalMilliseconds:F0} ms, {result.NewTokens} written at {result.TokensPerSecond:F1} tokens/s; ended by {Reason(result.Reason)}]"));
    }

    private static string Reason(FinishReason reason) => reason switch
    {
        FinishReason.Stop => "an end token or stop text",
        FinishReason.Length => "length",
        _ => "Ctrl-C",
    };

    private static int[] Encode(Tokenizer tokenizer, string text)
    {
        int[] ids = tokenizer.Encode(text);
        return tokenizer is { AddsBos: true, BosId: { } bos } && (ids.Length == 0 || ids[0] != bos) ? [bos, .. ids] : ids;
    }

    private static string ReadPrompt(string file)
    {
        if (file == "-") return Console.In.ReadToEnd();
        try
        {
            return File.ReadAllText(file);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"cannot read the prompt {file}: {error.Message}", error);
        }
    }
}
