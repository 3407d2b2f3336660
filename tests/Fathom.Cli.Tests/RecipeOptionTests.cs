// --recipe: named or from a file, stored with the run, and kept when the run goes on.
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Testing;
using Xunit;

namespace Fathom.Cli.Tests;

public sealed class RecipeOptionTests(ITestOutputHelper output)
{
    [Fact]
    public void A_run_keeps_the_recipe_that_it_was_started_with()
    {
        using var folder = new TemporaryFolder();
        string config = SmallRun.WriteConfig(folder.Path), run = folder.File("run");
        Outcome first = FathomProcess.Run("train", "--config", config, "--recipe", "fp8", "--steps", "2", "--out", run).Expect(0);
        output.WriteLine(first.Output);
        Assert.Contains("recipe fp8", first.Output, StringComparison.Ordinal);
        Assert.Equal("fp8", Stored(run).GetValue<string>());

        string error = FathomProcess.Run("train", "--resume", run, "--recipe", "bf16", "--steps", "4").Expect(2).Error;
        output.WriteLine(error);
        Assert.Contains("was started with recipe fp8 and cannot go on with bf16; leave --recipe away, or start a new run", error, StringComparison.Ordinal);
        Assert.Equal(2, Metrics.Read(run).Length);

        Assert.Contains("recipe fp8", FathomProcess.Run("train", "--resume", run, "--steps", "3").Expect(0).Output, StringComparison.Ordinal);
        FathomProcess.Run("train", "--resume", run, "--recipe", "fp8", "--steps", "4").Expect(0);
        Assert.Equal(4, Metrics.Read(run).Length);
    }

    [Fact]
    public void A_file_gives_a_recipe_with_fields_changed()
    {
        using var folder = new TemporaryFolder();
        string config = SmallRun.WriteConfig(folder.Path), recipe = folder.File("recipe.json");
        File.WriteAllText(recipe, """{"base": "fp8", "activation_gradient": "e4m3 128x128"}""");
        Outcome outcome = FathomProcess.Run("train", "--config", config, "--recipe", recipe, "--steps", "1", "--out", folder.File("run")).Expect(0);
        Assert.Contains("recipe fp8 with activation_gradient e4m3 128x128", outcome.Output, StringComparison.Ordinal);
        Assert.Equal("""{"base":"fp8","activation_gradient":"e4m3 128x128"}""", Stored(folder.File("run")).ToJsonString());
    }

    [Theory]
    [InlineData("""{"base": "fp8", "wieght": "bf16"}""", "recipe.json: recipe: unknown field 'wieght'")]
    [InlineData("""{"base": "fp8",""", "recipe.json is not valid JSON")]
    [InlineData("17", "recipe.json: recipe: expected a name, or an object")]
    public void A_wrong_file_is_named(string json, string message)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("recipe.json"), json);
        string error = FathomProcess.Run("quickstart", "--recipe", folder.File("recipe.json"), "--out", folder.File("run")).Expect(2).Error;
        output.WriteLine(error);
        Assert.Contains(message, error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(folder.File("run")), "a run directory was left behind");
    }

    [Fact]
    public void The_memory_report_needs_no_text_and_leaves_no_run()
    {
        using var folder = new TemporaryFolder();
        bool runs = Directory.Exists("runs");
        Outcome outcome = FathomProcess.Run("train", "--memory-report", "--preset", "nano", "--json", folder.File("report.json")).Expect(0);
        output.WriteLine(outcome.Output);
        Assert.Equal(runs, Directory.Exists("runs"));
        JsonObject report = JsonNode.Parse(File.ReadAllText(folder.File("report.json")))!.AsObject();
        Assert.Equal(["bf16", "fp8", "fp32"], report["reports"]!.AsArray().Select(r => r!["recipe"]!.GetValue<string>()));
        Assert.InRange(report["fp8_saved_share_of_bf16"]!.GetValue<double>(), 0.2, 0.6);
        foreach (JsonNode? row in report["reports"]!.AsArray().SelectMany(r => r!["rows"]!.AsArray()))
        {
            long measured = row!["measured"]!.GetValue<long>(), predicted = row["predicted"]!.GetValue<long>();
            Assert.InRange((double)predicted / measured, 0.98, 1.02);
        }

        Assert.Contains("of the activations that bf16 keeps (the goal is at most 60 %)", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_memory_report_of_a_configuration_takes_its_shape_and_recipe()
    {
        using var folder = new TemporaryFolder();
        Outcome outcome = FathomProcess.Run("train", "--memory-report", "--config", SmallRun.WriteConfig(folder.Path), "--recipe", "hif8").Expect(0);
        output.WriteLine(outcome.Output);
        foreach (string text in (string[])["a micro-batch of 2 x 48 tokens", "saved HiF8", "moving average", "moments, BF16"])
            Assert.Contains(text, outcome.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("fp32", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_memory_of_any_preset_is_shown_by_formula()
    {
        string table = FathomProcess.Run("model", "deepseek-v3", "--memory", "--recipe", "fp8", "--batch", "1", "--tokens", "4096").Expect(0).Output;
        output.WriteLine(table);
        Assert.Contains("saved F8E4M3", table, StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(FathomProcess.Run("model", "deepseek-v3", "--memory", "--json").Expect(0).Output);
        Assert.Equal(4 * 682_636_487_424L, json.RootElement.GetProperty("bytes").GetProperty("weights").GetInt64());
    }

    private static JsonNode Stored(string run) => JsonNode.Parse(File.ReadAllText(Path.Combine(run, "run.json")))!["recipe"]!;
}
