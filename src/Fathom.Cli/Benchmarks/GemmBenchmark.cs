// FP32 products of a training step: the linear layers of the preset `small` at several numbers of tokens, in the three roles of a
// step, and the experts' products as one grouped call. A row is the FLOPs of all shapes over the time of all of them.
// Then the forward products of inference over BF16 weights, where the processor multiplies BF16 numbers.
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks;

/// <summary>Shares of the multiply-add peak of the products in a training step.</summary>
internal static class GemmBenchmark
{
    private static readonly Goal Share = Goal.Share(0.8);

    /// <summary>A row a role and number of tokens.</summary>
    public static IEnumerable<BenchmarkRow> Run(Sampling sampling)
    {
        ModelConfig model = ModelPresets.Get("small");
        foreach (int tokens in (int[])(sampling.Quick ? [2048] : [512, 2048, 4096]))
        {
            List<Product> products = [.. Shapes(model).Select(s => new Product(sampling.Device, tokens, s.Outputs, s.Inputs))];
            var head = new Product(sampling.Device, tokens, model.VocabSize, model.HiddenSize);
            var experts = new GroupedProduct(sampling.Device, model, tokens);
            foreach (Role role in Enum.GetValues<Role>())
            {
                yield return Row($"layers, {Text(role)}, M = {tokens}", products.Sum(p => p.Flops), () => products.ForEach(p => p.Run(role)));
                yield return Row($"head, {Text(role)}, M = {tokens}", head.Flops, () => head.Run(role));
                yield return Row($"experts, {Text(role)}, M = {tokens}", experts.Flops, () => experts.Run(role));
            }
        }

        if (sampling.Device.LinearInBFloat16 is null) yield break;
        foreach (int tokens in (int[])[32, 512])
        {
            List<NarrowProduct> products = [.. Shapes(model).Append((Outputs: model.VocabSize, Inputs: model.HiddenSize)).Select(s => new NarrowProduct(sampling.Device, tokens, s.Outputs, s.Inputs))];
            yield return sampling.ArithmeticRate(
                $"BF16 products, layers and head, M = {tokens}", products.Sum(p => p.Flops), null, () => products.ForEach(p => p.Run()), Yardstick.BFloat16Peak);
        }

        BenchmarkRow Row(string name, double flops, Action work) => sampling.ArithmeticRate("GEMM " + name, flops, Share, work);
    }

    private static string Text(Role role) => role switch
    {
        Role.Forward => "forward",
        Role.InputGradient => "input gradient",
        _ => "weight gradient",
    };

    private static IEnumerable<(int Outputs, int Inputs)> Shapes(ModelConfig model)
    {
        yield return (model.QLoraRank, model.HiddenSize);
        yield return (model.NumAttentionHeads * model.QkHeadDim, model.QLoraRank);
        yield return (model.KeyValueCacheWidth, model.HiddenSize);
        yield return (model.NumAttentionHeads * (model.QkNopeHeadDim + model.VHeadDim), model.KvLoraRank);
        yield return (model.HiddenSize, model.NumAttentionHeads * model.VHeadDim);
        yield return (model.IntermediateSize, model.HiddenSize);
        yield return (model.HiddenSize, model.IntermediateSize);
        yield return (model.NSharedExperts * model.MoeIntermediateSize, model.HiddenSize);
        yield return (model.HiddenSize, model.NSharedExperts * model.MoeIntermediateSize);
    }

    private enum Role
    {
        Forward,
        InputGradient,
        WeightGradient,
    }

    private static Tensor Random(Device device, Shape shape, string name)
    {
        Tensor tensor = device.Allocate(shape, DType.F32, MemoryKind.Workspace);
        new Philox(1, name).FillNormal(tensor.AsSpan<float>(), 0, 0.1f);
        return tensor;
    }

    private sealed class Product(Device device, int tokens, int outputs, int inputs)
    {
        private readonly Tensor x = Random(device, new Shape(tokens, inputs), "x"), y = Random(device, new Shape(tokens, outputs), "y");
        private readonly Tensor weight = Random(device, new Shape(outputs, inputs), "w");
        private readonly Tensor gradient = device.Allocate(new Shape(outputs, inputs), DType.F32, MemoryKind.Gradients);

        public double Flops => 2.0 * tokens * outputs * inputs;

        public void Run(Role role)
        {
            if (role == Role.Forward) device.Linear.Forward(x, weight, y);
            else if (role == Role.InputGradient) device.Linear.InputGradient(y, weight, x);
            else device.Linear.WeightGradient(y, x, gradient, accumulate: false);
        }
    }

    // As inference multiplies: weights in BF16, activations rounded on the way.
    private sealed class NarrowProduct(CpuDevice device, int tokens, int outputs, int inputs)
    {
        private readonly Tensor x = Random(device, new Shape(tokens, inputs), "x"), y = Random(device, new Shape(tokens, outputs), "y");
        private readonly Tensor weight = Narrow(device, Random(device, new Shape(outputs, inputs), "w"));

        public double Flops => 2.0 * tokens * outputs * inputs;

        public void Run() => device.LinearInBFloat16!.Forward(x, weight, y);

        private static Tensor Narrow(CpuDevice device, Tensor values)
        {
            Tensor narrow = device.Allocate(values.Shape, DType.BF16, MemoryKind.Workspace);
            device.Quantization.Quantize(values, narrow, default);
            return narrow;
        }
    }

    // The gate product of all experts. Loads differ as they do in a balanced run: by half around the mean.
    private sealed class GroupedProduct
    {
        private readonly Device device;
        private readonly Tensor x, y, offsets, gradient;
        private readonly ExpertWeights weights;

        public GroupedProduct(Device device, ModelConfig model, int tokens)
        {
            this.device = device;
            int experts = model.NRoutedExperts, rows = tokens * model.NumExpertsPerTok, outputs = model.MoeIntermediateSize, inputs = model.HiddenSize;
            x = Random(device, new Shape(rows, inputs), "x");
            y = Random(device, new Shape(rows, outputs), "y");
            weights = new ExpertWeights(Random(device, new Shape(experts, outputs, inputs), "w"));
            gradient = device.Allocate(new Shape(experts, outputs, inputs), DType.F32, MemoryKind.Gradients);
            offsets = device.Allocate(new Shape(experts + 1), DType.I32, MemoryKind.Inputs);
            for (int e = 1; e < experts; e++)
            {
                double uneven = Math.Sin(e) * 0.5 / experts;
                offsets.AsSpan<int>()[e] = (int)(rows * ((double)e / experts + uneven));
            }

            offsets.AsSpan<int>()[experts] = rows;
            Flops = 2.0 * rows * outputs * inputs;
        }

        public double Flops { get; }

        public void Run(Role role)
        {
            if (role == Role.Forward) device.Linear.GroupedForward(x, offsets, weights, y);
            else if (role == Role.InputGradient) device.Linear.GroupedInputGradient(y, offsets, weights, x);
            else device.Linear.GroupedWeightGradient(y, x, offsets, gradient);
        }
    }
}
