// Checkpoints of a run: checkpoints/step-00001200 holds the model in Hugging Face layout (F32), the optimizer's moments, the moving
// average of the weights, and trainer.json with the counters and the hash of every other file. A checkpoint is written under a
// hidden name, flushed, and renamed as a folder: one that has its name is whole, unless the disk damaged it later, which the hashes
// tell. A whole one that does not fit the run's configuration is an error, not damage: passing it over would lose training.
using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>Saves and finds the checkpoints of a run.</summary>
public sealed class CheckpointStore(RunDirectory run, int keep)
{
    private const string StateFile = "trainer.json", MomentsFile = "optimizer.safetensors";
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        WriteIndented = true,
    };

    /// <summary>Saves the state of a run, then removes the oldest checkpoints beyond those to keep.</summary>
    /// <returns>The checkpoint's folder.</returns>
    /// <exception cref="FathomException">The disk is full or not writable; earlier checkpoints are as they were.</exception>
    public string Save(Trainer trainer)
    {
        string name = NameOf(trainer.State.Step), final = Path.Combine(run.CheckpointFolder, name);
        string temporary = Path.Combine(run.CheckpointFolder, "." + name + ".tmp");
        try
        {
            Directory.CreateDirectory(run.CheckpointFolder);
            Remove(temporary);
            Directory.CreateDirectory(temporary);
            WriteFiles(trainer, temporary);
            Remove(final);
            Directory.Move(temporary, final);
            AtomicFile.FlushFolder(run.CheckpointFolder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FathomException)
        {
            TryRemove(temporary);
            string last = Folders().FirstOrDefault() is { } folder ? $"the last checkpoint is {folder}" : "there is no earlier checkpoint";
            throw new FathomException($"the checkpoint of step {trainer.State.Step} could not be saved ({e.Message}); {last}", e);
        }

        foreach (string old in Folders().Skip(keep)) TryRemove(old);
        return final;
    }

    /// <summary>Restores the newest checkpoint that is whole.</summary>
    /// <param name="trainer">Receives weights, moments, average and counters.</param>
    /// <param name="warn">Told about damaged checkpoints that were passed over.</param>
    /// <returns>The checkpoint's folder, or null where there is none at all.</returns>
    /// <exception cref="FathomException">There are checkpoints, but none is whole; or the newest whole one is not of this configuration.</exception>
    public string? RestoreNewest(Trainer trainer, Action<string>? warn = null)
    {
        string[] folders = [.. Folders()];
        foreach (string folder in folders)
        {
            SavedState saved;
            try
            {
                saved = ReadVerified(folder);
            }
            catch (Exception e) when (e is FathomException or IOException or UnauthorizedAccessException)
            {
                warn?.Invoke($"{folder} is damaged and is passed over: {e.Message}");
                continue;
            }

            Restore(trainer, folder, saved);
            return folder;
        }

        if (folders.Length > 0) throw new FathomException($"no checkpoint in {run.CheckpointFolder} is whole; start a new run with init_from");
        return null;
    }

    /// <summary>The checkpoints' folders, newest first.</summary>
    public IEnumerable<string> Folders() => Directory.Exists(run.CheckpointFolder)
        ? Directory.EnumerateDirectories(run.CheckpointFolder, "step-*").OrderDescending(StringComparer.Ordinal)
        : [];

    /// <summary>The folder name of a step's checkpoint.</summary>
    public static string NameOf(long step) => string.Create(CultureInfo.InvariantCulture, $"step-{step:D8}");

    private void WriteFiles(Trainer trainer, string folder)
    {
        ModelFolder.Write(folder, trainer.Model.Config with { Dtype = DType.F32 }, trainer.Parameters, DType.F32, run.TokenizerFolder);
        TrainerFiles.WriteMoments(trainer.Optimizer, Path.Combine(folder, MomentsFile));
        if (trainer.Ema is { } ema) TrainerFiles.WriteEma(ema, trainer.Model.Config, Path.Combine(folder, Checkpoint.EmaFile));
        var saved = new SavedState(
            trainer.State,
            Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal).ToDictionary(f => Path.GetFileName(f), Hash));
        AtomicFile.WriteAllText(Path.Combine(folder, StateFile), JsonSerializer.Serialize(saved, Json) + "\n");
    }

    private static SavedState ReadVerified(string folder)
    {
        SavedState saved;
        try
        {
            saved = JsonSerializer.Deserialize<SavedState>(File.ReadAllText(Path.Combine(folder, StateFile)), Json)
                ?? throw new FathomException($"{StateFile} is null");
        }
        catch (JsonException e)
        {
            throw new FathomException($"{StateFile}: {e.Message}", e);
        }

        foreach ((string name, string hash) in saved.Files)
        {
            if (Hash(Path.Combine(folder, name)) != hash) throw new FathomException($"{name} is not what was saved");
        }

        return saved;
    }

    private static void Restore(Trainer trainer, string folder, SavedState saved)
    {
        using Checkpoint checkpoint = Checkpoint.Open(folder);
        trainer.Parameters.Load(checkpoint, trainer.Model.Config with { QuantizationConfig = null });
        TrainerFiles.ReadMoments(trainer.Optimizer, Path.Combine(folder, MomentsFile));
        if (trainer.Ema is { } ema)
        {
            // A run that is given an average on its way starts it here.
            if (saved.Files.ContainsKey(Checkpoint.EmaFile)) TrainerFiles.ReadEma(ema, Path.Combine(folder, Checkpoint.EmaFile));
            else ema.Restart();
        }

        trainer.State = saved.State;
    }

    private static string Hash(string path)
    {
        using FileStream file = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(file));
    }

    private static void Remove(string folder)
    {
        if (Directory.Exists(folder)) Directory.Delete(folder, recursive: true);
    }

    private static void TryRemove(string folder)
    {
        try
        {
            Remove(folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A leftover takes room and does no harm: it is hidden, or an old checkpoint.
        }
    }

    private sealed record SavedState(TrainerState State, Dictionary<string, string> Files);
}
