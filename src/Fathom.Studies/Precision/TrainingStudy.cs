// Several runs that differ in one thing, side by side in one folder: <folder>/<variant>/ is an ordinary run directory. A study that
// was killed goes on where it stopped, and runs that are there already are used as they are, if they are the same runs. The text is
// prepared once and copied, so that all variants read the same tokens.
using System.Text.Json;
using Fathom.Compute;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Training;

namespace Fathom.Studies;

/// <summary>Follows a study.</summary>
public interface IStudyObserver
{
    /// <summary>A variant is about to be trained.</summary>
    /// <returns>Who follows its run.</returns>
    IRunObserver Training(StudyVariant variant);

    /// <summary>A variant's run is there already, finished.</summary>
    void Reused(StudyVariant variant, string folder);

    /// <summary>Trains with the display up.</summary>
    /// <param name="observer">What <see cref="Training"/> gave.</param>
    /// <param name="train">The training; returns whether the run reached its end.</param>
    bool Follow(IRunObserver observer, Func<bool> train);
}

/// <summary>What came of a variant.</summary>
/// <param name="Variant">The variant.</param>
/// <param name="Curve">Its losses.</param>
/// <param name="Diverged">Where training broke down, or null.</param>
public sealed record VariantResult(StudyVariant Variant, LossCurve Curve, string? Diverged);

/// <summary>A study of training runs.</summary>
/// <param name="folder">Where its run directories are.</param>
/// <param name="variants">What is trained, the baseline first.</param>
public sealed class TrainingStudy(string folder, IReadOnlyList<StudyVariant> variants)
{
    private const string DivergenceFile = "diverged.json";

    /// <summary>Trains what is not there yet.</summary>
    /// <param name="device">Where to train.</param>
    /// <param name="observer">Follows.</param>
    /// <param name="stop">Ends the study after the step in progress, which is saved.</param>
    /// <returns>The variants' results in their order; null where the study was stopped.</returns>
    /// <exception cref="FathomException">The folder holds other runs, or a configuration is wrong.</exception>
    public IReadOnlyList<VariantResult>? Run(Device device, IStudyObserver observer, CancellationToken stop)
    {
        foreach (StudyVariant variant in variants)
        {
            if (variant.Config.Steps is not > 0) throw new FathomException($"study: {variant.Name} has no number of steps; runs that are compared by step need one");
            variant.Config.Validate();
            RequireSame(variant);
        }

        var results = new List<VariantResult>();
        foreach (StudyVariant variant in variants)
        {
            if (Finished(variant) is { } found)
            {
                observer.Reused(variant, PathOf(variant));
                results.Add(found);
                continue;
            }

            if (!Train(device, variant, observer, stop)) return null;
            results.Add(Finished(variant) ?? throw new FathomException($"study: {PathOf(variant)} has fewer steps than it was trained for; delete it and run the study again"));
        }

        return results;
    }

    private bool Train(Device device, StudyVariant variant, IStudyObserver observer, CancellationToken stop)
    {
        IRunObserver view = observer.Training(variant);
        try
        {
            using TrainingRun run = Open(device, variant, view, stop);
            return observer.Follow(view, () => run.Train(stop));
        }
        catch (NonFiniteLossException divergence)
        {
            // A recipe that breaks down is a result. A baseline that does leaves nothing to compare with.
            if (variant == variants[0]) throw new FathomException($"study: the baseline {variant.Name} diverged at {divergence.Message}; try another seed or fewer steps", divergence);
            var json = new System.Text.Json.Nodes.JsonObject { ["step"] = divergence.Step, ["message"] = divergence.Message };
            AtomicFile.WriteAllText(Path.Combine(PathOf(variant), DivergenceFile), json.ToJsonString() + "\n");
            return true;
        }
        finally
        {
            // The run's tensors are freed by finalizers; the next variant needs their room.
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    private TrainingRun Open(Device device, StudyVariant variant, IRunObserver view, CancellationToken stop)
    {
        string path = PathOf(variant);
        if (!File.Exists(Path.Combine(path, "run.json")))
        {
            if (!CopyPreparedText(path)) return TrainingRun.Start(device, path, variant.Config, view, stop);
            AtomicFile.WriteAllText(Path.Combine(path, "run.json"), variant.Config.ToJson());
        }

        return TrainingRun.Resume(device, path, null, view, stop);
    }

    /// <summary>Takes tokenizer and tokens from a variant that has them.</summary>
    private bool CopyPreparedText(string path)
    {
        string[] parts = ["tokenizer", "data"];
        foreach (string other in variants.Select(PathOf))
        {
            if (other == path || !File.Exists(Path.Combine(other, "data", "prepared.json"))) continue;
            foreach (string part in parts)
            {
                Directory.CreateDirectory(Path.Combine(path, part));
                foreach (string file in Directory.EnumerateFiles(Path.Combine(other, part))) File.Copy(file, Path.Combine(path, part, Path.GetFileName(file)), overwrite: true);
            }

            return true;
        }

        return false;
    }

    private VariantResult? Finished(StudyVariant variant)
    {
        string path = PathOf(variant), metrics = Path.Combine(path, "metrics.jsonl"), divergence = Path.Combine(path, DivergenceFile);
        if (!File.Exists(metrics)) return null;
        LossCurve curve = LossCurve.Read(metrics);
        if (File.Exists(divergence))
        {
            using JsonDocument json = JsonDocument.Parse(File.ReadAllText(divergence));
            return new VariantResult(variant, curve, json.RootElement.GetProperty("message").GetString());
        }

        // The last validation follows the last step, and the checkpoint, which may have been deleted since, follows that.
        long steps = variant.Config.Steps!.Value;
        bool saved = Directory.Exists(Path.Combine(path, "checkpoints", CheckpointStore.NameOf(steps)));
        return curve.Steps.Count >= steps && (saved || curve.Validations.Any(v => v.Step == steps)) ? new VariantResult(variant, curve, null) : null;
    }

    private void RequireSame(StudyVariant variant)
    {
        string file = Path.Combine(PathOf(variant), "run.json");
        if (File.Exists(file) && File.ReadAllText(file) != variant.Config.ToJson())
            throw new FathomException($"study: {PathOf(variant)} holds a run with another configuration (data, steps, seed, model or recipe); give another folder with --out, or delete it");
    }

    private string PathOf(StudyVariant variant) => Path.GetFullPath(Path.Combine(folder, variant.Name));
}
