using System.Text.Json.Nodes;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Studies.Tests;

public sealed class AccumulationStudyTests(ITestOutputHelper output)
{
    [Fact]
    public void Errors_without_promotion_grow_with_the_depth_and_promotion_bounds_them()
    {
        using var device = new CpuDevice(2);
        AccumulationError[] errors = [.. AccumulationStudy.Run(device, [128, 4096], size: 48)];
        var report = new AccumulationReport(errors, 48, 1);
        foreach (string line in report.Lines()) output.WriteLine(line);
        foreach (OperandKind kind in Enum.GetValues<OperandKind>())
        {
            double shallow = Largest(kind, Accumulation.HopperWithoutPromotion, 128), deep = Largest(kind, Accumulation.HopperWithoutPromotion, 4096);
            Assert.True(deep > 2 * shallow, $"{kind}: {shallow} to {deep}");
            Assert.True(Largest(kind, Accumulation.Hopper(), 4096) < deep / 4, $"{kind}: promoted every 128");
            Assert.True(Largest(kind, Accumulation.Hopper(32), 4096) < Largest(kind, Accumulation.Hopper(), 4096), $"{kind}: promoted every 32");
            Assert.True(Largest(kind, Accumulation.Fp32, 4096) < 1e-5, $"{kind}: FP32");
        }

        // Without tiles, depths within one promotion are the same sums however often is promoted.
        Assert.Equal(Largest(OperandKind.Normal, Accumulation.HopperWithoutPromotion, 128), Largest(OperandKind.Normal, Accumulation.Hopper(), 128));

        using var folder = new TemporaryFolder();
        string page = report.Write(folder.Path, "fathom study accumulation");
        Assert.Contains("<svg", File.ReadAllText(page), StringComparison.Ordinal);
        JsonObject json = JsonNode.Parse(File.ReadAllText(folder.File("accumulation.json")))!.AsObject();
        Assert.Equal(errors.Length, json["errors"]!.AsArray().Count);
        Assert.Equal(errors[0].Largest, json["errors"]![0]!["largest"]!.GetValue<double>());

        double Largest(OperandKind kind, Accumulation accumulation, int depth) =>
            errors.Single(e => e.Operands == kind && e.Accumulation == accumulation && e.Depth == depth).Largest;
    }

    [Theory]
    [InlineData(0, 8, "--k 0")]
    [InlineData(64, 0, "--size 0")]
    public void Sizes_that_make_no_product_are_refused(int depth, int size, string message)
    {
        using var device = new CpuDevice(1);
        string text = Assert.Throws<FathomException>(() => AccumulationStudy.Run(device, [depth], size).ToArray()).Message;
        Assert.Contains(message, text, StringComparison.Ordinal);
    }
}
