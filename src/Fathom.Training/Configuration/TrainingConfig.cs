// Everything a run depends on, in one JSON file: printed, validated at the start with the name of the wrong field, stored with the
// run. Field names are snake_case; an unknown field is an error, because a misspelt one would silently train something else.
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>Where the tokens come from.</summary>
public enum DataType
{
    /// <summary>Text files, folders, JSON lines, gzip of each: <see cref="DataConfig.Path"/>.</summary>
    Text,

    /// <summary>The .NET API documentation of the SDK's reference packs.</summary>
    ReferencePacks,

    /// <summary>Ready batches of ids in a safetensors tensor [steps, B, T + 1]: <see cref="DataConfig.File"/>, <see cref="DataConfig.Tensor"/>.</summary>
    Batches,
}

/// <summary>The data of a run.</summary>
public sealed record DataConfig
{
    /// <summary>Kind of source.</summary>
    public DataType Type { get; init; } = DataType.Text;

    /// <summary>File or folder, for text.</summary>
    public string? Path { get; init; }

    /// <summary>Field of a JSON line that holds the text.</summary>
    public string Field { get; init; } = "text";

    /// <summary>Share of documents that are cut for fill-in-the-middle ([P] §4.1: 0.1).</summary>
    public double FimRate { get; init; } = 0.1;

    /// <summary>Share of documents held out for validation.</summary>
    public double HeldOut { get; init; } = 0.01;

    /// <summary>Most UTF-8 bytes of text to read; null for all.</summary>
    public long? MaxBytes { get; init; }

    /// <summary>Safetensors file, for batches.</summary>
    public string? File { get; init; }

    /// <summary>Name of the tensor in it.</summary>
    public string? Tensor { get; init; }
}

/// <summary>The tokenizer of a run: loaded, or trained on the run's text.</summary>
public sealed record TokenizerConfig
{
    /// <summary>Folder or tokenizer.json to load; null to train one.</summary>
    public string? Path { get; init; }

    /// <summary>Vocabulary to train, special tokens included.</summary>
    public int VocabSize { get; init; } = 8192;
}

/// <summary>AdamW and clipping ([P] §4.2).</summary>
public sealed record OptimizerConfig
{
    /// <summary>β1.</summary>
    public float Beta1 { get; init; } = 0.9f;

    /// <summary>β2.</summary>
    public float Beta2 { get; init; } = 0.95f;

    /// <summary>ε.</summary>
    public float Epsilon { get; init; } = 1e-8f;

    /// <summary>Decoupled decay of matrices.</summary>
    public float WeightDecay { get; init; } = 0.1f;

    /// <summary>Largest gradient norm; zero for no clipping.</summary>
    public float ClipNorm { get; init; } = 1;

    /// <summary>Type of both moments, F32 or BF16 ([P] §3.3.2); null for the recipe's.</summary>
    public DType? Moments { get; init; }

    /// <summary>Checks that moments of a type can follow their decay.</summary>
    /// <exception cref="FathomException">Another type, or a decay that rounding to BF16 undoes.</exception>
    internal void RequireMoments(DType moments)
    {
        if (moments is not (DType.F32 or DType.BF16)) throw new FathomException("training configuration: optimizer.moments must be f32 or bf16");
        if (moments == DType.F32) return;

        // A moment that shrinks by less than half a BF16 step, 2^-8 of it, is rounded back to what it was.
        const float Largest = 1 - 1 / 256f;
        string? field = Beta1 > Largest ? "optimizer.beta1" : Beta2 > Largest ? "optimizer.beta2" : null;
        if (field is not null)
            throw new FathomException($"training configuration: {field} must be at most 0.996 with moments in bf16, whose rounding would undo a slower decay; lower it or set optimizer.moments to f32");
    }
}

/// <summary>The exponential moving average of the weights ([P] §3.2.3).</summary>
public sealed record EmaConfig
{
    /// <summary>What an update leaves of the older weights' share.</summary>
    public double Decay { get; init; } = 0.999;

    /// <summary>Steps between updates.</summary>
    public long Every { get; init; } = 1;
}

