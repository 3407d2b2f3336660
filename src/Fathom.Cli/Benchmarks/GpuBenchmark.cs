// Every operator at DeepSeek-V3's shapes on a GPU: 4,096 tokens, hidden 7,168, 128 heads of 192/128, latents of 1,536 and 512, 256
// experts of width 2,048 of which a token visits 8. Each row is a share of what the same card reaches in the same run.
using Fathom.Compute;
using Fathom.Compute.Cuda;
using Fathom.Compute.Operators;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks;

/// <summary>Speeds of one GPU.</summary>
/// <param name="device">The GPU.</param>
/// <param name="timing">Its clock.</param>
/// <param name="samples">Of each time.</param>
/// <param name="layers">The model whose layers are measured.</param>
/// <param name="tokens">How many tokens they are given. Few are for trying the benchmark (on an emulator): its ceilings are then small products too.</param>
internal sealed class GpuBenchmark(CudaDevice device, CudaTiming timing, int samples, ModelConfig layers, int tokens)
{
    private const int Tokens = 4096, Hidden = 7168, Heads = 128, Nope = 128, Rope = 64, Value = 128, QueryRank = 1536, Rank = 512;
    private const int Experts = 256, TopK = 8, Inner = 2048, Slots = Tokens * TopK, Vocabulary = 129_280, LogitRows = 512;
    private readonly GpuOperands operands = new(device);

    /// <summary>Families by name.</summary>
    public IReadOnlyList<(string Name, Func<IEnumerable<GpuTiming>> Run)> Families =>
    [
        ("linear", Linears),
        ("grouped", Grouped),
        ("attention", Attention),
        ("decode", Decode),
        ("few", FewRows),
        ("quantization", Quantization),
        ("routing", Routing),
        ("elementwise", Elementwise),
        ("layer", () => new LayerBenchmark(device, timing, Ceilings, layers, tokens, samples).Run(Console.Out)),
        ("model", () => new GpuDecode(device, Ceilings, GpuDecode.Slice, samples).Run(4096)),
    ];

    /// <summary>What the card reaches.</summary>
    public GpuCeilings Ceilings { get; } = Measure(device, timing, samples, tokens < LayerBenchmark.LeastTokens);

    private static GpuCeilings Measure(CudaDevice device, CudaTiming timing, int samples, bool small)
    {
        var operands = new GpuOperands(device);
        long copyBytes = small ? 1 << 20 : 4L << 30;
        int size = small ? 256 : 8192;
        Tensor from = operands.Empty(new Shape(copyBytes / 4), DType.F32), to = operands.Empty(new Shape(copyBytes / 4), DType.F32);
        double copy = 2.0 * copyBytes / timing.Seconds(() => device.Reduction.Copy(from, to), samples) / 1e12;
        Tensor a = operands.Normal(new Shape(size, size)), b = operands.Normal(new Shape(size, size)), c = operands.Empty(new Shape(size, size));
        double flops = 2.0 * size * size * size;
        double product = flops / timing.Seconds(() => device.Linear.Forward(a, b, c), samples) / 1e12;
        ScaledTensor x = operands.Quantized(new Shape(size, size), ScaleLayout.RowTile), w = operands.Quantized(new Shape(size, size), ScaleLayout.Block);
        double scaled = flops / timing.Seconds(() => device.Linear.Forward(x, w, c), samples) / 1e12;
        return new GpuCeilings(copy, product, scaled);
    }

