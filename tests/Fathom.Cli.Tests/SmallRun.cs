// A run small enough for a test: text made from a few words, the smallest preset, a constant learning rate so that a changed end
// changes nothing before it.
using System.Text;
using Xunit;

namespace Fathom.Cli.Tests;

/// <summary>Writes text and configuration of a small run.</summary>
internal static class SmallRun
{
    /// <summary>Steps of the run.</summary>
    public const int Steps = 240;

    /// <summary>Steps between checkpoints.</summary>
    public const int SaveEvery = 20;

    /// <summary>Writes a text of some bytes.</summary>
    public static string WriteText(string path, int bytes)
    {
        string[] words = ["the", "model", "reads", "a", "token", "and", "writes", "an", "expert", "of", "routes", "every", "latent", "key", "to", "value"];
        var random = new Random(5);
        var text = new StringBuilder();
        while (text.Length < bytes)
        {
            for (int i = random.Next(4, 10); i > 0; i--) text.Append(words[random.Next(words.Length)]).Append(i > 1 ? " " : ".\n");
        }

        File.WriteAllText(path, text.ToString());
        return path;
    }

    /// <summary>Writes the configuration and its text into a folder.</summary>
    public static string WriteConfig(string folder, string recipe = "fp32")
    {
        WriteText(Path.Combine(folder, "text.txt"), 60_000);
        string path = Path.Combine(folder, "small.json");
        File.WriteAllText(path, $$"""
            {
              "model": "nano", "data": { "path": "text.txt", "held_out": 0.2 }, "tokenizer": { "vocab_size": 400 },
              "sequence_length": 48, "micro_batch": 2, "batch_size": { "segments": [{ "from": 4 }] }, "steps": {{Steps}},
              "learning_rate": { "segments": [{ "from": 0.002 }] }, "validate_every": 100, "validation_sequences": 4, "save_every": {{SaveEvery}},
              "optimizer": { "moments": "bf16" }, "ema": { "decay": 0.98 }, "recipe": "{{recipe}}"
            }
            """);
        return path;
    }

    /// <summary>Waits until a run has written so many lines of metrics.</summary>
    public static void WaitForLines(FathomProcess process, string run, int lines)
    {
        while (Metrics.Count(run) < lines)
        {
            if (process.HasExited) Assert.Fail($"the run ended before line {lines}: {process.Wait()}");
            Thread.Sleep(3);
        }
    }
}
