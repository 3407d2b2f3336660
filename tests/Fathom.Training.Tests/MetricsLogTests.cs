// metrics.jsonl: what a step's loads look like in it, and where it is cut when a run goes on.
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Testing;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class MetricsLogTests(ITestOutputHelper output)
{
    [Fact]
    public void Loads_are_written_every_so_many_steps_and_after_the_last_and_are_the_steps_own()
    {
        using var folder = new TemporaryFolder();
        TrainingConfig config = TestRuns.Config(TestRuns.WriteText(folder.Path), 8) with { ExpertLoadEvery = 3 };
        var imbalances = new Dictionary<long, double[]>();
        using (var device = new CpuDevice(2))
        using (var run = TrainingRun.Start(device, folder.File("run"), config, new RecordingObserver { OnStep = r => imbalances[r.Step] = [.. r.LoadImbalance] }))
        {
            Assert.True(run.Train(default));
        }

        JsonObject[] lines = [.. TestRuns.Metrics(folder.File("run")).Select(line => JsonNode.Parse(line)!.AsObject())];
        JsonObject[] loads = [.. lines.Where(line => line.ContainsKey("expert_load"))];
        foreach (JsonObject line in loads) output.WriteLine(line.ToJsonString());
        Assert.Equal([3, 6, 8], loads.Select(line => (int)line["step"]!));
        foreach (JsonObject line in loads)
        {
            long step = (long)line["step"]!;
            Assert.Equal([1, 2], line["expert_layers"]!.AsArray().Select(layer => (int)layer!)); // layer 0 is dense; layer 2 is the MTP module
            for (int l = 0; l < 2; l++)
            {
                long[] row = [.. line["expert_load"]![l]!.AsArray().Select(load => (long)load!)];
                Assert.Equal(8, row.Length);
                Assert.InRange(row.Sum(), 4 * (48 - 1) * 2, 4 * 48 * 2); // four sequences, two experts a token; an MTP module has a token fewer
                Assert.Equal(imbalances[step][l], (double)row.Max() * 8 / row.Sum(), 1e-12);
            }

            // The bias as the step chose with it: it has moved by γ = 0.001 in each step before.
            Assert.Equal(step % 3 == 0, line.ContainsKey("routing_bias"));
            if (line["routing_bias"] is not { } bias) continue;
            for (int l = 0; l < 2; l++)
            {
                double lowest = (double)bias[l]![0]!, highest = (double)bias[l]![1]!;
                Assert.True(lowest < 0 && highest > 0 && lowest > -0.001 * step && highest < 0.001 * step, $"{lowest} to {highest}");
            }
        }

        string[] without = Run(folder, "never", config with { ExpertLoadEvery = 0 });
        Assert.DoesNotContain(without, line => line.Contains("expert_load", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(58 + 1, 256, 236)] // DeepSeek-V3 with its MTP module
    [InlineData(26, 64, 26)] // V2-Lite
    [InlineData(4, 16, 10)]
    [InlineData(0, 0, 0)]
    public void By_default_loads_come_every_ten_steps_or_add_64_numbers_a_step(int layers, int experts, long every)
    {
        TrainingConfig config = TestRuns.Config("text", 1);
        Assert.Equal(every, config.ExpertLoadInterval(layers, experts));
        Assert.Equal(layers == 0 ? 0 : 7, (config with { ExpertLoadEvery = 7 }).ExpertLoadInterval(layers, experts));
        Assert.Contains("expert_load_every", Assert.Throws<Numerics.FathomException>((config with { ExpertLoadEvery = -1 }).Validate).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Opening_cuts_behind_the_last_whole_line_of_the_step_to_go_on_from()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("metrics.jsonl");
        string many = string.Join(",", Enumerable.Range(0, 400_000)); // a line that is longer than a piece that is read at once
        string[] lines =
        [
            """{"step":1,"loss":2}""", """{"step":1,"expert_load":[[1,2]]}""", $$"""{"step":2,"loss":1,"x":[{{many}}]}""", """{"loss":1,"step":2}""", """{"step":2,"val_loss":1}""", """{"step":3,"loss":1}""", """{"step":4,"lo""",
        ];
        foreach ((long last, int kept) in new[] { (0L, 0), (1L, 2), (2L, 5), (3L, 6), (9L, 6) })
        {
            File.WriteAllText(path, string.Join('\n', lines));
            new MetricsLog(path, last).Dispose();
            Assert.Equal(lines[..kept], File.ReadAllLines(path));
        }

        // An end is one only as long as nobody goes on.
        File.WriteAllText(path, $"{lines[0]}\n");
        using (var log = new MetricsLog(path, 1)) log.End(1, RunEnd.Failed, "no \"space\"");
        Assert.Equal([lines[0], """{"step":1,"end":"failed","reason":"no \u0022space\u0022"}"""], File.ReadAllLines(path));
        new MetricsLog(path, 9).Dispose();
        Assert.Equal(lines[..1], File.ReadAllLines(path));

        foreach (string damage in (string[])["no json", "", "[]", "{\"step\":true}", "{\"step\":2}}", "{\"a\":1}"])
        {
            File.WriteAllText(path, $"{lines[0]}\n{damage}\n{lines[3]}\n");
            new MetricsLog(path, 5).Dispose();
            Assert.Equal(lines[..1], File.ReadAllLines(path));
        }
    }

    private static string[] Run(TemporaryFolder folder, string name, TrainingConfig config)
    {
        using var device = new CpuDevice(2);
        using var run = TrainingRun.Start(device, folder.File(name), config, new RecordingObserver());
        run.Train(default);
        return TestRuns.Metrics(folder.File(name));
    }
}
