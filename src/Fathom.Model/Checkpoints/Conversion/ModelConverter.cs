// `fathom convert`: another number format for the same model, in strips of rows that pass through small buffers. Each thread
// takes the next strip, reads, converts and writes it, so that reading, arithmetic and writing overlap, and memory holds a few
// strips a thread whatever the size of the model. The system is told of the next reads, and writes to the device on its own.
using System.Diagnostics;
using Fathom.Compute.Cpu;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Converts model folders between number formats.</summary>
public static class ModelConverter
{
    /// <summary>Converts a model into a new folder, which appears when it is whole.</summary>
    /// <param name="source">A model folder in Hugging Face layout: F32, BF16, F16, FP8 or HiF8, one file or shards.</param>
    /// <param name="folder">Where to; nothing is there, or an empty folder.</param>
    /// <param name="options">To what.</param>
    /// <param name="progress">Told the bytes read so far and in all, from any thread; null for nobody.</param>
    /// <param name="stop">Ends the conversion without a trace.</param>
    /// <exception cref="FathomException">A damaged or unfit source, a value that is not finite, a full disk; nothing is left behind.</exception>
    /// <exception cref="OperationCanceledException">It was stopped; nothing is left behind.</exception>
    public static ConversionReport Convert(
        string source, string folder, ConversionOptions options, Action<long, long>? progress = null, CancellationToken stop = default)
    {
        if (options.Format is not (DType.F8E4M3 or DType.HiF8 or DType.BF16 or DType.F32))
            throw new ArgumentException($"a model is converted to F8E4M3, HiF8, BF16 or F32, not {options.Format}");
        if (options.Dtype is not (DType.BF16 or DType.F32)) throw new ArgumentException($"what is not quantised is BF16 or F32, not {options.Dtype}");
        long start = Stopwatch.GetTimestamp();
        ModelConfig config = ModelConfig.Load(source);
        using Checkpoint checkpoint = ModelFolder.OpenWeights(source, options.Weights);
        var plan = new ConversionPlan(config, checkpoint, options);
        using var target = new AtomicFolder(folder);
        using var files = new SourceFiles(checkpoint);
        using var shards = new ShardSet(target.Temporary, plan.Declarations, options.ShardBytes);
        using (var team = new WorkerTeam(options.Threads))
        {
            var job = new ConversionJob(plan, files, shards, team.Size, progress, stop);
            team.For(job.Strips, job);
        }

        stop.ThrowIfCancellationRequested();
        shards.Finish();
        ModelFolder.CopyCompanions(source, target.Temporary);
        plan.Config.Save(target.Temporary);
        target.Commit();
        return new ConversionReport(
            source, target.Path, plan.Config, plan.Tensors.Count, plan.Tensors.Count(t => t.IsQuantized), plan.LeftOut, shards.Count,
            plan.Tensors.Sum(t => t.SourceBytes), plan.Declarations.Sum(t => t.Bytes), Stopwatch.GetElapsedTime(start).TotalSeconds);
    }
}
