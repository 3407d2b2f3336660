// A configuration is read back as it was written, and what is wrong with one is named.
using Fathom.Numerics;
using Xunit;

namespace Fathom.Training.Tests;

public sealed class TrainingConfigTests
{
    private const string Good = """ "model": "small", "data": { "path": "text.txt" }, "steps": 5 """;

    [Fact]
    public void What_is_written_is_read_back()
    {
        TrainingConfig config = TrainingConfig.Parse($"{{ {Good} }}", "run.json");
        Assert.Equal(config.ToJson(), TrainingConfig.Parse(config.ToJson(), "run.json").ToJson());
    }

    [Fact]
    public void Moments_and_average_are_read_and_are_off_unless_given()
    {
        TrainingConfig plain = TrainingConfig.Parse($"{{ {Good} }}", "run.json");
        Assert.Null(plain.Optimizer.Moments);
        Assert.Null(plain.Ema);
        TrainingConfig config = TrainingConfig.Parse($$"""{ "optimizer": { "moments": "bf16" }, "ema": { "decay": 0.99, "every": 5 }, {{Good}} }""", "run.json");
        Assert.Equal(DType.BF16, config.Optimizer.Moments);
        Assert.Equal(new EmaConfig { Decay = 0.99, Every = 5 }, config.Ema);
        Assert.Contains("\"moments\": \"bf16\"", config.ToJson(), StringComparison.Ordinal);
        Assert.Equal(config.ToJson(), TrainingConfig.Parse(config.ToJson(), "run.json").ToJson());
        Assert.Equal(new EmaConfig { Decay = 0.999, Every = 1 }, TrainingConfig.Parse($$"""{ "ema": {}, {{Good}} }""", "run.json").Ema);
    }

    [Theory]
    [InlineData("\"modell\": 1,", "unknown field 'modell'")]
    [InlineData("\"optimizer\": { \"beta3\": 1 },", "unknown field 'beta3'")]
    [InlineData("\"optimizer\": { \"beta1\": 1.5 },", "optimizer.beta1")]
    [InlineData("\"optimizer\": { \"moments\": \"f16\" },", "optimizer.moments must be f32 or bf16")]
    [InlineData("\"optimizer\": { \"moments\": \"half\" },", "optimizer.moments")]
    [InlineData("\"optimizer\": { \"moments\": \"bf16\", \"beta2\": 0.999 },", "optimizer.beta2 must be at most 0.996 with moments in bf16")]
    [InlineData("\"ema\": { \"decay\": 1 },", "ema.decay")]
    [InlineData("\"ema\": { \"every\": 0 },", "ema.every")]
    [InlineData("\"ema\": { \"dekay\": 0.9 },", "unknown field 'dekay'")]
    [InlineData("\"sequence_length\": 1,", "sequence_length")]
    [InlineData("\"sequence_length\": \"long\",", "sequence_length")]
    [InlineData("\"learning_rate\": { \"segments\": [] },", "learning_rate")]
    [InlineData("\"keep_checkpoints\": 0,", "keep_checkpoints")]
    [InlineData("\"seed\": ,", "run.json")]
    public void What_is_wrong_is_named(string fields, string named)
    {
        string message = Assert.Throws<FathomException>(() => TrainingConfig.Parse($"{{ {fields} {Good} }}", "run.json")).Message;
        Assert.Contains(named, message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', message);
    }
}