    private IEnumerable<GpuTiming> Linears()
    {
        (int N, int K)[] shapes = [(2112, Hidden), (24576, QueryRank), (32768, Rank), (Hidden, 16384), (4096, Hidden), (Hidden, Inner), (18432, Hidden), (Hidden, 18432)];
        foreach (int m in (int[])[Tokens, 128, 64])
        {
            foreach ((int n, int k) in shapes)
            {
                double flops = 2.0 * m * n * k;
                string shape = $"M={m} N={n} K={k}";
                Tensor y = operands.Empty(new Shape(m, n));
                Tensor x = operands.Normal(new Shape(m, k)), w = operands.Normal(new Shape(n, k));
                yield return Product($"linear.forward {shape} bf16", flops, 2.0 * (m * k + n * k + m * n), () => device.Linear.Forward(x, w, y), library: () => device.Library.TryForward(x, w, y));
                ScaledTensor x8 = operands.Quantized(new Shape(m, k), ScaleLayout.RowTile), w8 = operands.Quantized(new Shape(n, k), ScaleLayout.Block);
                yield return Product($"linear.forward {shape} fp8", flops, m * k + n * k + 2.0 * m * n, () => device.Linear.Forward(x8, w8, y), fp8: true, () => device.Library.TryForward(x8, w8, y));
                if (m != Tokens) continue;
                yield return Product($"linear.forward {shape} fp8 +=", flops, m * k + n * k + 4.0 * m * n, () => device.Linear.Forward(x8, w8, y, accumulate: true), fp8: true);
                ScaledTensor dy8 = operands.Quantized(new Shape(m, n), ScaleLayout.RowTile);
                yield return Product($"linear.input_gradient {shape} fp8", flops, m * n + n * k + 2.0 * m * k, () => device.Linear.InputGradient(dy8, w8, x), fp8: true, () => device.Library.TryInputGradient(dy8, w8, x));
                yield return Product($"linear.input_gradient {shape} fp8 +=", flops, m * n + n * k + 4.0 * m * k, () => device.Linear.InputGradient(dy8, w8, x, accumulate: true), fp8: true);
                ScaledTensor dyTokens = operands.OverTokens(new Shape(m, n), n, k), xTokens = operands.OverTokens(new Shape(m, k), n, k);
                Tensor dw = operands.Empty(new Shape(n, k), DType.F32);
                yield return Product($"linear.weight_gradient {shape} fp8", flops, m * n + m * k + 8.0 * n * k, () => device.Linear.WeightGradient(dyTokens, xTokens, dw), fp8: true, () => device.Library.TryWeightGradient(dyTokens, xTokens, dw));
                if (device.Own.TryWeightGradient(dyTokens, xTokens, dw))
                    yield return Product($"linear.weight_gradient {shape} fp8 own", flops, m * n + m * k + 8.0 * n * k, () => device.Own.TryWeightGradient(dyTokens, xTokens, dw), fp8: true, () => device.Library.TryWeightGradient(dyTokens, xTokens, dw));
                Tensor dy = operands.Normal(new Shape(m, n));
                yield return Product($"linear.weight_gradient {shape} bf16", flops, 2.0 * (m * n + m * k) + 8.0 * n * k, () => device.Linear.WeightGradient(dy, x, dw), library: () => device.Library.TryWeightGradient(dy, x, dw));
            }
        }
    }

