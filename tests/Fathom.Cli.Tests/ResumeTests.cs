// A run that is killed, stopped or damaged, and goes on: every later step must have the same digits as in the run that was never
// disturbed. Real processes, real signals. One thread each: the steps are tiny, and tests run beside one another.
using Fathom.Testing;
using Xunit;

namespace Fathom.Cli.Tests;

/// <summary>The run that nothing happens to.</summary>
public sealed class UnbrokenRun : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public UnbrokenRun()
    {
        Config = SmallRun.WriteConfig(folder.Path);
        FathomProcess.Run("train", "--config", Config, "--out", Run, "--threads", "1").Expect(0);
        Computed = Metrics.Computed(Run);
        Assert.True(Computed.Length > SmallRun.Steps); // validations besides
    }

    public string Config { get; }

    public string[] Computed { get; }

    public string Run => folder.File("unbroken");

    public string File(params string[] parts) => folder.File(parts);

    public void Dispose() => folder.Dispose();
}

public sealed class ResumeTests(UnbrokenRun unbroken, ITestOutputHelper output) : IClassFixture<UnbrokenRun>
{
    [Fact]
    public void Killed_at_any_moment_it_resumes_bit_identically()
    {
        string run = unbroken.File("killed");
        int[] moments = [SmallRun.SaveEvery + 7, 3 * SmallRun.SaveEvery, 6 * SmallRun.SaveEvery + 1];
        string[] arguments = ["train", "--config", unbroken.Config, "--out", run, "--threads", "1"];
        foreach (int moment in moments)
        {
            using FathomProcess process = FathomProcess.Start(arguments);
            SmallRun.WaitForLines(process, run, moment);
            process.Kill();
            Outcome outcome = process.Wait();
            Assert.NotEqual(0, outcome.ExitCode);
            output.WriteLine($"killed after {Metrics.Count(run)} lines of metrics");
            arguments = ["train", "--resume", run, "--threads", "1"];
        }

        Outcome last = FathomProcess.Run(arguments).Expect(0);
        Assert.Contains("resumed", last.Output, StringComparison.Ordinal);
        Assert.Equal(unbroken.Computed, Metrics.Computed(run));
        output.WriteLine($"{unbroken.Computed.Length} lines of metrics have the same digits");
        foreach (string file in (string[])["model.safetensors", "optimizer.safetensors", "ema.safetensors"])
        {
            byte[] expected = File.ReadAllBytes(unbroken.File("unbroken", "checkpoints", $"step-{SmallRun.Steps:D8}", file));
            Assert.True(expected.AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(run, "checkpoints", $"step-{SmallRun.Steps:D8}", file))), file);
            output.WriteLine($"{file}: {expected.Length:N0} bytes are the same");
        }
    }

    [Fact]
    public void Killed_in_fp8_it_resumes_bit_identically()
    {
        using var folder = new TemporaryFolder();
        string config = SmallRun.WriteConfig(folder.Path, "fp8"), whole = folder.File("whole"), broken = folder.File("broken");
        const int Steps = 3 * SmallRun.SaveEvery;
        FathomProcess.Run("train", "--config", config, "--out", whole, "--steps", $"{Steps}", "--threads", "1").Expect(0);
        using (FathomProcess process = FathomProcess.Start("train", "--config", config, "--out", broken, "--steps", $"{Steps}", "--threads", "2"))
        {
            SmallRun.WaitForLines(process, broken, SmallRun.SaveEvery + 9);
            process.Kill();
        }

        FathomProcess.Run("train", "--resume", broken, "--threads", "2").Expect(0);
        Assert.Equal(Metrics.Computed(whole), Metrics.Computed(broken));
        foreach (string file in (string[])["model.safetensors", "optimizer.safetensors", "ema.safetensors"])
        {
            byte[] expected = File.ReadAllBytes(Path.Combine(whole, "checkpoints", $"step-{Steps:D8}", file));
            Assert.True(expected.AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(broken, "checkpoints", $"step-{Steps:D8}", file))), file);
        }
    }

    [Fact]
    public void Interrupted_it_saves_says_how_to_go_on_and_does()
    {
        string run = unbroken.File("interrupted");
        using FathomProcess process = FathomProcess.Start("train", "--config", unbroken.Config, "--out", run, "--threads", "1");
        SmallRun.WaitForLines(process, run, SmallRun.SaveEvery + 15); // of steps, validations and loads of experts
        process.Interrupt();
        Outcome outcome = process.Wait().Expect(0);
        Assert.Contains("train --resume", outcome.Output, StringComparison.Ordinal);
        int steps = Metrics.Read(run).Length;
        Assert.InRange(steps, SmallRun.SaveEvery + 5, SmallRun.Steps - 1);
        Assert.True(Directory.Exists(Path.Combine(run, "checkpoints", $"step-{steps:D8}")), $"no checkpoint of step {steps}");
        output.WriteLine($"stopped after step {steps}");

        FathomProcess.Run("train", "--resume", run, "--threads", "1").Expect(0);
        Assert.Equal(unbroken.Computed, Metrics.Computed(run));
    }

    [Fact]
    public void A_damaged_newest_checkpoint_is_passed_over_with_a_message()
    {
        string run = unbroken.File("damaged");
        CopyFolder(unbroken.Run, run);
        string weights = Path.Combine(run, "checkpoints", $"step-{SmallRun.Steps:D8}", "model.safetensors");
        byte[] bytes = File.ReadAllBytes(weights);
        bytes[^100] ^= 0x40;
        File.WriteAllBytes(weights, bytes);

        Outcome outcome = FathomProcess.Run("train", "--resume", run, "--threads", "1").Expect(0);
        output.WriteLine(outcome.Error);
        Assert.Contains("is damaged and is passed over", outcome.Error, StringComparison.Ordinal);
        Assert.Contains($"resumed    step {SmallRun.Steps - SmallRun.SaveEvery}", outcome.Output, StringComparison.Ordinal);
        Assert.Equal(unbroken.Computed, Metrics.Computed(run));
    }

    [Fact]
    public void A_later_end_trains_on_from_where_the_run_ended()
    {
        string run = unbroken.File("longer");
        CopyFolder(unbroken.Run, run);
        Outcome done = FathomProcess.Run("train", "--resume", run, "--threads", "1").Expect(0);
        Assert.Contains("is at its end", done.Output, StringComparison.Ordinal);
        FathomProcess.Run("train", "--resume", run, "--steps", $"{SmallRun.Steps + 5}", "--threads", "1").Expect(0);
        Assert.Equal(SmallRun.Steps + 5, Metrics.Read(run).Length);
        string[] before = unbroken.Computed[..^1]; // the end is none any more
        Assert.Equal(before, Metrics.Computed(run).Take(before.Length));
    }

    [Fact]
    public void A_save_that_fails_ends_the_run_with_exit_code_1_and_keeps_the_last_checkpoint()
    {
        string run = unbroken.File("unsaved"), checkpoints = Path.Combine(run, "checkpoints"), aside = unbroken.File("aside");
        using FathomProcess process = FathomProcess.Start("train", "--config", unbroken.Config, "--out", run, "--threads", "1");
        SmallRun.WaitForLines(process, run, SmallRun.SaveEvery + 3);

        // A file in the place of the folder: no later checkpoint can be written, as on a disk that has become read-only.
        Directory.Move(checkpoints, aside);
        File.WriteAllText(checkpoints, "");
        Outcome outcome = process.Wait().Expect(1);
        output.WriteLine(outcome.Error);
        Assert.Contains("could not be saved", outcome.Error, StringComparison.Ordinal);
        Assert.Contains("train --resume", outcome.Error, StringComparison.Ordinal);

        File.Delete(checkpoints);
        Directory.Move(aside, checkpoints);
        FathomProcess.Run("train", "--resume", run, "--threads", "1").Expect(0);
        Assert.Equal(unbroken.Computed, Metrics.Computed(run));
    }

    private static void CopyFolder(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (string folder in Directory.EnumerateDirectories(from, "*", SearchOption.AllDirectories))
            Directory.CreateDirectory(Path.Combine(to, Path.GetRelativePath(from, folder)));
        foreach (string file in Directory.EnumerateFiles(from, "*", SearchOption.AllDirectories))
            File.Copy(file, Path.Combine(to, Path.GetRelativePath(from, file)));
    }
}
