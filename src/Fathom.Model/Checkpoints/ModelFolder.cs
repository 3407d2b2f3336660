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
    /// <param name="parameters">All weights, in F32.</param>
    /// <param name="dtype">F32, BF16 or F16 for matrices and norms; routing biases stay F32, as in the published files.</param>
    /// <param name="tokenizerFolder">Files of the tokenizer to copy, where the folder exists.</param>
    /// <exception cref="FathomException">The disk is full or the folder not writable.</exception>
    public static void Write(string folder, ModelConfig config, IReadOnlyList<Parameter> parameters, DType dtype, string? tokenizerFolder)
    {
        var values = parameters.SelectMany(p => p.CheckpointTensors()).ToDictionary(t => t.Name, t => t.Value);
        int mtpModules = values.Keys.Count(name => name.EndsWith(".eh_proj.weight", StringComparison.Ordinal));
        LayoutTensor[] layout = [.. TensorLayout.Enumerate(config, mtpModules)];
        var copies = layout.Where(t => t.CopyOf is not null).ToDictionary(t => t.Name, t => t.CopyOf!);
        CheckpointWriter.Write(folder, layout.Select(t => t.Declare(dtype)), t => values[copies.GetValueOrDefault(t.Name, t.Name)]);

        var generation = new JsonObject { ["bos_token_id"] = config.BosTokenId, ["eos_token_id"] = new JsonArray([.. config.EosTokenIds.Select(id => JsonValue.Create(id))]) };
        AtomicFile.WriteAllText(Path.Combine(folder, "generation_config.json"), generation.ToJsonString() + "\n");
        config.Save(folder);
        if (tokenizerFolder is null || !Directory.Exists(tokenizerFolder)) return;
        foreach (string file in Directory.EnumerateFiles(tokenizerFolder))
            AtomicFile.WriteAllBytes(Path.Combine(folder, Path.GetFileName(file)), File.ReadAllBytes(file));
    }

    /// <summary>A tensor's dimensions as a declaration takes them.</summary>
    public static long[] Dimensions(Tensor tensor)
    {
        var dims = new long[tensor.Shape.Rank];
        for (int i = 0; i < dims.Length; i++) dims[i] = tensor.Shape[i];
        return dims;
    }
}