    private IEnumerable<GpuTiming> Grouped()
    {
        // Loads as a trained router has them: within a factor of two of the mean. Multiples of sixteen rows, so that cuBLASLt, which has
        // nothing ragged, can be measured beside them: one call an expert.
        var random = new Random(1);
        int[] offsets = new int[Experts + 1];
        double[] shares = [.. Enumerable.Range(0, Experts).Select(_ => 0.6 + 0.8 * random.NextDouble())];
        double sum = shares.Sum(), passed = 0;
        for (int e = 0; e < Experts; e++) offsets[e + 1] = 16 * (int)Math.Round((passed += shares[e]) / sum * (Slots / 16));
        Tensor rowOffsets = operands.Integers(new Shape(Experts + 1), i => offsets[i]);
        Func<bool> Each(Func<int, long, long, bool> one) => () => Enumerable.Range(0, Experts).All(e => one(e, offsets[e], offsets[e + 1] - offsets[e]));
        foreach ((int n, int k) in ((int, int)[])[(Inner, Hidden), (Hidden, Inner)])
        {
            double flops = 2.0 * Slots * n * k, weights = (double)Experts * n * k;
            string shape = $"E={Experts} rows={Slots} N={n} K={k}";
            Tensor y = operands.Empty(new Shape(Slots, n));
            {
                var experts = new ExpertWeights(operands.Quantized(new Shape(Experts, n, k), ScaleLayout.Block));
                ScaledTensor x8 = operands.Quantized(new Shape(Slots, k), ScaleLayout.RowTile), dy8 = operands.Quantized(new Shape(Slots, n), ScaleLayout.RowTile);
                Tensor dx = operands.Empty(new Shape(Slots, k));
                yield return Product($"linear.grouped_forward {shape} fp8", flops, Slots * (k + 2.0 * n) + weights, () => device.Linear.GroupedForward(x8, rowOffsets, experts, y), fp8: true,
                    Each((e, start, count) => device.Library.TryForward(x8.Slice(start, count), experts[e], y.Slice(start, count))));
                foreach (bool added in (bool[])[false, true])
                {
                    yield return Product(
                        $"linear.grouped_input_gradient {shape} fp8{(added ? " +=" : "")}", flops, Slots * (n + (added ? 4.0 : 2.0) * k) + weights,
                        () => device.Linear.GroupedInputGradient(dy8, rowOffsets, experts, dx, added), fp8: true);
                }
            }

            {
                ScaledTensor x8 = operands.OverTokens(new Shape(Slots, k), n, k, rowOffsets), dy8 = operands.OverTokens(new Shape(Slots, n), n, k, rowOffsets);
                Tensor dw = operands.Empty(new Shape(Experts, n, k), DType.F32);
                foreach (bool added in (bool[])[false, true])
                {
                    yield return Product(
                        $"linear.grouped_weight_gradient {shape} fp8{(added ? " +=" : "")}", flops, Slots * ((double)k + n) + (added ? 8 : 4) * weights,
                        () => device.Linear.GroupedWeightGradient(dy8, x8, rowOffsets, dw, added), fp8: true);
                }
            }

            {
                var experts = new ExpertWeights(operands.Normal(new Shape(Experts, n, k)));
                Tensor x = operands.Normal(new Shape(Slots, k));
                yield return Product($"linear.grouped_forward {shape} bf16", flops, 2.0 * (Slots * ((double)k + n) + weights), () => device.Linear.GroupedForward(x, rowOffsets, experts, y),
                    library: Each((e, start, count) => device.Library.TryForward(x.Slice(start, count), experts[e], y.Slice(start, count))));
                Tensor dy = operands.Normal(new Shape(Slots, n));
                foreach (bool added in (bool[])[false, true])
                {
                    yield return Product(
                        $"linear.grouped_input_gradient {shape} bf16{(added ? " +=" : "")}", flops, 2.0 * (Slots * (n + (added ? 2.0 : 1.0) * k) + weights),
                        () => device.Linear.GroupedInputGradient(dy, rowOffsets, experts, x, added));
                }
            }
        }
    }

    private IEnumerable<GpuTiming> Attention()
    {
        float scale = 1 / MathF.Sqrt(Nope + Rope);
        Tensor q = operands.Normal(new Shape(Tokens, Heads, Nope + Rope)), kv = operands.Normal(new Shape(Tokens, Heads, Nope + Value)), rope = operands.Normal(new Shape(Tokens, Rope));
        Tensor output = operands.Empty(new Shape(Tokens, Heads, Value)), lse = operands.Empty(new Shape(1, Heads, Tokens), DType.F32);
        double pairs = (double)Heads * Tokens * (Tokens + 1) / 2;
        yield return Product(
            $"attention.causal_forward T={Tokens} H={Heads} 192/128 bf16", 2 * pairs * (Nope + Rope + Value), 2.0 * Tokens * Heads * (Nope + Rope + Nope + 2 * Value),
            () => device.Attention.CausalForward(q, kv, rope, scale, 1, output, lse));
        Tensor dout = operands.Normal(new Shape(Tokens, Heads, Value)), dq = operands.Empty(q.Shape), dkv = operands.Empty(kv.Shape), drope = operands.Empty(rope.Shape);
        yield return Product(
            $"attention.causal_backward T={Tokens} H={Heads} 192/128 bf16", 2 * pairs * (3 * (Nope + Rope) + 2 * Value), 2.0 * Tokens * Heads * (2 * (Nope + Rope) + 2 * (Nope + Value) + 2 * Value),
            () => device.Attention.CausalBackward(q, kv, rope, output, lse, dout, scale, 1, dq, dkv, drope));
    }

