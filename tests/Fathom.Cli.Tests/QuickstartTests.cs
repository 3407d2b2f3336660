// The newcomer's path on a small text: quickstart, then the commands that it suggests.
using Fathom.Testing;
using Xunit;

namespace Fathom.Cli.Tests;

/// <summary>A quickstart of a few seconds on a small text.</summary>
public sealed class QuickstartRun : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public QuickstartRun()
    {
        Text = SmallRun.WriteText(folder.File("text.txt"), 200_000);
        Outcome = FathomProcess.Run("quickstart", "--seconds", "3", "--data", Text, "--out", Run, "--threads", "1");
    }

    public string Text { get; }

    public string Run => folder.File("run");

    public Outcome Outcome { get; }

    public void Dispose() => folder.Dispose();
}

public sealed class QuickstartTests(QuickstartRun quickstart, ITestOutputHelper output) : IClassFixture<QuickstartRun>
{
    [Fact]
    public void It_trains_compares_samples_and_says_what_comes_next()
    {
        string text = quickstart.Outcome.Expect(0).Output;
        output.WriteLine(text);
        foreach (string part in (string[])["tokenizer", "tokens/s", "gzip -9", "Brotli", "this model", "Samples", "chat --model", "generate --model", "train --resume", "--data PATH"])
            Assert.Contains(part, text, StringComparison.Ordinal);
        foreach (string file in (string[])["run.json", "metrics.jsonl", "model/config.json", "model/model.safetensors", "model/tokenizer.json", "tokenizer/tokenizer.json"])
            Assert.True(File.Exists(Path.Combine(quickstart.Run, file)), file);
    }

    [Fact]
    public void Generating_with_a_seed_gives_the_same_text_twice()
    {
        quickstart.Outcome.Expect(0);
        string[] arguments = ["generate", "--model", quickstart.Run, "--prompt", "the model", "--max-new-tokens", "12", "--ignore-eos", "--seed", "3", "--raw", "--threads", "1"];
        string first = FathomProcess.Run(arguments).Expect(0).Output, second = FathomProcess.Run(arguments).Expect(0).Output;
        output.WriteLine(first);
        Assert.NotEqual("", first.Trim());
        Assert.Equal(first, second);
    }

    [Fact]
    public void Generation_ends_before_a_stop_text()
    {
        quickstart.Outcome.Expect(0);
        string[] arguments = ["generate", "--model", quickstart.Run, "--prompt", "the model", "--max-new-tokens", "40", "--ignore-eos", "--temperature", "0", "--raw", "--threads", "1"];
        string whole = FathomProcess.Run(arguments).Expect(0).Output.TrimEnd('\n');
        Assert.True(whole.Length > 12, whole);
        string stop = whole.Substring(8, 3);
        string cut = FathomProcess.Run([.. arguments, "--stop", stop]).Expect(0).Output.TrimEnd('\n');
        Assert.Equal(whole[..whole.IndexOf(stop, StringComparison.Ordinal)].TrimEnd('\n'), cut);
    }

    [Fact]
    public void A_chat_reads_again_less_than_a_block_of_what_was_said_and_survives_mistakes()
    {
        quickstart.Outcome.Expect(0);
        Outcome chat = FathomProcess.RunWithInput(
            "Hello there\nA second\\\nline\n/temperature 0\n/temperature warm\n/bogus\n/system Be short.\nAgain\n/reset\n/help\n/exit\nnot read\n",
            "chat", "--model", quickstart.Run, "--max-new-tokens", "60", "--seed", "1", "--ignore-eos", "--threads", "1").Expect(0);
        output.WriteLine(chat.Output + chat.Error);
        string[] answers = [.. chat.Error.Split('\n').Where(line => line.Contains("tokens/s", StringComparison.Ordinal))];
        Assert.Equal(3, answers.Length);
        (int New, int All)[] prompts = [.. answers.Select(Prompt)];
        Assert.Equal(prompts[0].All, prompts[0].New);
        int before = prompts[0].All + 60 - 1; // the last token of the answer was not computed
        Assert.Equal(prompts[1].All - before / 64 * 64, prompts[1].New);
        Assert.True(before >= 64, $"the first turn had {before} tokens, less than a block");
        Assert.Contains("/temperature needs a number", chat.Error, StringComparison.Ordinal);
        Assert.Contains("there is no command /bogus", chat.Error, StringComparison.Ordinal);
        Assert.Contains("system message set", chat.Output, StringComparison.Ordinal);

        static (int New, int All) Prompt(string line)
        {
            string[] words = line[(line.IndexOf(';', StringComparison.Ordinal) + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
            return (int.Parse(words[0], null), int.Parse(words[2], null));
        }
    }

    [Fact]
    public void Continuing_lines_needs_no_template()
    {
        quickstart.Outcome.Expect(0);
        Outcome chat = FathomProcess.RunWithInput("the token\n", "chat", "--model", quickstart.Run, "--continue", "--max-new-tokens", "4", "--threads", "1").Expect(0);
        Assert.StartsWith("the token", chat.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Evaluating_gives_bits_per_byte_beside_compressors()
    {
        quickstart.Outcome.Expect(0);
        Outcome outcome = FathomProcess.Run("evaluate", "--model", quickstart.Run, "--data", quickstart.Text, "--max-tokens", "4000", "--sequence-length", "64", "--threads", "1").Expect(0);
        output.WriteLine(outcome.Output);
        Assert.Contains("bits per byte", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("gzip -9", outcome.Output, StringComparison.Ordinal);
    }
}
