// What a user can get wrong ends in one line on the error stream and exit code 2, whatever the verb.
using Fathom.Testing;
using Xunit;

namespace Fathom.Cli.Tests;

public sealed class BadInputTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("Unrecognized", "nonsense")]
    [InlineData("--no-such-option", "model", "small", "--no-such-option")]
    [InlineData("there is no preset and no folder \"nope\"", "model", "nope")]
    [InlineData("give one of --config FILE, --resume DIR and --data PATH", "train")]
    [InlineData("give one of --config FILE, --resume DIR and --data PATH", "train", "--config", "a.json", "--resume", "b")]
    [InlineData("give one of --steps, --tokens and --seconds", "train", "--resume", "b", "--steps", "1", "--seconds", "2")]
    [InlineData("cannot read the training configuration", "train", "--config", "/no/such/file.json")]
    [InlineData("is not a run directory", "train", "--resume", "/no/such/run")]
    [InlineData("there is no such file or folder", "quickstart", "--data", "/no/such/text", "--out", "{temporary}/run")]
    [InlineData("unknown recipe 'fp9'; there are fp32, bf16, fp8, hif8", "train", "--data", "{temporary}", "--recipe", "fp9", "--out", "{temporary}/run")]
    [InlineData("unknown recipe 'fp9'; there are fp32, bf16, fp8, hif8", "quickstart", "--recipe", "fp9", "--out", "{temporary}/run")]
    [InlineData("--json goes with --memory-report", "train", "--data", "{temporary}", "--json", "report.json")]
    [InlineData("--memory-report makes no run; leave --out away", "train", "--memory-report", "--preset", "nano", "--out", "{temporary}/run")]
    [InlineData("--preset goes with --data", "train", "--memory-report", "--config", "a.json", "--preset", "nano")]
    [InlineData("training 683G parameters in bf16 takes", "train", "--memory-report", "--preset", "deepseek-v3")]
    [InlineData("--recipe, --batch, --tokens and --device go with --memory", "model", "nano", "--batch", "2")]
    [InlineData("the batch is 0", "model", "nano", "--memory", "--batch", "0")]
    [InlineData("unknown recipe 'fp9'", "model", "nano", "--memory", "--recipe", "fp9")]
    [InlineData("there is no model preset \"nope\"", "train", "--data", "{temporary}", "--preset", "nope", "--out", "{temporary}/run")]
    [InlineData("choose a smaller model", "train", "--data", "{temporary}", "--preset", "deepseek-v3", "--out", "{temporary}/run")]
    [InlineData("there is no model folder /no/such/model", "generate", "--model", "/no/such/model", "--prompt", "a")]
    [InlineData("give one of --prompt TEXT, --prompt-file FILE and --ids 1,2,3", "generate", "--model", "m")]
    [InlineData("give one of --prompt TEXT, --prompt-file FILE and --ids 1,2,3", "generate", "--model", "m", "--prompt", "a", "--ids", "1")]
    [InlineData("\"x\" is not a token id", "generate", "--model", "m", "--ids", "1,x")]
    [InlineData("top-p must be in (0, 1]", "generate", "--model", "m", "--ids", "1", "--top-p", "2")]
    [InlineData("Cannot parse argument 'hot'", "generate", "--model", "m", "--ids", "1", "--temperature", "hot")]
    [InlineData("--threads is -1", "chat", "--model", "m", "--threads", "-1")]
    [InlineData("holds no model", "chat", "--model", "{temporary}")]
    [InlineData("give one of --jsonl FILE, --text TEXT and a file", "tokenize", "--tokenizer", "t")]
    [InlineData("no/such", "tokenize", "--tokenizer", "/no/such", "--text", "a")]
    [InlineData("expected NAME=VALUE", "study", "fp8", "--data", "{temporary}", "--vary", "scales")]
    [InlineData("unknown field 'colour'", "study", "fp8", "--data", "{temporary}", "--vary", "colour=red")]
    [InlineData("--steps is 0; give at least 1", "study", "fp8", "--steps", "0")]
    [InlineData("--smoothing is 1; it must be in [0, 1)", "study", "fp8", "--smoothing", "1")]
    [InlineData("there is no model preset \"nope\"", "study", "fp8", "--data", "{temporary}", "--preset", "nope")]
    [InlineData("there is no such file or folder", "study", "fp8", "--data", "/no/such/text", "--out", "{temporary}/study")]
    [InlineData("--k 0", "study", "accumulation", "--k", "0", "--out", "{temporary}/study")]
    [InlineData("--kv-cache is 'int4'; give bf16 or fp8", "generate", "--model", "m", "--ids", "1", "--kv-cache", "int4")]
    [InlineData("--device is 'gpu'; give cpu, cuda, or cuda:N", "generate", "--model", "m", "--ids", "1", "--device", "gpu")]
    [InlineData("--device is 'cuda:-1'; give cpu, cuda, or cuda:N", "train", "--data", "{temporary}", "--device", "cuda:-1")]
    [InlineData("Option '--tensor' is required", "forward", "--model", "m", "--ids", "f", "--out", "o")]
    public void A_mistake_is_one_line_and_exit_code_2(string message, params string[] arguments)
    {
        using var folder = new TemporaryFolder();
        Outcome outcome = FathomProcess.Run([.. arguments.Select(a => a.Replace("{temporary}", folder.Path, StringComparison.Ordinal))]).Expect(2);
        output.WriteLine(outcome.Error);
        Assert.StartsWith("fathom: ", outcome.Error, StringComparison.Ordinal);
        Assert.Contains(message, outcome.Error, StringComparison.Ordinal);
        Assert.Single(outcome.Error.Split('\n'), line => line.StartsWith("fathom: ", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("""{"data": {"path": "."}, "model": "small", "steps": 1, "lerning_rate": 1}""", "lerning_rate")]
    [InlineData("""{"data": {"path": "."}, "model": "small"}""", "steps give steps, tokens or seconds")]
    [InlineData("""{"data": {"path": "."}, "model": {"model_type": "deepseek_v3", "hidden_size": -4}, "steps": 1}""", "hidden_size")]
    [InlineData("""{"data": {"type": "batches"}, "model": "small", "steps": 1}""", "needs file and tensor")]
    [InlineData("{", "config.json")]
    public void A_wrong_training_configuration_names_the_field(string json, string message)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("config.json"), json);
        Outcome outcome = FathomProcess.Run("train", "--config", folder.File("config.json"), "--out", folder.File("run")).Expect(2);
        output.WriteLine(outcome.Error);
        Assert.Contains(message, outcome.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(folder.File("run")), "a run directory was left behind");
    }

    // What was wrong can be put right, and the command given again.
    [Theory]
    [InlineData(null, "there is no such file or folder")]
    [InlineData("", "no document is left")]
    public void A_run_whose_text_cannot_be_read_leaves_no_directory(string? text, string message)
    {
        using var folder = new TemporaryFolder();
        if (text is not null) File.WriteAllText(folder.File("text.txt"), text);
        Outcome outcome = FathomProcess.Run("train", "--data", folder.File("text.txt"), "--preset", "nano", "--steps", "1", "--out", folder.File("run")).Expect(2);
        Assert.Contains(message, outcome.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(folder.File("run")), "a run directory was left behind");
    }

    [Fact]
    public void A_directory_with_another_run_is_refused_and_left_alone()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("run.json"), "{}");
        File.WriteAllText(folder.File("text.txt"), "some text");
        Outcome outcome = FathomProcess.Run("train", "--data", folder.File("text.txt"), "--preset", "nano", "--out", folder.Path).Expect(2);
        Assert.Contains("already holds a run with another configuration", outcome.Error, StringComparison.Ordinal);
        Assert.Equal("{}", File.ReadAllText(folder.File("run.json")));
    }

    [Fact]
    public void Ids_outside_the_vocabulary_are_refused()
    {
        string model = Golden.Shared("golden", "tiny-v3");
        Outcome outcome = FathomProcess.Run("generate", "--model", model, "--ids", "1,99999", "--print-ids").Expect(2);
        Assert.Contains("token id 99999 is outside the model's vocabulary of 512", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_model_without_tokenizer_says_what_to_give_instead()
    {
        string model = Golden.Shared("golden", "tiny-v3");
        Outcome outcome = FathomProcess.Run("generate", "--model", model, "--prompt", "text").Expect(2);
        Assert.Contains("give token ids (--ids)", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_truncated_model_is_refused()
    {
        using var folder = new TemporaryFolder();
        string model = Golden.Shared("golden", "tiny-v3");
        File.Copy(Path.Combine(model, "config.json"), folder.File("config.json"));
        byte[] weights = File.ReadAllBytes(Path.Combine(model, "model.safetensors"));
        File.WriteAllBytes(folder.File("model.safetensors"), weights[..(weights.Length / 2)]);
        Outcome outcome = FathomProcess.Run("generate", "--model", folder.Path, "--ids", "1,2", "--print-ids").Expect(2);
        output.WriteLine(outcome.Error);
        Assert.Contains("model.safetensors", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_broken_line_of_JSON_is_named_and_no_half_file_is_left()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("in.jsonl"), "{\"text\": \"good\"}\n{\"text\": 5}\n");
        Outcome outcome = FathomProcess.Run(
            "tokenize", "--tokenizer", Golden.Shared("tokenizer"), "--jsonl", folder.File("in.jsonl"), "--out", folder.File("out.jsonl")).Expect(2);
        Assert.Contains("in.jsonl, line 2", outcome.Error, StringComparison.Ordinal);
        Assert.Equal([folder.File("in.jsonl")], Directory.EnumerateFiles(folder.Path));
    }
}