    private IEnumerable<GpuTiming> Decode()
    {
        const int BlockSize = 64;
        float scale = 1 / MathF.Sqrt(Nope + Rope);
        ScaledTensor kvB = operands.Quantized(new Shape(Heads * (Nope + Value), Rank), ScaleLayout.Block);
        foreach ((int batch, int length) in ((int, int)[])[(1, 4096), (32, 4096), (128, 4096), (16, 32768)])
        {
            int columns = length / BlockSize;
            Tensor cache = operands.Normal(new Shape((long)batch * columns, BlockSize, Rank + Rope)), q = operands.Normal(new Shape(batch, Heads, Nope + Rope));
            Tensor tables = operands.Integers(new Shape(batch, columns), i => (int)i), lengths = operands.Integers(new Shape(batch), _ => length);
            Tensor output = operands.Empty(new Shape(batch, Heads, Value));
            yield return Product(
                $"attention.latent_decode B={batch} S={length} H={Heads} bf16 cache", 2.0 * batch * length * Heads * (2 * Rank + Rope),
                2.0 * batch * length * (Rank + Rope) + kvB.Elements.Bytes, () => device.Attention.LatentDecode(q, kvB, cache, tables, lengths, scale, output));
        }
    }

    /// <summary>What decoding multiplies: BF16 rows, few of them, by weights as an FP8 checkpoint has them.</summary>
    private IEnumerable<GpuTiming> FewRows()
    {
        foreach (int m in (int[])[1, 32, 128])
        {
            foreach ((int n, int k) in ((int, int)[])[(QueryRank, Hidden), (24576, QueryRank), (576, Hidden), (Hidden, 16384), (18432, Hidden), (Hidden, 18432)])
            {
                Tensor x = operands.Normal(new Shape(m, k)), y = operands.Empty(new Shape(m, n));
                ScaledTensor w = operands.Quantized(new Shape(n, k), ScaleLayout.Block);
                yield return Product($"linear.forward M={m} N={n} K={k} bf16 x fp8", 2.0 * m * n * k, 2.0 * m * (k + n) + w.Bytes, () => device.Linear.Forward(x, w, y));
                yield return Product($"linear.forward M={m} N={n} K={k} bf16 x fp8, by row", 2.0 * m * n * k, 2.0 * m * (k + n) + w.Bytes, () => device.LinearByRow.Forward(x, w, y));
            }

            Tensor head = operands.Normal(new Shape(Vocabulary, Hidden)), hidden = operands.Normal(new Shape(m, Hidden)), logits = operands.Empty(new Shape(m, Vocabulary), DType.F32);
            yield return Product($"linear.forward M={m} N={Vocabulary} K={Hidden} bf16", 2.0 * m * Vocabulary * Hidden, 2.0 * head.Elements, () => device.Linear.Forward(hidden, head, logits));
            int rows = m * TopK, used = Math.Min(rows, Experts);
            Tensor offsets = operands.Integers(new Shape(Experts + 1), e => (int)(e < Experts - used ? 0 : (e - (Experts - used)) * (long)rows / used));
            foreach ((int n, int k) in ((int, int)[])[(Inner, Hidden), (Hidden, Inner)])
            {
                var experts = new ExpertWeights(operands.Quantized(new Shape(Experts, n, k), ScaleLayout.Block));
                Tensor x = operands.Normal(new Shape(rows, k)), y = operands.Empty(new Shape(rows, n));
                yield return Product(
                    $"linear.grouped_forward rows={rows} experts={used} N={n} K={k} bf16 x fp8", 2.0 * rows * n * k, 2.0 * rows * (k + n) + (double)used * experts[0].Bytes,
                    () => device.Linear.GroupedForward(x, offsets, experts, y));
                yield return Product(
                    $"linear.grouped_forward rows={rows} experts={used} N={n} K={k} bf16 x fp8, by row", 2.0 * rows * n * k, 2.0 * rows * (k + n) + (double)used * experts[0].Bytes,
                    () => device.LinearByRow.GroupedForward(x, offsets, experts, y));
            }

            Tensor rules = device.Allocate(new Shape(m, SamplingRule.Bytes), DType.U8, MemoryKind.Workspace), tokens = operands.Empty(new Shape(m), DType.I32);
            yield return Traffic($"sampling.choose M={m} V={Vocabulary} greedy", 4.0 * m * Vocabulary, () => device.Sampling.Choose(logits, default, rules, tokens));
            SamplingRule[] nucleus = [.. Enumerable.Repeat(new SamplingRule(0.6f, 0.95f, 0, 0, 0.5), m)];
            Tensor host = HostMemory.Allocate(rules.Shape, DType.U8);
            System.Runtime.InteropServices.MemoryMarshal.AsBytes(nucleus.AsSpan()).CopyTo(host.AsSpan<byte>());
            device.Upload(host, rules);
            yield return Traffic($"sampling.choose M={m} V={Vocabulary} top-p", 4.0 * m * Vocabulary, () => device.Sampling.Choose(logits, default, rules, tokens));
        }
    }

