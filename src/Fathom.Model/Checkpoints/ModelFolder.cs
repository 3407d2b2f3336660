// Writes a model folder as Hugging Face libraries expect it: config.json, generation_config.json, model.safetensors, and the
// tokenizer's files beside them.
using System.Text.Json.Nodes;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Model folders in Hugging Face layout.</summary>
public static class ModelFolder
{
    /// <summary>Writes the folder's files; the folder exists.</summary>
    /// <param name="folder">Where to.</param>
    /// <param name="config">Written as config.json.</param>
    /// <param name="parameters">All weights, in F32; of a device with memory of its own one tensor at a time is brought to the host.</param>
    /// <param name="dtype">F32, BF16 or F16 for matrices and norms; routing biases stay F32, as in the published files.</param>
    /// <param name="tokenizerFolder">Files of the tokenizer to copy, where the folder exists.</param>
    /// <exception cref="FathomException">The disk is full or the folder not writable.</exception>
    public static void Write(string folder, ModelConfig config, ParameterSet parameters, DType dtype, string? tokenizerFolder)
    {
        var values = parameters.All.SelectMany(p => p.CheckpointTensors()).ToDictionary(t => t.Name, t => t.Value);
        int mtpModules = values.Keys.Count(name => name.EndsWith(".eh_proj.weight", StringComparison.Ordinal));
        LayoutTensor[] layout = [.. TensorLayout.Enumerate(config, mtpModules)];
        var copies = layout.Where(t => t.CopyOf is not null).ToDictionary(t => t.Name, t => t.CopyOf!);
        var staging = new Staging(parameters.Device);
        CheckpointWriter.Write(folder, layout.Select(t => t.Declare(dtype)), t => staging.Download(values[copies.GetValueOrDefault(t.Name, t.Name)]));

        var generation = new JsonObject { ["bos_token_id"] = config.BosTokenId, ["eos_token_id"] = new JsonArray([.. config.EosTokenIds.Select(id => JsonValue.Create(id))]) };
        AtomicFile.WriteAllText(Path.Combine(folder, "generation_config.json"), generation.ToJsonString() + "\n");
        config.Save(folder);
        if (tokenizerFolder is null || !Directory.Exists(tokenizerFolder)) return;
        foreach (string file in Directory.EnumerateFiles(tokenizerFolder))
            AtomicFile.WriteAllBytes(Path.Combine(folder, Path.GetFileName(file)), File.ReadAllBytes(file));
    }

    /// <summary>Copies what stands beside the weights of a model and does not depend on their format: tokenizer, chat template, code.</summary>
    /// <param name="source">The model folder.</param>
    /// <param name="folder">Where to; it exists.</param>
    /// <exception cref="FathomException">A file cannot be read or written.</exception>
    public static void CopyCompanions(string source, string folder)
    {
        try
        {
            foreach (string file in Directory.EnumerateFiles(source).Where(IsCompanion))
                AtomicFile.WriteAllBytes(Path.Combine(folder, Path.GetFileName(file)), File.ReadAllBytes(file));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"copying the tokenizer of {source}: {e.Message}", e);
        }
    }

    /// <summary>
    /// The model folder that a path means: itself, a run's exported model, or a run's newest checkpoint. Only checkpoints hold averages.
    /// </summary>
    /// <param name="path">A model folder or a run directory.</param>
    /// <param name="weights">Which weights it must have.</param>
    /// <param name="mainWeights">Whether a run stands for its newest checkpoint first, whose weights are the main weights in F32.</param>
    /// <exception cref="FathomException">It is neither, or has no such weights.</exception>
    public static string Resolve(string path, WeightSet weights = WeightSet.Last, bool mainWeights = false)
    {
        if (!Directory.Exists(path)) throw new FathomException($"there is no model folder {path}");
        bool ema = weights == WeightSet.Ema;
        if (HasConfig(path)) return !ema || HasAverage(path) ? path : throw NoAverage(path);
        string exported = Path.Combine(path, "model"), checkpoints = Path.Combine(path, "checkpoints");
        if (!ema && !mainWeights && HasConfig(exported)) return exported;
        string? newest = Directory.Exists(checkpoints)
            ? Directory.EnumerateDirectories(checkpoints, "step-*").Where(HasConfig).Order(StringComparer.Ordinal).LastOrDefault()
            : null;
        if (newest is null && mainWeights && !ema && HasConfig(exported)) return exported;
        if (newest is null) throw new FathomException($"{path} holds no model: there is no config.json, and it is not a run directory with a checkpoint");
        return !ema || HasAverage(newest) ? newest : throw NoAverage(newest);

        static bool HasAverage(string folder) => File.Exists(Path.Combine(folder, Checkpoint.EmaFile));
        static FathomException NoAverage(string folder) =>
            new($"{folder} has no averaged weights ({Checkpoint.EmaFile}); only checkpoints of a run whose configuration has \"ema\" do");
    }

    /// <summary>Opens the weights of a model folder.</summary>
    /// <exception cref="FathomException">There are none, or they are damaged.</exception>
    public static Checkpoint OpenWeights(string folder, WeightSet weights) =>
        Checkpoint.Open(weights == WeightSet.Ema ? Path.Combine(folder, Checkpoint.EmaFile) : folder);

    /// <summary>A tensor's dimensions as a declaration takes them.</summary>
    public static long[] Dimensions(Tensor tensor)
    {
        var dims = new long[tensor.Shape.Rank];
        for (int i = 0; i < dims.Length; i++) dims[i] = tensor.Shape[i];
        return dims;
    }

    private static bool HasConfig(string folder) => File.Exists(Path.Combine(folder, "config.json"));

    // Not the configuration and the index, which say how weights are stored, nor the counters and hashes of a training checkpoint.
    private static bool IsCompanion(string file)
    {
        string name = Path.GetFileName(file);
        if (name is "config.json" or "trainer.json" || name.StartsWith('.') || name.EndsWith(".index.json", StringComparison.Ordinal)) return false;
        return Path.GetExtension(name) is ".json" or ".jinja" or ".model" or ".txt" or ".py" || name.StartsWith("LICENSE", StringComparison.Ordinal);
    }
}
