// The routes of runs over HTTP: what is listed, what states there are, what needs a key, and what no path reaches.
using System.Net;
using System.Net.Http.Headers;
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Server.Accounts;
using Fathom.Server.Runs;
using Fathom.Testing;
using Fathom.Training;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class RunEndpointTests(ITestOutputHelper output)
{
    [Fact]
    public async Task Runs_are_found_two_levels_deep_with_their_states()
    {
        using var folder = new TemporaryFolder();
        string root = folder.Path;
        string done = RunFiles.Make(root, "done", RunFiles.Steps(1, 100) + RunFiles.Validation(100, 0.5));
        RunFiles.Make(root, "sweep/学習率 3e-3", RunFiles.Steps(1, 10));
        RunFiles.Make(root, "sweep/killed", RunFiles.Steps(1, 10));
        File.SetLastWriteTimeUtc(Path.Combine(root, "sweep/killed/metrics.jsonl"), DateTime.UtcNow.AddHours(-3));
        RunFiles.Make(root, "ended/diverged", RunFiles.Steps(1, 10) + RunFiles.End(10, "diverged", "step 11: the loss is NaN"));
        RunFiles.Make(root, "ended/failed", RunFiles.Steps(1, 10) + RunFiles.End(10, "failed", $"{root}: no space left"));
        RunFiles.Make(root, "ended/stopped", RunFiles.Steps(1, 10) + RunFiles.End(10, "stopped"));
        RunFiles.Make(root, "ended/resumed", RunFiles.Steps(1, 10) + RunFiles.End(10, "stopped") + RunFiles.Step(11));
        RunFiles.Make(root, "ended/strange", RunFiles.Steps(1, 10) + RunFiles.End(10, "exploded", "x"));
        RunFiles.Make(root, "a/b/too-deep", RunFiles.Steps(1, 2));
        RunFiles.Make(root, ".hidden", RunFiles.Steps(1, 2));
        RunFiles.Make(done, "checkpoints/inner", RunFiles.Steps(1, 2));
        Directory.CreateDirectory(Path.Combine(root, "empty"));
        RunFiles.Make(root, "begun", "");
        RunFiles.Make(root, "broken", RunFiles.Steps(1, 2) + """
            {"step":3,"loss":1e300,"grad_norm":-1e39,"seconds":1e300,"tokens":9223372036854775807,"mtp_loss":[1e308],"lr":3e38}
            {"step":3,"expert_layers":[1,2],"expert_load":[[1,2],[3,4]],"routing_bias":[[1e300,2],[-1e300,5]]}
            {"step":4,"expert_load":[[1,2],[3]]}
            {"step":5,"expert_load":[[],[]]}
            {"step":6,"expert_load":[]}
            {"step":7,"expert_layers":[1],"expert_load":[[1,2],["x"]]}

            """, "not json");
        await using FathomServer server = await StartAsync(root);
        using var client = new HttpClient { BaseAddress = server.Address };
        JsonNode reply = await GetAsync(client, "/runs");
        Assert.False((bool)reply["chat"]!);
        Dictionary<string, JsonNode> runs = reply["runs"]!.AsArray().ToDictionary(r => (string)r!["name"]!, r => r!);
        output.WriteLine(string.Join("; ", runs.Select(r => $"{r.Key} {r.Value["state"]}")));
        Assert.Equal(["begun", "broken", "done", "ended/diverged", "ended/failed", "ended/resumed", "ended/stopped", "ended/strange", "sweep/killed", "sweep/学習率 3e-3"], runs.Keys.Order(StringComparer.Ordinal));
        Assert.Equal("finished", (string?)runs["done"]["state"]);
        Assert.Equal("running", (string?)runs["sweep/学習率 3e-3"]["state"]);
        Assert.Equal("stale", (string?)runs["sweep/killed"]["state"]);
        Assert.Equal("preparing", (string?)runs["begun"]["state"]);
        foreach (string end in (string[])["diverged", "failed", "stopped"]) Assert.Equal((end, 10), ((string?)runs[$"ended/{end}"]["state"], (int)runs[$"ended/{end}"]["step"]!));
        foreach (string end in (string[])["resumed", "strange"]) Assert.Equal("running", (string?)runs[$"ended/{end}"]["state"]);
        Assert.Equal("step 11: the loss is NaN", (string?)runs["ended/diverged"]["reason"]);
        Assert.Equal("running", (string?)runs["broken"]["state"]);
        Assert.Null(runs["broken"]["settings"]);
        Assert.Equal((1.0, 100, 10000, 50.0, 0.5), ((double)runs["done"]["progress"]!, (int)runs["done"]["step"]!, (int)runs["done"]["tokens"]!, (double)runs["done"]["seconds"]!, (double)runs["done"]["last"]!["val_loss"]!));
        Assert.Equal(("tiny", "bf16", "7"), ((string?)runs["done"]["settings"]!["model"], (string?)runs["done"]["settings"]!["recipe"], (string?)runs["done"]["settings"]!["seed"]));
        Assert.DoesNotContain(root, reply.ToJsonString(), StringComparison.Ordinal);

        string broken = (string)runs["broken"]["id"]!;
        Assert.Equal(3, (await GetAsync(client, $"/runs/{broken}/metrics"))["steps"]!.AsArray().Count);
        foreach (string query in (string[])["", "?step=3", "?step=5", "?step=7", "?layer=1", "?layer=0"]) await GetAsync(client, $"/runs/{broken}/experts{query}");
        Assert.Equal("[[1,2],[3,4]]", (await GetAsync(client, $"/runs/{broken}/experts?step=3"))["load"]!.ToJsonString());
        Assert.Empty((await GetAsync(client, $"/runs/{broken}/experts?step=5"))["load"]!.AsArray());

        string id = (string)runs["done"]["id"]!;
        JsonNode metrics = await GetAsync(client, $"/runs/{id}/metrics");
        Assert.Equal(100, metrics["steps"]!.AsArray().Count);
        Assert.Equal(0.1f, (float)metrics["series"]!["loss"]!["mean"]![99]!);
        Assert.Null(metrics["series"]!["loss"]!["least"]);
        Assert.Equal(0.5f, (float)metrics["series"]!["val_loss"]!["mean"]![99]!);
        Assert.Null(metrics["series"]!["val_loss"]!["mean"]![98]);
        Assert.Equal([11, 12, 13], (await GetAsync(client, $"/runs/{id}/metrics?from=11&to=13"))["steps"]!.AsArray().Select(s => (int)s!));
        JsonNode next = await GetAsync(client, $"/runs/{id}/metrics?after={metrics["cursor"]}");
        Assert.Equal((false, 100), ((bool)next["whole"]!, (int)Assert.Single(next["steps"]!.AsArray())!));
        JsonNode experts = await GetAsync(client, $"/runs/{id}/experts");
        Assert.Empty(experts["steps"]!.AsArray());
        Assert.Null(experts["step"]);
    }

    [Fact]
    public async Task No_path_and_no_value_of_a_client_reaches_a_file()
    {
        using var folder = new TemporaryFolder();
        RunFiles.Make(folder.Path, "runs/one", RunFiles.Steps(1, 3) + RunFiles.Loads(3));
        RunFiles.Make(folder.Path, "secret", RunFiles.Step(41));
        await using FathomServer server = await StartAsync(folder.File("runs"));
        using var client = new HttpClient { BaseAddress = server.Address };
        JsonNode only = Assert.Single((await GetAsync(client, "/runs"))["runs"]!.AsArray())!;
        string id = (string)only["id"]!;
        Assert.Matches("^[0-9a-f]{12}$", id);
        string[] tricks =
        [
            "one", "../secret", "..%2fsecret", "%2e%2e%2fsecret", "..", "%00", id + "%00", id + "/..", id.ToUpperInvariant() + "x", folder.File("secret").Replace("/", "%2f", StringComparison.Ordinal), "*", id[..11], "C:%5c", new string('a', 2000), "%ff%fe",
        ];
        foreach (string trick in tricks)
        {
            foreach (string end in (string[])["metrics", "experts"])
            {
                using HttpResponseMessage response = await client.GetAsync(new Uri($"{server.Address}runs/{trick}/{end}"));
                string text = await response.Content.ReadAsStringAsync();
                Assert.True(response.StatusCode is HttpStatusCode.NotFound or HttpStatusCode.BadRequest, $"{trick}: {(int)response.StatusCode} {text}");
                Assert.DoesNotContain(folder.Path, text, StringComparison.Ordinal);
            }
        }

        foreach ((string query, int status) in new[]
                 {
                     ("metrics?from=x", 400), ("metrics?from=-1", 400), ("metrics?from=99999999999999999999", 400), ("metrics?points=1", 422), ("metrics?points=999999", 422), ("experts?layer=99999999999", 422), ("experts?step=1.5", 400),
                     ("metrics?after=../../x", 200), ("metrics?from=5&to=2", 200), ("metrics?after=" + new string('9', 1000), 200), ("experts?layer=77", 200), ("experts?step=9223372036854775807", 200),
                 })
        {
            using HttpResponseMessage response = await client.GetAsync(new Uri($"{server.Address}runs/{id}/{query}"));
            Assert.True((int)response.StatusCode == status, $"{query} gave {(int)response.StatusCode}");
        }

        Assert.Equal(3, (int)(await GetAsync(client, $"/runs/{id}/experts"))["step"]!);
        Assert.Equal(HttpStatusCode.NotFound, (await client.GetAsync(new Uri("/v1/models", UriKind.Relative))).StatusCode);
        Assert.Equal(HttpStatusCode.OK, (await client.GetAsync(new Uri("/health", UriKind.Relative))).StatusCode);
        foreach (string page in (string[])["/", "/dashboard"]) Assert.Contains("Training runs", await client.GetStringAsync(new Uri(page, UriKind.Relative)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Runs_need_a_key_once_there_is_one_and_a_server_with_a_model_has_both_pages()
    {
        using var folder = new TemporaryFolder();
        RunFiles.Make(folder.Path, "runs/one", RunFiles.Step(1));
        string key;
        using (var store = new KeyStore(folder.File("keys.db"))) (key, _) = store.Add("ann");
        await using TestServer server = await TestServer.StartAsync(options =>
        {
            options.KeysFile = folder.File("keys.db");
            options.RunDirectories.Add(folder.File("runs"));
        });
        await server.GetAsync("/runs", 401);
        await server.GetAsync("/runs/000000000000/metrics", 401);
        await server.GetAsync("/runs/000000000000/metrics", 404, key);
        JsonNode list = await server.GetAsync("/runs", 200, key);
        Assert.True((bool)list["chat"]!);
        string id = (string)list["runs"]![0]!["id"]!;
        await server.GetAsync($"/runs/{id}/experts", 401);
        await server.GetAsync($"/runs/{id}/experts", 200, key);
        string chat = await server.Client.GetStringAsync(new Uri("/", UriKind.Relative));
        Assert.Contains("<title>Fathom</title>", chat, StringComparison.Ordinal);
        Assert.Contains("href=\"dashboard\">Training runs", chat, StringComparison.Ordinal);
        Assert.Contains("Training runs", await server.Client.GetStringAsync(new Uri("/dashboard", UriKind.Relative)), StringComparison.Ordinal);

        await using TestServer without = await TestServer.StartAsync();
        Assert.Equal(HttpStatusCode.NotFound, (await without.Client.GetAsync(new Uri("/dashboard", UriKind.Relative))).StatusCode);
        Assert.Contains("href=\"dashboard\" hidden", await without.Client.GetStringAsync(new Uri("/", UriKind.Relative)), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.NotFound, (await without.Client.GetAsync(new Uri("/runs", UriKind.Relative))).StatusCode);
    }

    [Fact]
    public async Task What_a_trainer_writes_is_what_is_served()
    {
        using var folder = new TemporaryFolder();
        string run = folder.File("runs", "real"), text = folder.File("text.txt");
        File.WriteAllText(text, string.Join('\n', Enumerable.Range(0, 3000).Select(i => $"line {i} follows line {i - 1}" + (i % 20 == 19 ? "\n" : ""))));
        var config = new TrainingConfig
        {
            Seed = 3,
            Model = JsonNode.Parse(TestModel.Config.ToJson()),
            Data = new DataConfig { Path = text, HeldOut = 0.1 },
            Tokenizer = new TokenizerConfig { VocabSize = 340 },
            SequenceLength = 32,
            MicroBatch = 2,
            BatchSize = Schedule.Constant(2),
            Steps = 6,
            ExpertLoadEvery = 4,
            ValidateEvery = 3,
            ValidationSequences = 2,
            SaveEvery = 6,
        };
        using (var device = new CpuDevice(1))
        using (TrainingRun training = TrainingRun.Start(device, run, config, new Silence()))
        {
            Assert.True(training.Train(default));
        }

        await using FathomServer server = await StartAsync(folder.File("runs"));
        using var client = new HttpClient { BaseAddress = server.Address };
        JsonNode listed = Assert.Single((await GetAsync(client, "/runs"))["runs"]!.AsArray())!;
        Assert.Equal(("finished", 6, 2, 6, 0), ((string?)listed["state"], (int)listed["step"]!, (int)listed["expert_steps"]!, (int)listed["last_expert_step"]!, (int)listed["damaged_lines"]!));
        string id = (string)listed["id"]!;
        JsonNode metrics = await GetAsync(client, $"/runs/{id}/metrics");
        output.WriteLine(string.Join(", ", metrics["series"]!.AsObject().Select(s => s.Key)));
        foreach (string name in (string[])["loss", "val_loss", "val_bpb", "lr", "grad_norm", "tokens_per_second", "memory_bytes", "load_imbalance", "balance_loss", "peak_share"]) Assert.NotNull(metrics["series"]![name]);
        Assert.Equal([false, false, true, false, false, true], metrics["series"]!["val_loss"]!["mean"]!.AsArray().Select(v => v is not null));

        // Two of eight experts for each of 2 x 32 tokens; the bias was read at step 4, which the interval names, and not at the last.
        JsonNode experts = await GetAsync(client, $"/runs/{id}/experts");
        Assert.Equal([4, 6], experts["steps"]!.AsArray().Select(s => (int)s!));
        Assert.Equal([1], experts["layers"]!.AsArray().Select(s => (int)s!));
        Assert.Equal(128, experts["load"]![0]!.AsArray().Sum(l => (int)l!));
        Assert.Null(experts["bias"]);
        JsonNode fourth = await GetAsync(client, $"/runs/{id}/experts?step=4");
        double low = (double)fourth["bias"]![0]![0]!, high = (double)fourth["bias"]![0]![1]!;
        output.WriteLine($"routing bias of step 4: {low} to {high}");
        Assert.True(low < 0 && high > 0 && low >= -0.0031 && high <= 0.0031); // three updates of 0.001
        double imbalance = fourth["load"]![0]!.AsArray().Max(l => (double)l!) * 8 / 128;
        Assert.Equal((float)imbalance, (float)metrics["series"]!["load_imbalance"]!["mean"]![3]!);
        JsonNode layer = await GetAsync(client, $"/runs/{id}/experts?layer=1");
        Assert.Equal(fourth["load"]![0]!.ToJsonString(), layer["load"]![0]!.ToJsonString());
    }

    [Fact]
    public async Task Directories_may_be_missing_overlap_or_be_runs_themselves()
    {
        using var folder = new TemporaryFolder();
        string one = RunFiles.Make(folder.Path, "first/one", RunFiles.Step(1)), other = RunFiles.Make(folder.Path, "second/one", RunFiles.Step(1));
        Assert.Empty(new RunCatalog([folder.File("none")], TimeProvider.System).Runs);
        Assert.Equal("one", Assert.Single(new RunCatalog([one + "/"], TimeProvider.System).Runs).Name);
        Assert.Equal(["first/one", "second/one"], new RunCatalog([folder.File("first"), folder.File("second")], TimeProvider.System).Runs.Select(r => r.Name).Order(StringComparer.Ordinal));
        Assert.Equal(2, new RunCatalog([folder.Path, folder.File("first"), other], TimeProvider.System).Runs.DistinctBy(r => r.Id).Count());
        for (int i = 0; i < RunCatalog.MostRuns + 20; i++) RunFiles.Make(folder.Path, $"many/run{i}", "");
        Assert.Equal(RunCatalog.MostRuns, new RunCatalog([folder.File("many")], TimeProvider.System).Runs.Count);
        Assert.Contains("give at least one directory", (await Assert.ThrowsAsync<FathomException>(() => FathomServer.StartAsync(new FathomServerOptions()))).Message, StringComparison.Ordinal);
    }

    private static async Task<FathomServer> StartAsync(string root)
    {
        var options = new FathomServerOptions { Port = 0 };
        options.RunDirectories.Add(root);
        return await FathomServer.StartAsync(options, logging => logging.ClearProviders());
    }

    private static async Task<JsonNode> GetAsync(HttpClient client, string path)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path);
        request.Headers.Accept.Add(new MediaTypeWithQualityHeaderValue("application/json"));
        using HttpResponseMessage response = await client.SendAsync(request);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, $"{path}: {(int)response.StatusCode} {text}");
        return JsonNode.Parse(text)!;
    }

    private sealed class Silence : IRunObserver
    {
        public void Preparing(PreparationProgress progress)
        {
        }

        public void Starting(TrainingRun run, string? restoredFrom)
        {
        }

        public void Stepped(StepReport report)
        {
        }

        public void Validated(long step, ValidationReport report)
        {
        }

        public void Saved(long step, string folder)
        {
        }

        public void Warning(string message)
        {
        }
    }
}