    private IEnumerable<GpuTiming> Quantization()
    {
        foreach ((int rows, int columns) in ((int, int)[])[(Tokens, Hidden), (Slots, Inner), (Slots, Hidden)])
        {
            Tensor x = operands.Normal(new Shape(rows, columns)), back = operands.Empty(x.Shape);
            long tileRows = ScaledTensor.Tiles(rows);
            var turned = new ScaledTensor(
                operands.Empty(new Shape(columns, tileRows * ScaledTensor.TileSize), DType.F8E4M3), operands.Empty(new Shape(tileRows, columns), DType.F32), ScaleLayout.TransposedColumnTile);
            ScaledTensor codes = operands.Quantized(x.Shape, ScaleLayout.RowTile);
            if (device.Traits.TokenLayout(DType.F8E4M3, DType.F32, rows, columns) == ScaleLayout.TransposedColumnTile)
            {
                yield return Traffic($"quantization.transposed {rows} x {columns} of bf16", 3.0 * rows * columns, () => device.Quantization.QuantizeTransposed(x, turned));
                yield return Traffic($"quantization.transposed {rows} x {columns} of e4m3", 2.0 * rows * columns, () => device.Quantization.QuantizeTransposed(codes, turned));
                yield return Traffic($"quantization.both_ways {rows} x {columns}", 4.0 * rows * columns, () => device.Quantization.QuantizeBothWays(x, new GradientTarget(new(codes), new(turned))));
            }

            foreach (ScaleLayout layout in (ScaleLayout[])[ScaleLayout.RowTile, ScaleLayout.ColumnTile])
            {
                var q = new ScaledTensor(operands.Empty(x.Shape, DType.F8E4M3), operands.Empty(ScaledTensor.ScaleShape(x.Shape, layout), DType.F32), layout);
                yield return Traffic($"quantization.quantize {rows} x {columns} {layout}", 3.0 * rows * columns, () => device.Quantization.Quantize(x, q));
                yield return Traffic($"quantization.dequantize {rows} x {columns} {layout}", 3.0 * rows * columns, () => device.Quantization.Dequantize(q, back));
            }
        }

        var values = new Shape(Tokens, Heads * Value);
        Tensor attended = operands.Normal(values);
        var kept = new ScaledTensor(
            operands.Empty(ScaledTensor.ElementShape(values, DType.E5M6Pair), DType.E5M6Pair), operands.Empty(ScaledTensor.ScaleShape(values, ScaleLayout.RowTile), DType.F8E8M0), ScaleLayout.RowTile);
        ScaledTensor operand = operands.Quantized(values, ScaleLayout.RowTile);
        yield return Traffic(
            $"quantization.quantize_twice {Tokens} x {values.Columns} E5M6, E4M3", 4.5 * values.Elements,
            () => device.Quantization.QuantizeTwice(attended, new CodesTarget(kept), new CodesTarget(operand)));
    }

