// What `train` and `quickstart` have in common: train with the view up until the end or Ctrl-C, export, and say what happened.
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;
using Fathom.Training;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary>Drives a training run from the terminal.</summary>
internal static class RunControl
{
    /// <summary>Refuses a model whose training cannot fit the device, before anything is read or allocated for it.</summary>
    /// <param name="config">The run.</param>
    /// <param name="on">Where it is to be trained.</param>
    /// <exception cref="FathomException">The model is unknown, wrong or too large, or there is no such device.</exception>
    public static void RequireMemory(TrainingConfig config, DeviceChoice on)
    {
        ModelConfig model = TrainingRun.ResolveModel(config);
        var estimate = MemoryEstimate.For(model, config.Recipe, config.MicroBatch, config.SequenceLength, config.MomentType, on.Traits);
        bool averageBeside = config.Ema is not null && on.Gpu is null; // a GPU's lies in host memory
        double needed = estimate.State + (averageBeside ? estimate.Weights : 0), available = on.MemoryBytes();
        string parts = $"weights, {(estimate.WeightCopies > 0 ? "copies, " : "")}gradients, moments{(averageBeside ? ", average" : "")}";
        // Ready batches bring their own shape; of text it is known what a micro-batch keeps.
        if (config.Data.Type != DataType.Batches)
        {
            needed += estimate.Saved + estimate.Workspace;
            parts += ", activations";
        }

        if (needed > available)
        {
            throw new FathomException(
                Invariant($"training {Short(estimate.Weights / 4.0)} parameters in {config.Recipe} takes {needed / 1e9:N0} GB for {parts}; {(on.Gpu is null ? "this machine" : "the GPU")} has {available / 1e9:N0} GB; choose a smaller model"));
        }
    }

    /// <summary>Starts or resumes a run, which measures the processor's peak for the share that metrics and view show.</summary>
    /// <param name="device">Where to train.</param>
    /// <param name="open">Opens the run.</param>
    public static TrainingRun Open(Device device, Func<TrainingRun> open)
    {
        TrainingRun run = open();
        if (device is CpuDevice cpu) run.MeasurePeak = () => MachinePeaks.TeamFlops(cpu.Team);
        return run;
    }

    /// <summary>Trains to the end or until asked to stop, then exports the model.</summary>
    /// <returns>Whether the run reached its end; if not, how to go on has been said.</returns>
    /// <exception cref="FailedRunException">A checkpoint or the model could not be written.</exception>
    /// <exception cref="NonFiniteLossException">Training diverged; the message names the last good checkpoint.</exception>
    public static bool Train(TrainingRun run, IRunView view, CancellationToken stop)
    {
        try
        {
            bool finished = view.Follow(() => run.Train(stop));
            string folder = run.Export();
            if (finished)
            {
                Console.WriteLine($"model      {CommandName.Argument(folder)}");
                return true;
            }
        }
        catch (FathomException error)
        {
            throw new FailedRunException($"{error.Message}; when that is mended, go on with: {ResumeCommand(run.Directory.Path)}", error);
        }
        catch (NonFiniteLossException error)
        {
            string good = LastCheckpoint(run) is { } folder ? $"the last good checkpoint is {CommandName.Argument(folder)}" : "there is no earlier checkpoint";
            throw new FailedRunException($"training diverged at {error.Message}; {good}; try a smaller learning rate", error);
        }

        Console.WriteLine($"stopped    after step {run.Trainer.State.Step}; everything is saved. Go on with:");
        Console.WriteLine($"  {ResumeCommand(run.Directory.Path)}");
        return false;
    }

    /// <summary>The command that goes on with a run.</summary>
    public static string ResumeCommand(string path) => $"{CommandName.Text} train --resume {CommandName.Argument(path)}";

    /// <summary>A run directory's name where none was given: runs/name-time.</summary>
    public static string DefaultDirectory(string name) => Path.Combine("runs", $"{name}-{DateTime.Now:yyyyMMdd-HHmmss}");

    private static string? LastCheckpoint(TrainingRun run) => new CheckpointStore(run.Directory, run.Config.KeepCheckpoints).Folders().FirstOrDefault();
}
