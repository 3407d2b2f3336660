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
    /// <summary>A model that is in memory already.</summary>
    /// <param name="path">The folder it came from, or a name for messages.</param>
    /// <param name="model">The model.</param>
    /// <param name="tokenizer">Its tokenizer, or null.</param>
    /// <param name="chatTemplate">Its chat template, or null.</param>
    /// <param name="eosIds">Ids that end a text.</param>
    public LoadedModel(string path, DeepSeekModel model, Tokenizer? tokenizer, ChatTemplate? chatTemplate, IReadOnlyList<int> eosIds)
    {
        (Path, Model, Tokenizer, ChatTemplate, EosIds) = (path, model, tokenizer, chatTemplate, eosIds);
    }

    /// <summary>The folder.</summary>
    public string Path { get; }

    /// <summary>What the model is called: its folder's name, or that of the run whose model or checkpoint it is. Empty where there is no name.</summary>
    public string Name
    {
        get
        {
            if (Path.Length == 0) return "";
            // A run holds model/ and checkpoints/step-…/, beside its run.json.
            string folder = System.IO.Path.GetFullPath(Path);
            string? above = System.IO.Path.GetDirectoryName(System.IO.Path.TrimEndingDirectorySeparator(folder)), further = System.IO.Path.GetDirectoryName(above);
            string run = new[] { above, further }.FirstOrDefault(f => f is not null && File.Exists(System.IO.Path.Combine(f, "run.json"))) ?? folder;
            return System.IO.Path.GetFileName(System.IO.Path.TrimEndingDirectorySeparator(run));
        }
    }

    /// <summary>The model.</summary>
    public DeepSeekModel Model { get; }

    /// <summary>The tokenizer, or null where the folder has none.</summary>
    public Tokenizer? Tokenizer { get; }

    /// <summary>The chat template, or null where the folder has none.</summary>
    public ChatTemplate? ChatTemplate { get; }

    /// <summary>Ids that end a text.</summary>
    public IReadOnlyList<int> EosIds { get; }

    /// <summary>Opens a model folder or a run directory. Weights are mapped; a device with memory of its own gets them as they are stored.</summary>
    /// <param name="device">Where to compute.</param>
    /// <param name="path">The folder.</param>
    /// <param name="weights">Which weights, where a run has several.</param>
    /// <exception cref="FathomException">The folder holds no model, one that does not fit its configuration, or no such weights.</exception>
    /// <exception cref="TextFormatException">The tokenizer is broken.</exception>
    public static LoadedModel Open(Device device, string path, WeightSet weights = WeightSet.Last)
    {
        string folder = ModelFolder.Resolve(path, weights);
        ModelConfig config = ModelConfig.Load(folder);
        Checkpoint checkpoint = ModelFolder.OpenWeights(folder, weights);
        var model = new DeepSeekModel(device, config, new CheckpointSource(device, checkpoint, config));
        Tokenizer? tokenizer = File.Exists(System.IO.Path.Combine(folder, "tokenizer.json")) ? Tokenizer.Load(folder) : null;
        return new LoadedModel(folder, model, tokenizer, ChatTemplate.Load(folder), config.EosTokenIds);
    }

    /// <summary>The tokenizer, or an error that says it is missing.</summary>
    /// <exception cref="FathomException">The folder has no tokenizer.json.</exception>
    public Tokenizer RequireTokenizer() =>
        Tokenizer ?? throw new FathomException($"{Path} has no tokenizer.json; give token ids (--ids), or put the model's tokenizer there");
}
