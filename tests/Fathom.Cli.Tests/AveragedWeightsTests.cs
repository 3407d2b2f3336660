// `--weights ema`: the newest checkpoint's average in place of the last weights, and a clear line where there is none.
using Xunit;

namespace Fathom.Cli.Tests;

public sealed class AveragedWeightsTests(UnbrokenRun unbroken, ITestOutputHelper output) : IClassFixture<UnbrokenRun>
{
    private string Newest => Path.Combine(unbroken.Run, "checkpoints", $"step-{SmallRun.Steps:D8}");

    [Fact]
    public void Every_verb_that_takes_them_computes_with_the_average()
    {
        // The same weights as a plain model folder.
        string plain = unbroken.File("plain");
        Directory.CreateDirectory(plain);
        foreach (string file in Directory.EnumerateFiles(Newest, "*.json")) File.Copy(file, Path.Combine(plain, Path.GetFileName(file)));
        File.Copy(Path.Combine(Newest, "ema.safetensors"), Path.Combine(plain, "model.safetensors"));

        string[] evaluate = ["evaluate", "--data", unbroken.File("text.txt"), "--sequence-length", "48", "--max-tokens", "3000", "--threads", "1"];
        string[] generate = ["generate", "--ids", "5,6,7", "--print-ids", "--seed", "4", "--temperature", "1", "--max-new-tokens", "24", "--threads", "1"];
        foreach (string[] verb in (string[][])[evaluate, generate])
        {
            string expected = FathomProcess.Run([.. verb, "--model", plain]).Expect(0).Output;
            string run = FathomProcess.Run([.. verb, "--model", unbroken.Run, "--weights", "ema"]).Expect(0).Output;
            string checkpoint = FathomProcess.Run([.. verb, "--model", Newest, "--weights", "ema"]).Expect(0).Output;
            string last = FathomProcess.Run([.. verb, "--model", Newest, "--weights", "last"]).Expect(0).Output;
            output.WriteLine($"average: {run}\nlast:    {last}");
            Assert.Equal(expected, run);
            Assert.Equal(expected, checkpoint);
            Assert.NotEqual(expected, last);
        }

        string[] chat = ["chat", "--continue", "--seed", "4", "--temperature", "1", "--max-new-tokens", "24", "--threads", "1"];
        string said = FathomProcess.RunWithInput("the model\n", [.. chat, "--model", unbroken.Run, "--weights", "ema"]).Expect(0).Output;
        Assert.Equal(FathomProcess.RunWithInput("the model\n", [.. chat, "--model", plain]).Expect(0).Output, said);
        Assert.NotEqual(FathomProcess.RunWithInput("the model\n", [.. chat, "--model", Newest]).Expect(0).Output, said);
    }

    [Fact]
    public void Where_there_is_no_average_a_line_says_so()
    {
        string model = Path.Combine(unbroken.Run, "model");
        Refused("has no averaged weights (ema.safetensors)", "generate", "--model", model, "--prompt", "the", "--weights", "ema");

        string without = unbroken.File("without"), checkpoint = Path.Combine(without, "checkpoints", "step-00000001");
        Directory.CreateDirectory(checkpoint);
        foreach (string file in Directory.EnumerateFiles(model)) File.Copy(file, Path.Combine(checkpoint, Path.GetFileName(file)));
        Refused("step-00000001 has no averaged weights", "chat", "--model", without, "--weights", "ema");
        Refused("'last'", "evaluate", "--model", model, "--data", "x", "--weights", "best");
    }

    private void Refused(string message, params string[] arguments)
    {
        Outcome outcome = FathomProcess.Run(arguments).Expect(2);
        output.WriteLine(outcome.Error);
        Assert.Contains(message, outcome.Error, StringComparison.Ordinal);
        Assert.Single(outcome.Error.Split('\n'), line => line.StartsWith("fathom: ", StringComparison.Ordinal));
    }
}
