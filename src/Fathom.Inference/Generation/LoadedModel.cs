// A model folder opened for inference: configuration, mapped weights, tokenizer, chat template. A run directory stands for the
// model in it.
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Text;

namespace Fathom.Inference;

/// <summary>A model with what is needed to talk to it.</summary>
public sealed class LoadedModel
{
    private LoadedModel(string path, DeepSeekModel model, Tokenizer? tokenizer, ChatTemplate? chatTemplate, IReadOnlyList<int> eosIds)
    {
        (Path, Model, Tokenizer, ChatTemplate, EosIds) = (path, model, tokenizer, chatTemplate, eosIds);
    }

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>The model.</summary>
    public DeepSeekModel Model { get; }

    /// <summary>The tokenizer, or null where the folder has none.</summary>
    public Tokenizer? Tokenizer { get; }

    /// <summary>The chat template, or null where the folder has none.</summary>
    public ChatTemplate? ChatTemplate { get; }

    /// <summary>Ids that end a text.</summary>
    public IReadOnlyList<int> EosIds { get; }

    /// <summary>Opens a model folder or a run directory. Weights are mapped, not copied.</summary>
    /// <param name="device">Where to compute.</param>
    /// <param name="path">The folder.</param>
    /// <param name="weights">Which weights, where a run has several.</param>
    /// <exception cref="FathomException">The folder holds no model, one that does not fit its configuration, or no such weights.</exception>
    /// <exception cref="TextFormatException">The tokenizer is broken.</exception>
    public static LoadedModel Open(Device device, string path, WeightSet weights = WeightSet.Last)
    {
        string folder = Resolve(path, weights);
        ModelConfig config = ModelConfig.Load(folder);
        Checkpoint checkpoint = Checkpoint.Open(weights == WeightSet.Ema ? System.IO.Path.Combine(folder, Checkpoint.EmaFile) : folder);
        var model = new DeepSeekModel(device, config, new CheckpointSource(device, checkpoint, config));
        Tokenizer? tokenizer = File.Exists(System.IO.Path.Combine(folder, "tokenizer.json")) ? Tokenizer.Load(folder) : null;
        return new LoadedModel(folder, model, tokenizer, ChatTemplate.Load(folder), config.EosTokenIds);
    }

    /// <summary>The tokenizer, or an error that says it is missing.</summary>
    /// <exception cref="FathomException">The folder has no tokenizer.json.</exception>
    public Tokenizer RequireTokenizer() =>
        Tokenizer ?? throw new FathomException($"{Path} has no tokenizer.json; give token ids (--ids), or put the model's tokenizer there");

    /// <summary>The model folder that a path means: itself, a run's exported model, or a run's newest checkpoint. Only checkpoints hold averages.</summary>
    private static string Resolve(string path, WeightSet weights)
    {
        if (!Directory.Exists(path)) throw new FathomException($"there is no model folder {path}");
        bool ema = weights == WeightSet.Ema;
        if (HasModel(path)) return !ema || HasAverage(path) ? path : throw NoAverage(path);
        string exported = System.IO.Path.Combine(path, "model");
        if (!ema && HasModel(exported)) return exported;
        string checkpoints = System.IO.Path.Combine(path, "checkpoints");
        string? newest = Directory.Exists(checkpoints)
            ? Directory.EnumerateDirectories(checkpoints, "step-*").Where(HasModel).Order(StringComparer.Ordinal).LastOrDefault()
            : null;
        if (newest is null) throw new FathomException($"{path} holds no model: there is no config.json, and it is not a run directory with a checkpoint");
        return !ema || HasAverage(newest) ? newest : throw NoAverage(newest);

        static bool HasModel(string folder) => File.Exists(System.IO.Path.Combine(folder, "config.json"));
        static bool HasAverage(string folder) => File.Exists(System.IO.Path.Combine(folder, Checkpoint.EmaFile));
        static FathomException NoAverage(string folder) =>
            new($"{folder} has no averaged weights ({Checkpoint.EmaFile}); only checkpoints of a run whose configuration has \"ema\" do");
    }
}