    private IEnumerable<GpuTiming> Routing()
    {
        var options = new RoutingOptions(Experts, TopK, 8, 4, ScoringFunction.Sigmoid, TopKMethod.NoAuxTc, true, 2.5f);
        Tensor logits = operands.Normal(new Shape(Tokens, Experts), DType.F32), bias = operands.Empty(new Shape(Experts), DType.F32), scores = operands.Empty(logits.Shape, DType.F32);
        Tensor chosen = operands.Empty(new Shape(Tokens, TopK), DType.I32), gates = operands.Empty(chosen.Shape, DType.F32), load = operands.Empty(new Shape(Experts), DType.I64);
        yield return Traffic($"routing.choose M={Tokens} E={Experts}", 8.0 * Tokens * Experts, () => device.Routing.Choose(logits, bias, options, scores, chosen, gates, load));
        Tensor offsets = operands.Empty(new Shape(Experts + 1), DType.I32), slotOfRow = operands.Empty(new Shape(Slots), DType.I32), rowOfSlot = operands.Empty(chosen.Shape, DType.I32);
        yield return Traffic($"routing.sort M={Tokens} K={TopK}", 12.0 * Slots, () => device.Routing.Sort(chosen, offsets, slotOfRow, rowOfSlot));
        Tensor x = operands.Normal(new Shape(Tokens, Hidden)), rows = operands.Empty(new Shape(Slots, Hidden));
        yield return Traffic($"routing.dispatch {Slots} x {Hidden} bf16", 4.0 * Slots * Hidden, () => device.Routing.Dispatch(x, slotOfRow, TopK, rows));
        yield return Traffic($"routing.combine {Slots} x {Hidden} bf16", 2.0 * (Slots + Tokens) * Hidden, () => device.Routing.Combine(rows, rowOfSlot, x));
    }

