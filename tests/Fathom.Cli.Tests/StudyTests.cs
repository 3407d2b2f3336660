// Studies as a user runs them, at sizes that take seconds.
using System.Text.Json.Nodes;
using Fathom.Testing;
using Xunit;

namespace Fathom.Cli.Tests;

public sealed class StudyTests(ITestOutputHelper output)
{
    [Fact]
    public void A_study_of_recipes_trains_compares_and_reuses_its_runs()
    {
        using var folder = new TemporaryFolder();
        string text = SmallRun.WriteText(folder.File("text.txt"), 60_000), study = folder.File("study");
        string[] command = ["study", "fp8", "--data", text, "--preset", "nano", "--steps", "4", "--out", study];
        Outcome first = FathomProcess.Run([.. command, "--vary", "optimizer-moments=f32"]).Expect(0);
        output.WriteLine(first.Output);
        foreach (string variant in (string[])["bf16", "fp8", "fp8-optimizer-moments-f32"])
            Assert.Equal(4, Metrics.Read(Path.Combine(study, variant)).Length);

        // Another row later: what is there is not trained again.
        Outcome second = FathomProcess.Run([.. command, "--vary", "scales=pow2", "optimizer-moments=f32"]).Expect(0);
        Assert.Equal(3, second.Output.Split('\n').Count(line => line.StartsWith("finished ", StringComparison.Ordinal)));
        Assert.Contains("fp8-scales-pow2", second.Output, StringComparison.Ordinal);
        JsonObject json = JsonNode.Parse(File.ReadAllText(Path.Combine(study, "study.json")))!.AsObject();
        Assert.Equal(["bf16", "fp8", "fp8-scales-pow2", "fp8-optimizer-moments-f32"], json["variants"]!.AsArray().Select(v => v!["name"]!.GetValue<string>()));
        Assert.Contains("<svg", File.ReadAllText(Path.Combine(study, "study.html")), StringComparison.Ordinal);

        Outcome other = FathomProcess.Run([.. command, "--seed", "2"]).Expect(2);
        Assert.Contains("another configuration", other.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void The_accumulation_study_prints_its_table_and_writes_its_page()
    {
        using var folder = new TemporaryFolder();
        Outcome outcome = FathomProcess.Run("study", "accumulation", "--k", "64", "256", "--size", "16", "--out", folder.File("sums")).Expect(0);
        output.WriteLine(outcome.Output);
        Assert.Contains("At K = 256, 16 x 16 results", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("fathom study accumulation --k 64 256", File.ReadAllText(folder.File("sums", "accumulation.html")), StringComparison.Ordinal);
    }
}
