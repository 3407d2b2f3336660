// Logits of given ids, for comparison with other programs. Sequences run one at a time and each is written as it is done, so memory
// does not grow with their number. The last token of a micro-batch is only a target: a sequence of T ids gets one that is not used.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom forward</c>.</summary>
internal static class ForwardVerb
{
    public static Command Create()
    {
        var model = CommonOptions.Model();
        var ids = new Option<string>("--ids") { Description = "Safetensors file with token ids.", HelpName = "FILE", Required = true };
        var tensor = new Option<string>("--tensor") { Description = "Name of the ids in it: [sequences, tokens], I64 or I32.", HelpName = "NAME", Required = true };
        var output = new Option<string>("--out") { Description = "Safetensors file to write: logits [B, T, V] F32 and, with an MTP module, mtp_logits [B, T - 1, V].", HelpName = "FILE", Required = true };
        var activations = new Option<string>("--activations") { Description = "f32, or fp8: inputs of linear layers quantised to E4M3 in 1x128 tiles.", DefaultValueFactory = _ => "f32" };
        activations.AcceptOnlyFromAmong("f32", "fp8");
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var command = new Command("forward", "Compute the logits of given ids.") { model, ids, tensor, output, activations, on, threads };
        command.SetAction(arguments =>
        {
            using Device device = CommonOptions.Device(arguments.GetValue(on), arguments.GetValue(threads));
            LoadedModel loaded = LoadedModel.Open(device, arguments.GetRequiredValue(model));
            int[][] sequences = ReadIds(arguments.GetRequiredValue(ids), arguments.GetRequiredValue(tensor), loaded.Model.Config.VocabSize);
            Recipe recipe = arguments.GetValue(activations) == "fp8" ? Recipe.Fp8Activations : Recipe.Fp32;
            Write(loaded.Model, recipe, sequences, arguments.GetRequiredValue(output));
            return ExitCode.Success;
        });
        return command;
    }

    private static int[][] ReadIds(string path, string tensor, int vocabulary)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        if (!file.TryGet(tensor, out SafetensorsEntry? entry))
            throw new FathomException($"{path} has no tensor {tensor}; it has {string.Join(", ", file.Names.Take(8))}");
        if (entry.DType is not (DType.I64 or DType.I32) || entry.Shape is not [> 0, > 0])
            throw new FathomException($"{path}: {tensor} is {entry}, expected ids of shape [sequences, tokens] in I64 or I32");
        long[] all = entry.DType == DType.I64 ? file.ReadI64(tensor) : [.. file.ReadI32(tensor)];
        int wrong = Array.FindIndex(all, id => id < 0 || id >= vocabulary);
        if (wrong >= 0) throw new FathomException($"{path}: {tensor} holds id {all[wrong]} at place {wrong}, outside the model's vocabulary of {vocabulary}");
        return [.. all.Select(id => (int)id).Chunk((int)entry.Shape[1])];
    }

    private static void Write(DeepSeekModel model, Recipe recipe, int[][] sequences, string path)
    {
        int length = sequences[0].Length, vocabulary = model.Config.VocabSize;
        bool mtp = model.MtpModules.Count > 0;
        List<TensorDeclaration> declarations = [new("logits", DType.F32, [sequences.Length, length, vocabulary])];
        if (mtp) declarations.Add(new("mtp_logits", DType.F32, [sequences.Length, length - 1, vocabulary]));
        var micro = new MicroBatch(model, 1, length, training: false, recipe);
        var staging = new Staging(model.Device);
        using var writer = new SafetensorsWriter(path, declarations);
        foreach (int[] sequence in sequences)
        {
            micro.Load([.. sequence, 0]);
            WriteRows("logits", model.Logits(micro, 0));
            if (mtp) WriteRows("mtp_logits", model.Logits(micro, 1));
        }

        writer.Finish();

        void WriteRows(string name, Tensor logits)
        {
            Tensor host = staging.Download(logits);
            for (long row = 0; row < host.Rows; row++) writer.Write<float>(name, host.Row<float>(row));
        }
    }
}