    private IEnumerable<GpuTiming> Elementwise()
    {
        Tensor x = operands.Normal(new Shape(Tokens, Hidden)), y = operands.Empty(x.Shape), dy = operands.Normal(x.Shape), weight = operands.Normal(new Shape(Hidden), DType.F32);
        Tensor rstd = operands.Empty(new Shape(Tokens), DType.F32), dweight = operands.Empty(new Shape(Hidden), DType.F32);
        double one = 2.0 * Tokens * Hidden;
        yield return Traffic($"norm.forward {Tokens} x {Hidden} bf16", 2 * one, () => device.Norm.RmsNorm(x, weight, 1e-6f, y, rstd));
        ScaledTensor codes = operands.Quantized(x.Shape, ScaleLayout.RowTile);
        yield return Traffic($"norm.forward_quantized {Tokens} x {Hidden} bf16", 1.5 * one, () => device.Norm.RmsNormQuantized(x, weight, 1e-6f, new CodesTarget(codes), rstd));
        yield return Traffic($"norm.input_gradient {Tokens} x {Hidden} bf16", 3 * one, () => device.Norm.RmsNormInputGradient(dy, x, weight, rstd, y));
        yield return Traffic($"norm.weight_gradient {Tokens} x {Hidden} bf16", 2 * one, () => device.Norm.RmsNormWeightGradient(dy, x, rstd, dweight));
        yield return Traffic($"reduction.add {Tokens} x {Hidden} bf16", 3 * one, () => device.Reduction.Add(x, dy, y));
        Tensor gate = operands.Normal(new Shape(Slots, Inner)), up = operands.Normal(gate.Shape), hidden = operands.Empty(gate.Shape), scale = operands.Normal(new Shape(Slots), DType.F32);
        Tensor dgate = operands.Empty(gate.Shape), dup = operands.Empty(gate.Shape), dscale = operands.Empty(scale.Shape, DType.F32);
        yield return Traffic($"activation.swiglu {Slots} x {Inner} bf16", 6.0 * gate.Elements, () => device.Activation.SwiGlu(gate, up, scale, hidden));
        yield return Traffic($"activation.swiglu_gradient {Slots} x {Inner} bf16", 10.0 * gate.Elements, () => device.Activation.SwiGluGradient(hidden, gate, up, scale, dgate, dup, dscale));
        if (device.Traits.TokenLayout(DType.F8E4M3, DType.F32, Hidden, Inner) == ScaleLayout.TransposedColumnTile)
        {
            ScaledTensor gateCodes = operands.Quantized(gate.Shape, ScaleLayout.RowTile), upCodes = operands.Quantized(gate.Shape, ScaleLayout.RowTile);
            GradientTarget ofGate = Target(gate.Shape), ofUp = Target(gate.Shape), ofHidden = Target(gate.Shape);
            yield return Traffic(
                $"activation.swiglu_gradient_operands {Slots} x {Inner}", 9.0 * gate.Elements,
                () => device.Activation.SwiGluGradientOperands(hidden, gateCodes, upCodes, ofGate, ofUp, ofHidden.OverRows, 1e-30f));
        }

        Tensor queries = operands.Normal(new Shape(Tokens, Heads, Nope + Rope)), cos = operands.Normal(new Shape(Tokens, Rope / 2), DType.F32), positions = operands.Integers(new Shape(Tokens), i => (int)i);
        yield return Traffic($"rotary.rotate {Tokens} x {Heads} heads bf16", 4.0 * Tokens * Heads * Rope, () => device.Rotary.Rotate(queries, Nope, cos, cos, positions));
        Tensor logits = operands.Normal(new Shape(LogitRows, Vocabulary), DType.F32), targets = operands.Integers(new Shape(LogitRows), i => (int)(i * 251)), losses = operands.Empty(new Shape(LogitRows), DType.F32);
        yield return Traffic($"loss.cross_entropy {LogitRows} x {Vocabulary} with gradient", 12.0 * logits.Elements, () => device.Loss.CrossEntropy(logits, targets, 1e-3f, losses, default));
        const long Parameters = 256L << 20;
        Tensor w = operands.Normal(new Shape(Parameters), DType.F32), g = operands.Normal(w.Shape, DType.F32), m = operands.Empty(w.Shape), v = operands.Empty(w.Shape);
        yield return Traffic("optimizer.adamw 268 M parameters, bf16 moments", 20.0 * Parameters, () => device.Optimizer.AdamW(w, g, m, v, new AdamWStep(1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 10, 1)));
        yield return Traffic("reduction.sum_of_squares 268 M", 4.0 * Parameters, () => device.Reduction.SumOfSquares(g));
    }

    private GradientTarget Target(Shape shape) => new(new(operands.Quantized(shape, ScaleLayout.RowTile)), new(operands.OverTokens(shape, shape.Columns, shape.Columns)));

    private GpuTiming Product(string name, double flops, double bytes, Action work, bool fp8 = false, Func<bool>? library = null)
    {
        double seconds = timing.Seconds(work, samples);
        double? ofLibrary = library is not null && library() ? timing.Seconds(() => library(), samples) : null;
        double rate = fp8 && Ceilings.Fp8Teraflops > 0 ? Ceilings.Fp8Teraflops : Ceilings.BFloat16Teraflops;
        double share = Math.Max(flops / 1e12 / rate, bytes / 1e12 / Ceilings.CopyTerabytes) / seconds;
        return new GpuTiming(name, seconds, flops, bytes, share, ofLibrary);
    }

    private GpuTiming Traffic(string name, double bytes, Action work)
    {
        double seconds = timing.Seconds(work, samples);
        return new GpuTiming(name, seconds, 0, bytes, bytes / 1e12 / Ceilings.CopyTerabytes / seconds, null);
    }
}
