// Inference takes quantised weights where they lie in the file, with their scales beside them.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class StoredWeightsTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(DType.F8E4M3)]
    [InlineData(DType.HiF8)]
    public void Linear_weights_are_views_of_the_file(DType format)
    {
        using var folder = new TemporaryFolder();
        ModelConverter.Convert(ConversionFixtures.Golden, folder.File("model"), new ConversionOptions(format));
        ModelConfig config = ModelConfig.Load(folder.File("model"));
        using Checkpoint checkpoint = Checkpoint.Open(folder.File("model"));
        using var device = new CpuDevice(1);
        var source = new CheckpointSource(device, checkpoint, config);
        int views = 0;
        foreach (LayoutTensor tensor in TensorLayout.Enumerate(config).Where(t => t.Precision == TensorPrecision.Linear))
        {
            Shape shape = new(tensor.Shape);
            Parameter parameter = source.Get(tensor.Name, shape, ParameterRole.Linear);
            Assert.Equal(shape, parameter.Operand.Shape);
            Assert.Equal(format, parameter.Operand.DType);
            Assert.Equal(checkpoint.Get(tensor.Name).Address, parameter.Operand.Elements.Address);
            Assert.Equal(checkpoint.Get(tensor.Name + "_scale_inv").Address, parameter.Operand.Scales.Address);
            Assert.Equal(ScaleLayout.Block, parameter.Operand.Layout);
            Assert.True(parameter.Value.IsEmpty);

            // What the device makes of the view is what the reader reads.
            Tensor values = HostMemory.Allocate(shape, DType.F32);
            device.Quantization.Dequantize(parameter.Operand, values);
            Assert.Equal(new CheckpointReader(checkpoint, config.QuantizationConfig).ReadF32(tensor.Name), values.AsSpan<float>().ToArray());
            views++;
        }

        output.WriteLine($"{views} {format} weights are views");
        Assert.Equal(72, views);
    }

    [Theory]
    [InlineData("fp8", DType.F8E4M3)]
    [InlineData("hif8", DType.HiF8)]
    public void What_is_exported_after_training_is_what_its_products_used(string recipe, DType format)
    {
        using var folder = new TemporaryFolder();
        using var device = new CpuDevice(2);
        ModelConfig config = ModelConfig.Load(ConversionFixtures.Golden) with { QuantizationConfig = null, Dtype = DType.F32 };
        var parameters = new ParameterSet(device);
        _ = new DeepSeekModel(device, config, parameters);
        parameters.AllocateOperands(Recipe.Named(recipe));
        parameters.Initialize(5, 0.02f);
        parameters.RefreshOperands();
        Directory.CreateDirectory(folder.File("f32"));
        ModelFolder.Write(folder.File("f32"), config, parameters, DType.F32, null);
        ModelConverter.Convert(folder.File("f32"), folder.File("out"), new ConversionOptions(format));
        using Checkpoint exported = Checkpoint.Open(folder.File("out"));
        int compared = 0;
        foreach (Parameter parameter in parameters.All.Where(p => p.Role == ParameterRole.Linear))
        {
            ScaledTensor[] operands = parameter.Experts is { } e ? [.. Enumerable.Range(0, e.Count).Select(i => e[i])] : [parameter.Operand];
            foreach (((string name, _), ScaledTensor operand) in parameter.CheckpointTensors().Zip(operands))
            {
                Assert.Equal(operand.DType, exported.Entry(name).DType);
                Assert.True(operand.Elements.AsSpan<byte>().SequenceEqual(exported.Get(name).AsSpan<byte>()), name);
                Assert.True(operand.Scales.AsSpan<float>().SequenceEqual(exported.Get(name + "_scale_inv").AsSpan<float>()), name);
                compared++;
            }
        }

        output.WriteLine($"codes and scales of {compared} weights of the recipe {recipe} are those of its products");
        Assert.Equal(72, compared);
    }

    [Fact]
    public void Experts_of_different_types_are_expanded()
    {
        using var folder = new TemporaryFolder();
        using Checkpoint golden = Checkpoint.Open(ConversionFixtures.Golden);
        ModelConfig config = ModelConfig.Load(ConversionFixtures.Golden);
        const string One = "model.layers.1.mlp.experts.2.up_proj.weight";
        float[] values = new CheckpointReader(golden, config.QuantizationConfig).ReadF32(One);
        TensorDeclaration[] tensors =
        [
            .. golden.Names.Where(n => n != One + "_scale_inv")
                .Select(n => new TensorDeclaration(n, n == One ? DType.F32 : golden.Entry(n).DType, golden.Entry(n).Shape)),
        ];
        CheckpointWriter.Write(folder.Path, tensors, t =>
        {
            if (t.Name != One) return golden.Get(t.Name);
            Tensor copy = HostMemory.Allocate(new Shape(t.Shape), DType.F32);
            values.CopyTo(copy.AsSpan<float>());
            return copy;
        });
        using Checkpoint mixed = Checkpoint.Open(folder.Path);
        using var device = new CpuDevice(1);
        Shape shape = new(mixed.Entry(One).Shape);
        Parameter experts = new CheckpointSource(device, mixed, config).GetExperts("model.layers.1.mlp.experts.{0}.up_proj.weight", config.NRoutedExperts, shape);
        Assert.Equal(DType.F32, experts.Experts!.DType);
        Assert.Equal(values, experts.Experts[2].Elements.AsSpan<float>().ToArray());
    }
}
