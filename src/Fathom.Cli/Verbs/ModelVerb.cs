// The size of a model by part, from its configuration alone: nothing is allocated, so the largest presets are shown at once.
using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Cli.Terminal;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom model</c>: parameters by part, FLOPs per token, cache bytes per token.</summary>
internal static class ModelVerb
{
    private const int PublishedLength = 4096; // the length at which the published FLOPs are counted
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create()
    {
        var model = new Argument<string>("NAME_OR_DIR")
        {
            Description = $"A preset ({string.Join(", ", ModelPresets.Names)}), a model folder, a run directory or a config.json.",
        };
        var json = new Option<bool>("--json") { Description = "Print JSON." };
        var memory = new Option<bool>("--memory") { Description = "Show instead the memory that a training step takes, by formula." };
        var recipe = CommonOptions.Recipe();
        var batch = new Option<int>("--batch") { Description = "Sequences of a micro-batch, for --memory.", HelpName = "N", DefaultValueFactory = _ => 1 };
        var tokens = new Option<int?>("--tokens") { Description = "Tokens of a sequence, for --memory; 4096 or the most that the model takes if not given.", HelpName = "N" };
        var on = CommonOptions.Device();
        on.Description = "For --memory: where the step would run; the GPU need not be here.";
        var command = new Command("model", "Show a model's parameters by part, FLOPs and cache bytes per token, or the memory of a training step.") { model, json, memory, recipe, batch, tokens, on };
        command.Validators.Add(result =>
        {
            if (result.GetResult(memory) is null && new Option[] { recipe, batch, tokens, on }.Any(o => result.GetResult(o) is { Implicit: false }))
                result.AddError("--recipe, --batch, --tokens and --device go with --memory");
        });
        command.SetAction(arguments =>
        {
            string name = arguments.GetRequiredValue(model);
            ModelConfig config = Resolve(name);
            if (arguments.GetValue(memory))
            {
                Recipe precision = CommonOptions.ReadRecipe(arguments.GetValue(recipe) ?? Recipe.Fp8.Name);
                int length = arguments.GetValue(tokens) ?? Math.Min(PublishedLength, config.MaxPositionEmbeddings);
                ShowMemory(name, config, precision, arguments.GetValue(batch), length, arguments.GetValue(on), arguments.GetValue(json));
            }
            else if (arguments.GetValue(json)) Console.WriteLine(Json(name, config).ToJsonString(Indented));
            else Print(name, config);
            return ExitCode.Success;
        });
        return command;
    }

    private static ModelConfig Resolve(string name)
    {
        if (File.Exists(name)) return ModelConfig.Load(name);
        if (Directory.Exists(name))
        {
            // A run directory stands for the model that it exported.
            string exported = Path.Combine(name, "model");
            bool isRun = !File.Exists(Path.Combine(name, "config.json")) && File.Exists(Path.Combine(exported, "config.json"));
            return ModelConfig.Load(isRun ? exported : name);
        }

        if (ModelPresets.Names.Contains(name)) return ModelPresets.Get(name);
        throw new FathomException($"there is no preset and no folder \"{name}\"; presets are {string.Join(", ", ModelPresets.Names)}");
    }

    private static void Print(string name, ModelConfig config)
    {
        var size = new ModelSize(config);
        long length = Math.Min(PublishedLength, config.MaxPositionEmbeddings);
        Console.WriteLine($"{name}: {config.Architecture}, {config.NumHiddenLayers} layers, width {config.HiddenSize}, {config.NumAttentionHeads} heads, vocabulary {config.VocabSize}");
        Console.WriteLine();
        Console.WriteLine($"{"part",-16} {"parameters",19} {"active per token",19}");
        foreach (SizeRow row in size.Rows())
            Console.WriteLine(Invariant($"{row.Part,-16} {row.Parameters,19:N0} {row.Active,19:N0}"));
        Console.WriteLine();
        Line("in a file, MTP's copies of embedding and head among them", Invariant($"{size.FileParameters:N0} parameters"));
        Line(Invariant($"training, {length} tokens, causal mask counted"), Short(size.TrainingFlopsPerToken(length)) + " FLOPs per token");
        Line(Invariant($"training, {length} tokens, whole attention matrix"), Short(size.TrainingFlopsPerToken(length, causal: false)) + " FLOPs per token");
        Line(Invariant($"decoding after {length} tokens"), Short(size.DecodeFlops(length)) + " FLOPs per token");
        Line("KV cache, BF16", Invariant($"{size.CacheBytesPerToken():N0} bytes per token"));
        Line("KV cache, FP8", Invariant($"{size.CacheBytesPerToken(DType.F8E4M3):N0} bytes per token"));

        static void Line(string what, string value) => Console.WriteLine($"{what,-58} {value}");
    }

    private static void ShowMemory(string name, ModelConfig config, Recipe recipe, int batch, int tokens, DeviceChoice on, bool json)
    {
        MemoryEstimate estimate = MemoryEstimate.For(config, recipe, batch, tokens, recipe.OptimizerMoments, on.Traits);
        var rows = new List<(string Kind, long Bytes)>
        {
            ("weights", estimate.Weights), ("weight copies", estimate.WeightCopies), ("gradients", estimate.Gradients), ($"moments, {recipe.OptimizerMoments}", estimate.Moments),
        };
        foreach (DType type in Enum.GetValues<DType>())
        {
            if (estimate.SavedBytes[(int)type] > 0) rows.Add(($"saved {type}", estimate.SavedBytes[(int)type]));
        }

        rows.AddRange([("workspace", estimate.Workspace), ("saved activations", estimate.Saved), ("in all", estimate.Total)]);
        if (json)
        {
            var report = new JsonObject
            {
                ["name"] = name,
                ["recipe"] = recipe.ToString(),
                ["micro_batch"] = batch,
                ["sequence_length"] = tokens,
                ["bytes"] = new JsonObject(rows.Select(row => KeyValuePair.Create<string, JsonNode?>(row.Kind, row.Bytes))),
            };
            Console.WriteLine(report.ToJsonString(Indented));
            return;
        }

        Console.WriteLine(Invariant($"{name}, recipe {recipe}, a micro-batch of {batch} x {tokens} tokens: bytes of a training step on one device"));
        Console.WriteLine();
        foreach ((string kind, long bytes) in rows) Console.WriteLine(Invariant($"{kind,-24} {bytes,22:N0}"));
    }

    private static JsonObject Json(string name, ModelConfig config)
    {
        var size = new ModelSize(config);
        long length = Math.Min(PublishedLength, config.MaxPositionEmbeddings);
        return new JsonObject
        {
            ["name"] = name,
            ["parts"] = new JsonArray([.. size.Rows().Select(row => new JsonObject
            {
                ["part"] = row.Part,
                ["parameters"] = row.Parameters,
                ["active"] = row.Active,
            })]),
            ["main_parameters"] = size.MainParameters,
            ["mtp_parameters"] = size.MtpParameters,
            ["file_parameters"] = size.FileParameters,
            ["active_parameters"] = size.ActiveParameters,
            ["active_parameters_without_embedding"] = size.ActiveParametersWithoutEmbedding,
            ["flops"] = new JsonObject
            {
                ["sequence_length"] = length,
                ["training_per_token_causal"] = size.TrainingFlopsPerToken(length),
                ["training_per_token"] = size.TrainingFlopsPerToken(length, causal: false),
                ["decode_per_token"] = size.DecodeFlops(length),
            },
            ["cache_bytes_per_token"] = size.CacheBytesPerToken(),
            ["fp8_cache_bytes_per_token"] = size.CacheBytesPerToken(DType.F8E4M3),
        };
    }
}
