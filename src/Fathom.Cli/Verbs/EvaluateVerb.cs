// Bits per byte of a text: what the model needs to encode it, comparable between tokenizers and with compressors.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom evaluate</c>.</summary>
internal static class EvaluateVerb
{
    private const int MicroBatchTokens = 2048;

    public static Command Create()
    {
        var model = CommonOptions.Model();
        var weights = CommonOptions.Weights();
        var data = new Option<string>("--data") { Description = "Text: a file, a folder, JSON lines, gzip of each.", HelpName = "PATH", Required = true };
        var length = new Option<int>("--sequence-length") { Description = "Tokens that are read at once; the text is cut into pieces of that length.", HelpName = "T", DefaultValueFactory = _ => 512 };
        var limit = new Option<long>("--max-tokens") { Description = "Evaluate whole documents up to this many tokens.", HelpName = "N", DefaultValueFactory = _ => long.MaxValue };
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var command = new Command("evaluate", "Measure a model's bits per byte on a text, beside gzip and Brotli.") { model, weights, data, length, limit, on, threads };
        command.SetAction(arguments =>
        {
            using Device device = CommonOptions.Device(arguments.GetValue(on), arguments.GetValue(threads));
            LoadedModel loaded = LoadedModel.Open(device, arguments.GetRequiredValue(model), arguments.GetValue(weights));
            int tokens = arguments.GetValue(length);
            if (tokens < 2 || tokens > loaded.Model.Config.MaxPositionEmbeddings)
                throw new FathomException($"--sequence-length is {tokens}; this model takes 2 to {loaded.Model.Config.MaxPositionEmbeddings}");
            if (arguments.GetValue(limit) < 1) throw new FathomException("--max-tokens must be positive");
            Evaluate(loaded, arguments.GetRequiredValue(data), tokens, arguments.GetValue(limit));
            return ExitCode.Success;
        });
        return command;
    }

    private static void Evaluate(LoadedModel loaded, string path, int length, long limit)
    {
        Tokenizer tokenizer = loaded.RequireTokenizer();
        int eos = tokenizer.EosId ?? throw new FathomException($"{loaded.Path}: the tokenizer has no end-of-sequence token to separate documents with");
        string folder = Directory.CreateTempSubdirectory("fathom-evaluate-").FullName;
        try
        {
            var options = new TokenFileOptions { EosId = eos, BosId = tokenizer.AddsBos ? tokenizer.BosId : null, TokenizerKey = loaded.Path, CorpusKey = path };
            using TokenFile file = TokenFileBuilder.Build(Path.Combine(folder, "text.tokens"), Corpus.Read(path), tokenizer, options);
            var windows = new ValidationWindows(file, length, limit);
            double nats = Loss(loaded.Model, windows);
            CompressionBaseline baseline = CompressionBaseline.Measure(new HeldOutText(file, tokenizer).Documents(windows.DocumentCount));
            Console.WriteLine(Invariant($"{windows.DocumentCount:N0} documents, {windows.Utf8Bytes:N0} bytes, {windows.TokenCount:N0} tokens ({(double)windows.Utf8Bytes / windows.TokenCount:F2} bytes a token)"));
            Console.WriteLine(Invariant($"loss                {nats / windows.TokenCount,7:F4} nats a token"));
            Console.WriteLine(Invariant($"this model          {windows.BitsPerByte(nats),7:F4} bits per byte"));
            Console.WriteLine(Invariant($"gzip -9             {baseline.GzipBitsPerByte,7:F4}"));
            Console.WriteLine(Invariant($"Brotli, quality 11  {baseline.BrotliBitsPerByte,7:F4}"));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static double Loss(DeepSeekModel model, ValidationWindows windows)
    {
        int length = windows.SequenceLength, batch = (int)Math.Min(Math.Max(1, MicroBatchTokens / length), windows.Count);
        var micro = new MicroBatch(model, batch, length, training: false, Recipe.ForInference(model.Device));
        var tokens = new int[batch * (length + 1)];
        var counted = new int[batch];
        double nats = 0;
        for (long first = 0; first < windows.Count; first += batch)
        {
            for (int b = 0; b < batch; b++)
            {
                // The last micro-batch may repeat its last window; what is repeated is not counted.
                long window = Math.Min(first + b, windows.Count - 1);
                counted[b] = windows.Fill(window, tokens.AsSpan(b * (length + 1), length + 1));
                if (window != first + b) counted[b] = 0;
            }

            micro.Load(tokens);
            model.Evaluate(micro);
            micro.Pull();
            ReadOnlySpan<float> losses = micro.Depths[0].HostLosses;
            for (int b = 0; b < batch; b++)
            {
                foreach (float loss in losses.Slice(b * length, counted[b])) nats += loss;
            }
        }

        return nats;
    }
}
