using System.Text.Json;
using Xunit;

namespace Fathom.Cli.Tests;

public sealed class ModelVerbTests
{
    [Fact]
    public void Numbers_of_DeepSeek_V3_are_the_published_ones()
    {
        using JsonDocument json = JsonDocument.Parse(FathomProcess.Run("model", "deepseek-v3", "--json").Expect(0).Output);
        JsonElement root = json.RootElement;
        Assert.Equal(671_026_419_200, root.GetProperty("main_parameters").GetInt64());
        Assert.Equal(37_552_282_624, root.GetProperty("active_parameters").GetInt64());
        Assert.Equal(684_489_845_504, root.GetProperty("file_parameters").GetInt64());
        Assert.Equal(70_272, root.GetProperty("cache_bytes_per_token").GetInt64());
        Assert.Equal(40_016, root.GetProperty("fp8_cache_bytes_per_token").GetInt64());
        JsonElement flops = root.GetProperty("flops");
        Assert.Equal(281.2, flops.GetProperty("training_per_token").GetDouble() / 1e9, 0.05);
        Assert.Equal(250.4, flops.GetProperty("training_per_token_causal").GetDouble() / 1e9, 0.05);
        long parts = root.GetProperty("parts").EnumerateArray()
            .Where(p => p.GetProperty("part").GetString() is not ("main model" or "MTP (1)"))
            .Sum(p => p.GetProperty("parameters").GetInt64());
        Assert.Equal(671_026_419_200, parts);
    }

    [Fact]
    public void The_table_names_the_parts()
    {
        string table = FathomProcess.Run("model", "deepseek-v3").Expect(0).Output;
        foreach (string text in (string[])["routed experts", "671,026,419,200", "MTP (1)", "70,272 bytes per token", "40,016 bytes per token", "250G", "281G"])
            Assert.Contains(text, table, StringComparison.Ordinal);
    }
}
