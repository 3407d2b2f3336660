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

    [Theory]
    [InlineData("\"modell\": 1,", "unknown field 'modell'")]
    [InlineData("\"optimizer\": { \"beta3\": 1 },", "unknown field 'beta3'")]
    [InlineData("\"optimizer\": { \"beta1\": 1.5 },", "optimizer.beta1")]
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
