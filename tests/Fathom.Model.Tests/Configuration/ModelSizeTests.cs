// The published numbers of DeepSeek-V3 (report; README_WEIGHTS; "Insights", table 1), reproduced from its configuration, and the
// counts checked against the sum over every tensor of the layout.
using Fathom.Numerics;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class ModelSizeTests(ITestOutputHelper output)
{
    [Fact]
    public void DeepSeek_V3_has_its_published_sizes()
    {
        var size = new ModelSize(ModelPresets.Get("deepseek-v3"));
        foreach (SizeRow row in size.Rows()) output.WriteLine($"{row.Part,-16}{row.Parameters,20:N0}{row.Active,20:N0}");
        output.WriteLine($"in the file     {size.FileParameters,20:N0}");
        Assert.Equal(671_026_419_200, size.MainParameters);
        Assert.Equal(58 * 256, size.Rows().Single(r => r.Part == "routing bias").Parameters);
        Assert.Equal(684_489_845_504, size.FileParameters);
        Assert.Equal(11.61, size.MtpParameters / 1e9, 2);
        Assert.Equal(37.55, size.ActiveParameters / 1e9, 2);
        Assert.Equal(36.63, size.ActiveParametersWithoutEmbedding / 1e9, 2);
        Assert.Equal(70_272, size.CacheBytesPerToken());
        Assert.Equal(61 * 656, size.CacheBytesPerToken(DType.F8E4M3));
    }

    [Fact]
    public void DeepSeek_V3_has_its_published_arithmetic()
    {
        var size = new ModelSize(ModelPresets.Get("deepseek-v3"));
        double causal = size.TrainingFlopsPerToken(4096) / 1e9, full = size.TrainingFlopsPerToken(4096, causal: false) / 1e9;
        output.WriteLine($"training FLOPs per token at 4096: {causal:F2} G causal, {full:F2} G in full");
        Assert.Equal(250.5, causal, 0.06);
        Assert.Equal(281.2, full, 0.06);

        // At one token all of attention is that token; decode with its absorbed attention differs only there.
        double attention = 2.0 * 61 * 128 * (192 + 128);
        Assert.Equal(size.ForwardFlopsPerToken(1, causal: false) - attention + 2.0 * 61 * 128 * (1024 + 64), size.DecodeFlops(1), 1.0);
        Assert.Equal(size.ForwardFlopsPerToken(1), size.PrefillFlops(1), 1.0);
    }

    [Theory]
    [InlineData("deepseek-v2", 235.7, 21.4)]
    [InlineData("deepseek-v2-lite", 15.7, 2.7)]
    public void DeepSeek_V2_has_its_published_sizes(string preset, double total, double active)
    {
        // 236 B / 21 B and 15.7 B / 2.4 B in the papers; V2-Lite's 2.4 B leave out the 0.2 B of the embedding (and round down).
        var size = new ModelSize(ModelPresets.Get(preset));
        output.WriteLine($"{preset}: {size.MainParameters:N0}, active {size.ActiveParameters:N0}");
        Assert.Equal(total, size.MainParameters / 1e9, 0.06);
        Assert.Equal(active, size.ActiveParameters / 1e9, 0.06);
    }

    public static TheoryData<string> Presets => [.. ModelPresets.Names];

    [Theory]
    [MemberData(nameof(Presets))]
    public void Counts_equal_the_sum_over_the_layout(string preset)
    {
        ModelConfig config = ModelPresets.Get(preset);
        var size = new ModelSize(config);
        long all = 0, main = 0, names = 0;
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(config))
        {
            names++;
            all += tensor.Elements;
            if (tensor.Layer < config.NumHiddenLayers) main += tensor.Elements;
        }

        output.WriteLine($"{preset}: {names:N0} tensors, {all:N0} elements; cache {size.CacheBytesPerToken():N0} B/token");
        Assert.Equal(size.MainParameters, main);
        Assert.Equal(size.FileParameters, all);
        Assert.Equal(size.LayerParameters(0), TensorLayout.DecoderLayer(config, 0).Sum(t => t.Elements));
    }

    [Fact]
    public void The_layout_of_DeepSeek_V3_has_the_published_number_of_tensors()
    {
        // 91,991 tensors in the files: 46,183 weights and a scale for each of the 45,808 FP8 ones.
        LayoutTensor[] layout = [.. TensorLayout.Enumerate(ModelPresets.Get("deepseek-v3"))];
        Assert.Equal(46_183, layout.Length);
        Assert.Equal(45_808, layout.Count(t => t.Precision == TensorPrecision.Linear));
        Assert.Equal(layout.Length, layout.Select(t => t.Name).Distinct().Count());
    }

    [Fact]
    public void Small_presets_are_small()
    {
        foreach (string name in new[] { "small", "quickstart", "nano" })
        {
            var size = new ModelSize(ModelPresets.Get(name));
            output.WriteLine($"{name}: {size.MainParameters:N0} parameters, {size.ActiveParameters:N0} active, MTP {size.MtpParameters:N0}");
            Assert.InRange(size.ActiveParameters, 1, 20_000_000);
        }

        Assert.Throws<FathomException>(() => ModelPresets.Get("deepseek-v9"));
    }
}
