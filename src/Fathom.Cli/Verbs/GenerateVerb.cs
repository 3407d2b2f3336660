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
        var command = new Command("generate", "Continue a text.") { model, weights, prompt, promptFile, ids, printIds, raw };
        var sampling = new SamplingArguments(command, defaultTokens: 128, defaultTemperature: 0.7f);
        command.Options.Add(on);
        command.Options.Add(threads);
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
            using var interruption = new Interruption();
            if (arguments.GetValue(printIds) || loaded.Tokenizer is null) PrintIds(loaded, tokens, options, interruption.Token);
            else PrintText(loaded, tokens, text, options, arguments.GetValue(raw), interruption.Token);
            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>A session with room for a prompt and its continuation, as far as the model's context goes.</summary>
    private static GenerationSession Session(LoadedModel model, int prompt, int more) =>
        new(model.Model, (int)Math.Min((long)model.Model.Config.MaxPositionEmbeddings, Math.Max(1, (long)prompt + more)));

    private static void PrintIds(LoadedModel model, int[] tokens, SamplingOptions options, CancellationToken stop)
    {
        if (options.StopSequences.Count > 0) throw new FathomException("--stop is about text; it does not go with --print-ids or a model without tokenizer");
        List<int> all = [.. tokens];
        using GenerationSession session = Session(model, tokens.Length, options.MaxNewTokens);
        session.Generate(
            tokens, options, model.EosIds,
            id =>
            {
                all.Add(id);
                return true;
            },
            stop);
        Console.WriteLine(TokenIds.Format(all));
    }

    private static void PrintText(LoadedModel model, int[] tokens, string? text, SamplingOptions options, bool raw, CancellationToken stop)
    {
        var stream = new TextStream(model.RequireTokenizer(), options.StopSequences, Console.Out);
        using GenerationSession session = Session(model, tokens.Length, options.MaxNewTokens);
        if (!raw && text is not null) Console.Write(text);
        GenerationReport report = session.Generate(tokens, options, model.EosIds, stream.Push, stop);
        stream.Finish();
        if (raw) return;
        Console.WriteLine();
        Console.Error.WriteLine(Invariant($"[{report.PromptTokens} tokens read in {report.PrefillSeconds * 1e3:F0} ms, {report.NewTokens} written at {report.TokensPerSecond:F1} tokens/s; ended by {Reason(report.Reason)}]"));
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
