// What a checkpoint holds besides the weights, as safetensors: the moments, named first. and second. plus the weight's name, and the
// moving average under the weights' own names, so that it can be opened as a model.
using System.Globalization;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>Writes and reads the optimizer's moments and the moving average of the weights.</summary>
internal static class TrainerFiles
{
    private const string UpdatesKey = "ema_updates";

    /// <summary>Writes both moments of every trained parameter in their own type.</summary>
    public static void WriteMoments(AdamW optimizer, string path)
    {
        var moments = Named(optimizer).ToList();
        using var writer = new SafetensorsWriter(path, moments.Select(m => new TensorDeclaration(m.Name, m.Value.DType, ModelFolder.Dimensions(m.Value))));
        var staging = new Staging(optimizer.Device);
        foreach ((string name, Tensor value) in moments) writer.Write(name, staging.Download(value));
        writer.Finish();
    }

    /// <summary>Reads what <see cref="WriteMoments"/> wrote.</summary>
    /// <exception cref="FathomException">The moments have another type than the run's, or are those of another model.</exception>
    public static void ReadMoments(AdamW optimizer, string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        foreach ((string name, Tensor value) in Named(optimizer))
        {
            if (file.TryGet(name, out SafetensorsEntry? entry) && entry.DType != value.DType && entry.DType is DType.F32 or DType.BF16)
            {
                string saved = entry.DType.SafetensorsName().ToLowerInvariant(), wanted = value.DType.SafetensorsName().ToLowerInvariant();
                throw new FathomException($"{path} holds moments in {saved}, this run wants them in {wanted}; set optimizer.moments to \"{saved}\" in run.json to go on");
            }

            optimizer.Device.Upload(Stored(file, name, value), value);
        }
    }

    /// <summary>Writes the average in F32 as a whole set of weights, and how many updates it has seen.</summary>
    public static void WriteEma(ExponentialMovingAverage ema, ModelConfig model, string path)
    {
        ema.Wait();
        var values = ema.Averages.SelectMany(a => a.Parameter.Split(a.Average)).ToDictionary(t => t.Name, t => t.Value);
        LayoutTensor[] layout = [.. TensorLayout.Enumerate(model)];
        var metadata = new Dictionary<string, string> { [UpdatesKey] = ema.Updates.ToString(CultureInfo.InvariantCulture) };
        using var writer = new SafetensorsWriter(path, layout.Select(t => t.Declare(DType.F32)), metadata);
        foreach (LayoutTensor tensor in layout) writer.Write(tensor.Name, values[tensor.CopyOf ?? tensor.Name]);
        writer.Finish();
    }

    /// <summary>Reads what <see cref="WriteEma"/> wrote.</summary>
    /// <exception cref="FathomException">The average is that of another model.</exception>
    public static void ReadEma(ExponentialMovingAverage ema, string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        if (!long.TryParse(file.Metadata.GetValueOrDefault(UpdatesKey), NumberStyles.None, CultureInfo.InvariantCulture, out long updates))
            throw new FathomException($"{path}: the metadata lacks {UpdatesKey}, the number of updates of the average");
        ema.Resume(updates);
        foreach ((string name, Tensor value) in ema.Averages.SelectMany(a => a.Parameter.Split(a.Average)))
            Stored(file, name, value).AsSpan<float>().CopyTo(value.AsSpan<float>());
    }

    private static IEnumerable<(string Name, Tensor Value)> Named(AdamW optimizer) => optimizer.Moments.SelectMany(m => (IEnumerable<(string, Tensor)>)
    [
        .. m.Parameter.Split(m.First).Select(t => ("first." + t.Name, t.Value)),
        .. m.Parameter.Split(m.Second).Select(t => ("second." + t.Name, t.Value)),
    ]);

    private static Tensor Stored(SafetensorsFile file, string name, Tensor destination)
    {
        Tensor stored = file.Get(name);
        if (stored.DType != destination.DType || stored.Elements != destination.Elements)
            throw new FathomException($"{file.Path}: {name} is {stored}, expected {destination}");
        return stored;
    }
}
