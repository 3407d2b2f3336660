// The soak of docs/serving.md in short: a process of its own, every kind of request, every answer compared.
using System.Diagnostics;
using System.Text.Json.Nodes;
using Fathom.Testing;
using Xunit;

namespace Fathom.Server.Tests;

public sealed class SoakTests(ITestOutputHelper output)
{
    [Fact]
    public async Task Nothing_is_lost_crossed_or_left_behind()
    {
        using var folder = new TemporaryFolder();
        string text = folder.File("words.txt"), json = folder.File("soak.json");
        var random = new Random(3);
        await File.WriteAllTextAsync(text, string.Join(' ', Enumerable.Range(0, 4000).Select(_ => (string[])["the", "model", "reads", "a", "token", "day", "night", "42"] is var words ? words[random.Next(words.Length)] : "")));
        string host = Environment.ProcessPath is { } self && Path.GetFileNameWithoutExtension(self) == "dotnet" ? self : "dotnet";
        var start = new ProcessStartInfo(host) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in (string[])[Path.Combine(AppContext.BaseDirectory, "fathom.dll"), "bench", "soak", "--model", TestModel.Write(folder.Path), "--requests", "300", "--streams", "12", "--threads", "1", "--data", text, "--json", json])
            start.ArgumentList.Add(argument);
        using Process soak = Process.Start(start)!;
        Task<string> errors = soak.StandardError.ReadToEndAsync();
        output.WriteLine(await soak.StandardOutput.ReadToEndAsync());
        output.WriteLine(await errors);
        await soak.WaitForExitAsync();
        Assert.Equal(0, soak.ExitCode);
        JsonNode report = JsonNode.Parse(await File.ReadAllTextAsync(json))!;
        Assert.True((bool)report["passed"]!);
        Assert.Equal(300, report["requests"]!.AsObject().Sum(kind => (int)kind.Value!["sent"]!));
        Assert.All((string[])["Whole", "Stream", "Cancelled", "Malformed"], kind => Assert.InRange((int)report["requests"]![kind]!["sent"]!, 10, 150));
    }
}