/// <summary>A training run.</summary>
public sealed partial record TrainingConfig
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.KebabCaseLower) },
        ReadCommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
        WriteIndented = true,
    };

    /// <summary>Seed of initial weights, data order and FIM.</summary>
    public ulong Seed { get; init; } = 1;

    /// <summary>A preset's name, or a config.json object. Null only with <see cref="InitFrom"/>, whose model it then is.</summary>
    public JsonNode? Model { get; init; }

    /// <summary>Folder of a checkpoint to start from.</summary>
    public string? InitFrom { get; init; }

    /// <summary>The tokenizer; not used with ready batches.</summary>
    public TokenizerConfig Tokenizer { get; init; } = new();

    /// <summary>The data.</summary>
    public required DataConfig Data { get; init; }

    /// <summary>The precision recipe: a name, or an object with "base" and the fields that differ from the recipe of that name.</summary>
    [JsonConverter(typeof(RecipeConverter))]
    public Recipe Recipe { get; init; } = Recipe.Fp32;

    /// <summary>Tokens of a sequence, T.</summary>
    public int SequenceLength { get; init; } = 512;

    /// <summary>Sequences of a micro-batch.</summary>
    public int MicroBatch { get; init; } = 8;

    /// <summary>Sequences of a step; rounded up to whole micro-batches.</summary>
    public Schedule BatchSize { get; init; } = Schedule.Constant(8);

    /// <summary>Steps to train; null where tokens or seconds bound the run.</summary>
    public long? Steps { get; init; }

    /// <summary>Tokens to train.</summary>
    public long? Tokens { get; init; }

    /// <summary>Seconds to train.</summary>
    public double? Seconds { get; init; }

    /// <summary>The optimizer.</summary>
    public OptimizerConfig Optimizer { get; init; } = new();

    /// <summary>Type of the optimizer's moments: the optimizer's own, else the recipe's.</summary>
    [JsonIgnore]
    public DType MomentType => Optimizer.Moments ?? Recipe.OptimizerMoments;

    /// <summary>Moving average of the weights, or null for none.</summary>
    public EmaConfig? Ema { get; init; }

    /// <summary>Learning rate.</summary>
    public Schedule LearningRate { get; init; } = Schedule.WarmUpConstantCosine(1e-3, 1e-4, 50, 0.7);

    /// <summary>γ, speed of the routing bias ([P] §4.2).</summary>
    public Schedule BiasUpdateSpeed { get; init; } = Schedule.Constant(0.001);

    /// <summary>λ, weight of the MTP loss.</summary>
    public Schedule MtpWeight { get; init; } = Schedule.Constant(0.3);

    /// <summary>α of the sequence-wise balance loss. No config.json has it: it is a choice of the training.</summary>
    public float BalanceAlpha { get; init; } = 1e-4f;

    /// <summary>Validate every so many steps; zero for only at the end.</summary>
    public long ValidateEvery { get; init; } = 100;

    /// <summary>Most held-out sequences of one validation.</summary>
    public int ValidationSequences { get; init; } = 64;

    /// <summary>Write the loads of all experts to the metrics every so many steps; zero for never, null for every ten, or more rarely where the model has many experts.</summary>
    public long? ExpertLoadEvery { get; init; }

    /// <summary>Save every so many steps; zero for only at the end.</summary>
    public long SaveEvery { get; init; } = 200;

    /// <summary>Checkpoints to keep.</summary>
    public int KeepCheckpoints { get; init; } = 3;

    /// <summary>Reads and validates a configuration file; relative paths in it are taken from its folder.</summary>
    /// <exception cref="FathomException">The file is missing, is not JSON, or a field is wrong.</exception>
    public static TrainingConfig Load(string path)
    {
        string text;
        try
        {
            text = File.ReadAllText(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"cannot read the training configuration {path}: {e.Message}", e);
        }

        return Parse(text, path).WithPathsFrom(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    /// <summary>Reads and validates a configuration.</summary>
    /// <param name="json">The text.</param>
    /// <param name="name">What to call it in errors.</param>
    public static TrainingConfig Parse(string json, string name)
    {
        TrainingConfig config;
        try
        {
            config = JsonSerializer.Deserialize<TrainingConfig>(json, Json) ?? throw new FathomException($"{name}: the configuration is null");
        }
        catch (JsonException e)
        {
            // The serializer speaks of .NET members; a person misspelt a field.
            Match unknown = UnknownField().Match(e.Message);
            string what = unknown.Success ? $"unknown field '{unknown.Groups[1].Value}'; the fields are in docs/run-directory.md" : e.Message;
            throw new FathomException($"{name}: {what}", e);
        }

        config.Validate();
        return config;
    }

    /// <summary>The configuration as JSON, every field written out.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json) + "\n";

    /// <summary>
    /// After how many steps the loads of all experts are written; zero for never. By default every ten, and of large models so rarely that they
    /// add at most 64 numbers a step: less than the steps' own lines.
    /// </summary>
    /// <param name="layers">Expert layers of the model, those of MTP modules included.</param>
    /// <param name="experts">Routed experts of a layer.</param>
    public long ExpertLoadInterval(int layers, int experts)
    {
        const long Usual = 10, NumbersAStep = 64;
        return layers == 0 ? 0 : ExpertLoadEvery ?? Math.Max(Usual, ((long)layers * experts + NumbersAStep - 1) / NumbersAStep);
    }

    /// <summary>Checks what can be checked without opening files.</summary>
    /// <exception cref="FathomException">Names the field.</exception>
    public void Validate()
    {
        Check(Model is not null || InitFrom is not null, "model", "give a preset's name or a config.json object, or init_from");
        Check(SequenceLength >= 2, "sequence_length", "must be at least 2");
        Check(MicroBatch >= 1, "micro_batch", "must be at least 1");
        Check(Steps is null or >= 0, "steps", "must not be negative");
        Check(Tokens is null or > 0, "tokens", "must be positive");
        Check(Seconds is null or > 0, "seconds", "must be positive");
        Check(Steps is not null || Tokens is not null || Seconds is not null, "steps", "give steps, tokens or seconds: a run needs an end");
        Check(Optimizer.Beta1 is >= 0 and < 1, "optimizer.beta1", "must be in [0, 1)");
        Check(Optimizer.Beta2 is >= 0 and < 1, "optimizer.beta2", "must be in [0, 1)");
        Check(Optimizer.Epsilon > 0, "optimizer.epsilon", "must be positive");
        Check(Optimizer.WeightDecay >= 0, "optimizer.weight_decay", "must not be negative");
        Check(Optimizer.ClipNorm >= 0, "optimizer.clip_norm", "must not be negative");
        Optimizer.RequireMoments(MomentType);
        Check(Ema is null or { Decay: > 0 and < 1 }, "ema.decay", "must be more than 0 and less than 1");
        Check(Ema is null or { Every: >= 1 }, "ema.every", "must be at least 1");
        Check(BalanceAlpha >= 0, "balance_alpha", "must not be negative");
        Check(KeepCheckpoints >= 1, "keep_checkpoints", "must be at least 1");
        Check(Data.FimRate is >= 0 and <= 1, "data.fim_rate", "must be between 0 and 1");
        Check(Data.HeldOut is >= 0 and < 1, "data.held_out", "must be in [0, 1)");
        Check(Data.Type != DataType.Text || Data.Path is not null, "data.path", "is missing: a file or folder of text");
        Check(Data.Type != DataType.Batches || Data is { File: not null, Tensor: not null }, "data", "of type batches needs file and tensor");
        Check(Tokenizer.VocabSize >= 300, "tokenizer.vocab_size", "must be at least 300: 256 bytes and the special tokens");
        Check(ValidateEvery >= 0, "validate_every", "must not be negative");
        Check(ExpertLoadEvery is null or >= 0, "expert_load_every", "must not be negative");
        Check(SaveEvery >= 0, "save_every", "must not be negative");
        BatchSize.Validate("batch_size");
        LearningRate.Validate("learning_rate");
        BiasUpdateSpeed.Validate("bias_update_speed");
        MtpWeight.Validate("mtp_weight");

        static void Check(bool holds, string field, string what)
        {
            if (!holds) throw new FathomException($"training configuration: {field} {what}");
        }
    }

    private sealed class RecipeConverter : JsonConverter<Recipe>
    {
        public override Recipe Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        {
            using JsonDocument document = JsonDocument.ParseValue(ref reader);
            return Recipe.Read(document.RootElement);
        }

        public override void Write(Utf8JsonWriter writer, Recipe value, JsonSerializerOptions options) => value.Write(writer);
    }

    [GeneratedRegex("^The JSON property '([^']+)' could not be mapped")]
    private static partial Regex UnknownField();

    private TrainingConfig WithPathsFrom(string folder)
    {
        return this with
        {
            InitFrom = Absolute(InitFrom),
            Tokenizer = Tokenizer with { Path = Absolute(Tokenizer.Path) },
            Data = Data with { Path = Absolute(Data.Path), File = Absolute(Data.File) },
        };

        string? Absolute(string? path) => path is null ? null : Path.GetFullPath(path, folder);
    }
}
