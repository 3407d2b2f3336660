// A run is a directory: the complete configuration, the tokenizer, tokenised text, metrics, checkpoints, the exported model.
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>The layout of a run directory.</summary>
public sealed class RunDirectory
{
    private RunDirectory(string path) => Path = System.IO.Path.GetFullPath(path);

    /// <summary>The directory.</summary>
    public string Path { get; }

    /// <summary>run.json: the configuration.</summary>
    public string ConfigFile => In("run.json");

    /// <summary>tokenizer/: tokenizer.json and tokenizer_config.json.</summary>
    public string TokenizerFolder => In("tokenizer");

    /// <summary>data/: the tokenised text.</summary>
    public string DataFolder => In("data");

    /// <summary>metrics.jsonl: a line a step.</summary>
    public string MetricsFile => In("metrics.jsonl");

    /// <summary>checkpoints/: step-… folders.</summary>
    public string CheckpointFolder => In("checkpoints");

    /// <summary>model/: the trained model in Hugging Face layout.</summary>
    public string ModelFolder => In("model");

    /// <summary>Starts a run directory and writes its configuration.</summary>
    /// <exception cref="FathomException">The directory holds another run, or something else, or cannot be written.</exception>
    public static RunDirectory Create(string path, TrainingConfig config)
    {
        var run = new RunDirectory(path);
        if (File.Exists(run.ConfigFile))
        {
            string difference = File.ReadAllText(run.ConfigFile) == config.ToJson() ? "this run" : "a run with another configuration";
            throw new FathomException($"{run.Path} already holds {difference}; go on with --resume {path}, or give another directory");
        }

        try
        {
            if (Directory.Exists(run.Path) && Directory.EnumerateFileSystemEntries(run.Path).Any())
                throw new FathomException($"{run.Path} is not empty and is not a run directory; give another one");
            Directory.CreateDirectory(run.Path);
            AtomicFile.WriteAllText(run.ConfigFile, config.ToJson());
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"cannot create the run directory {run.Path}: {e.Message}", e);
        }

        return run;
    }

    /// <summary>Takes a run back that failed before it had tokenised any text, so that it can be started again under its name.</summary>
    internal void Discard()
    {
        try
        {
            if (Directory.Exists(DataFolder) && Directory.EnumerateFileSystemEntries(DataFolder).Any()) return;
            if (Directory.Exists(DataFolder)) Directory.Delete(DataFolder);
            File.Delete(ConfigFile);
            Directory.Delete(Path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Something else lies there, or the disk is read-only: what is left is still a run that can be resumed.
        }
    }

    /// <summary>Opens a run directory to go on with it.</summary>
    /// <exception cref="FathomException">It is not a run directory.</exception>
    public static RunDirectory Open(string path)
    {
        var run = new RunDirectory(path);
        if (!File.Exists(run.ConfigFile)) throw new FathomException($"{run.Path} is not a run directory: it has no run.json");
        return run;
    }

    /// <summary>The run's configuration.</summary>
    public TrainingConfig LoadConfig() => TrainingConfig.Load(ConfigFile);

    /// <summary>Stores a changed configuration (more steps to train).</summary>
    public void SaveConfig(TrainingConfig config) => AtomicFile.WriteAllText(ConfigFile, config.ToJson());

    private string In(string name) => System.IO.Path.Combine(Path, name);
}
