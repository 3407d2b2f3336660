// The command as an operator runs it: signals, keys made while it runs, and a process killed in the middle of everything.
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Fathom.Server.Accounts;
using Fathom.Testing;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class ServeProcessTests(ITestOutputHelper output)
{
    [Fact]
    public async Task What_was_answered_is_written_down_once_even_when_the_server_is_killed()
    {
        using var folder = new TemporaryFolder();
        string keys = folder.File("keys.db");
        string key;
        using (var store = new KeyStore(keys)) (key, _) = store.Add("load");
        var answered = new ConcurrentDictionary<string, (long Hit, long Miss, long Output)>();
        using (var server = await ServerProcess.StartAsync(TestModel.Write(folder.Path), "--keys", keys))
        {
            using var client = new HttpClient { BaseAddress = server.Address };
            client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
            Task[] load = [.. Enumerable.Range(0, 12).Select(worker => Task.Run(async () =>
            {
                try
                {
                    for (int i = 0; ; i++) await AskAsync(client, answered, $"question {worker} {i % 5}", stream: i % 2 == 0);
                }
                catch (Exception error) when (error is HttpRequestException or IOException)
                {
                    // Killed.
                }
            }))];
            await TestServer.Eventually(() => answered.Count > 150, "150 answers", 60);
            server.Kill();
            await Task.WhenAll(load);
        }

        using var books = new KeyStore(keys);
        IReadOnlyDictionary<string, (long Hit, long Miss, long Output)> written = books.Requests();
        UsageTotal total = Assert.Single(books.Usage);
        output.WriteLine($"{answered.Count} answers were complete when the server was killed; {written.Count} are written down: {total}");
        foreach ((string id, (long, long, long) usage) in answered)
        {
            Assert.True(written.TryGetValue(id, out var row), $"{id} was answered and is not written down");
            Assert.Equal(usage, row);
        }

        Assert.InRange(written.Count - answered.Count, 0, 12); // settled, and killed before the client had read the end
        Assert.Equal((written.Count, written.Values.Sum(r => r.Hit), written.Values.Sum(r => r.Miss), written.Values.Sum(r => r.Output)), ((int)total.Requests, total.HitTokens, total.MissTokens, total.OutputTokens));
    }

    [Fact]
    public async Task SIGTERM_drains_and_ends_with_success()
    {
        using var folder = new TemporaryFolder();
        using var server = await ServerProcess.StartAsync(TestModel.Write(folder.Path), "--alias", "deepseek-chat", "--drain", "20");
        using var client = new HttpClient { BaseAddress = server.Address };
        const string Body = """{"model":"deepseek-chat","stream":true,"n":16,"max_tokens":1500,"ignore_eos":true,"messages":[{"role":"user","content":"a"}]}""";
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/chat/completions") { Content = new StringContent(Body) };
        using HttpResponseMessage running = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        server.Terminate();
        List<JsonNode> events = TestServer.Events(await running.Content.ReadAsStringAsync());
        Assert.Equal(16, events.Count(e => (string?)e["choices"]![0]!["finish_reason"] == "length"));
        Assert.Equal(0, server.WaitForExit());
        output.WriteLine(server.Log);
        Assert.Single(Regex.Matches(server.Log, "draining: "));
        Assert.Single(Regex.Matches(server.Log, "drained; "));
    }

    [Fact]
    public void Keys_are_made_listed_paid_and_revoked()
    {
        using var folder = new TemporaryFolder();
        string keys = folder.File("keys.db");
        string key = Run("keys", "add", "--keys", keys, "--name", "ann", "--requests-per-minute", "5", "--balance", "1.5").Trim();
        Assert.Equal(79, key.Length);
        string list = Run("keys", "list", "--keys", keys);
        output.WriteLine(list);
        string id = list.Split(' ')[0];
        Assert.Contains("ann", list, StringComparison.Ordinal);
        Assert.Contains("5 requests/min, balance 1.500000", list, StringComparison.Ordinal);
        Assert.DoesNotContain(key[15..], list, StringComparison.Ordinal);
        Assert.Contains("balance of 3.500000", Run("keys", "pay", "--keys", keys, id, "2"), StringComparison.Ordinal);
        Assert.Contains("is revoked", Run("keys", "revoke", "--keys", keys, id), StringComparison.Ordinal);
        Assert.Contains("revoked", Run("keys", "list", "--keys", keys), StringComparison.Ordinal);
        Assert.Contains("there is no key nobody in use", Run(2, "keys", "revoke", "--keys", keys, "nobody"), StringComparison.Ordinal);
        Assert.Contains("there is no key file", Run(2, "keys", "list", "--keys", folder.File("none.db")), StringComparison.Ordinal);
        Assert.Contains("--prices is 'CNY'", Run(2, "--model", "m", "--prices", "CNY"), StringComparison.Ordinal);
        Assert.Contains("there is no directory nowhere to show runs of", Run(2, "--model", "m", "--runs", "nowhere"), StringComparison.Ordinal);
        Assert.Contains("the port is 0 to 65535", Run(2, "--model", "m", "--port", "99999"), StringComparison.Ordinal);
    }

    private static async Task AskAsync(HttpClient client, ConcurrentDictionary<string, (long, long, long)> answered, string question, bool stream)
    {
        string body = $$"""{"max_tokens":8,"stream":{{(stream ? "true" : "false")}},"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"{{question}}"}]}""";
        using HttpResponseMessage response = await client.PostAsync("/v1/chat/completions", new StringContent(body));
        string text = await response.Content.ReadAsStringAsync();
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        JsonNode usage = stream ? TestServer.Events(text)[^1]["usage"]! : JsonNode.Parse(text)!["usage"]!;
        answered[response.Headers.GetValues("x-request-id").Single()] = ((long)usage["prompt_cache_hit_tokens"]!, (long)usage["prompt_cache_miss_tokens"]!, (long)usage["completion_tokens"]!);
    }

    private static string Run(params string[] arguments) => Run(0, arguments);

    private static string Run(int code, params string[] arguments)
    {
        using var process = ServerProcess.Launch(arguments);
        Task<string> error = process.StandardError.ReadToEndAsync();
        string text = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == code, $"exit code {process.ExitCode}: {text}{error.Result}");
        return code == 0 ? text : error.Result;
    }

    private sealed class ServerProcess : IDisposable
    {
        private readonly Process process;
        private readonly StringBuilder log;

        private ServerProcess(Process process, Uri address, StringBuilder log) => (this.process, Address, this.log) = (process, address, log);

        public Uri Address { get; }

        /// <summary>What it wrote to its error stream.</summary>
        public string Log
        {
            get
            {
                lock (log) return log.ToString();
            }
        }

        public static Process Launch(params string[] arguments)
        {
            var start = new ProcessStartInfo(Environment.ProcessPath is { } host && Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
            foreach (string argument in (string[])[Path.Combine(AppContext.BaseDirectory, "fathom.dll"), "serve", .. arguments]) start.ArgumentList.Add(argument);
            return Process.Start(start)!;
        }

        public static async Task<ServerProcess> StartAsync(string model, params string[] arguments)
        {
            Process process = Launch(["--model", model, "--port", "0", "--threads", "1", "--context", "2048", "--cache-tokens", "40000", .. arguments]);
            var log = new StringBuilder();
            process.ErrorDataReceived += (_, line) =>
            {
                lock (log) log.AppendLine(line.Data);
            };
            process.BeginErrorReadLine();
            var seen = new StringBuilder();
            while (await process.StandardOutput.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(60)) is { } line)
            {
                seen.AppendLine(line);
                if (!Uri.TryCreate(line, UriKind.Absolute, out Uri? address) || address.Scheme != "http") continue;
                _ = process.StandardOutput.ReadToEndAsync(); // so that the log never blocks it
                return new ServerProcess(process, address, log);
            }

            throw new InvalidOperationException($"the server did not start: {seen}");
        }

        public void Kill() => process.Kill();

        public void Terminate()
        {
            using Process kill = Process.Start("kill", ["-TERM", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
            kill.WaitForExit();
        }

        public int WaitForExit()
        {
            Assert.True(process.WaitForExit(TimeSpan.FromSeconds(60)), "the server does not end");
            process.WaitForExit(); // for the rest of the log
            return process.ExitCode;
        }

        public void Dispose()
        {
            if (!process.HasExited) process.Kill();
            process.Dispose();
        }
    }
}
