// Whether a checkpoint holds the model that its configuration describes. Files differ from the layout in harmless ways, and
// only those pass: old files store rotary frequencies; quantised ones store scales; config.json may announce an MTP module
// that the writer dropped (transformers does); layers beyond the announced ones are ignored; experts may be stacked.
using System.Globalization;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Compares checkpoints with configurations.</summary>
public static class LayoutCheck
{
    /// <summary>Checks names and shapes of all tensors. Opens every shard, reads no data.</summary>
    /// <param name="config">A valid configuration.</param>
    /// <param name="checkpoint">The weights.</param>
    /// <returns>How many MTP modules the checkpoint really has: all that the configuration announces, or none.</returns>
    /// <exception cref="FathomException">A tensor is missing, has another shape, or does not belong; the message names it.</exception>
    public static int Verify(ModelConfig config, Checkpoint checkpoint)
    {
        int modules = CountMtpModules(config, checkpoint);
        var reader = new CheckpointReader(checkpoint, config.QuantizationConfig);
        var expected = new HashSet<string>(StringComparer.Ordinal);
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(config, modules))
        {
            expected.Add(tensor.Name);
            bool present = reader.Contains(tensor.Name);
            if (!present && tensor.CopyOf is not null) continue;
            if (!present)
                throw new FathomException($"{checkpoint.Path}: tensor '{tensor.Name}' {SafetensorsEntry.FormatShape(tensor.Shape)} is missing; does config.json belong to these weights?");
            long[] shape = reader.ShapeOf(tensor.Name);
            if (!shape.AsSpan().SequenceEqual(tensor.Shape))
                throw new FathomException($"{checkpoint.Path}: tensor '{tensor.Name}' has shape {SafetensorsEntry.FormatShape(shape)}, config.json gives {SafetensorsEntry.FormatShape(tensor.Shape)}");
        }

        foreach (string name in checkpoint.Names)
        {
            if (!expected.Contains(name) && !Belongs(name, config, checkpoint, modules))
                throw new FathomException($"{checkpoint.Path}: tensor '{name}' {SafetensorsEntry.FormatShape(checkpoint.Entry(name).Shape)} is not part of the model in config.json");
        }

        return modules;
    }

    private static int CountMtpModules(ModelConfig config, Checkpoint checkpoint)
    {
        for (int module = 0; module < config.NumNextnPredictLayers; module++)
        {
            string prefix = TensorLayout.LayerPrefix(config.NumHiddenLayers + module);
            if (checkpoint.Names.Any(name => name.StartsWith(prefix, StringComparison.Ordinal))) return config.NumNextnPredictLayers;
        }

        return 0;
    }

    private static bool Belongs(string name, ModelConfig config, Checkpoint checkpoint, int modules)
    {
        if (LayerOf(name) >= config.NumHiddenLayers + modules) return true;
        if (name.EndsWith(".rotary_emb.inv_freq", StringComparison.Ordinal)) return true;
        if (name.EndsWith(TensorLayout.ScaleSuffix, StringComparison.Ordinal))
        {
            return checkpoint.TryGet(name[..^TensorLayout.ScaleSuffix.Length], out SafetensorsEntry? weight)
                && weight.DType is DType.F8E4M3 or DType.F8E5M2 or DType.HiF8;
        }

        return config.IsMoeLayer(LayerOf(name))
            && (name.EndsWith(".mlp.experts.gate_up_proj", StringComparison.Ordinal) || name.EndsWith(".mlp.experts.down_proj", StringComparison.Ordinal));
    }

    private static int LayerOf(string name)
    {
        const string Start = "model.layers.";
        if (!name.StartsWith(Start, StringComparison.Ordinal)) return -1;
        int dot = name.IndexOf('.', Start.Length);
        return dot > 0 && int.TryParse(name.AsSpan(Start.Length, dot - Start.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int layer) ? layer : -1;
    }
}
