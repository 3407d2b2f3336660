// One expert layer and one dense layer of a model, forward and backward, on a GPU: the whole without any mark inside of it, then the
// same once more with a mark before and after every operator, so that the parts can be compared with the whole. Times are those of a
// step's first micro-batch: gradients are stored, weights have their operands already; what the first backward pass after a change of
// the weights costs in addition (transposed codes) stands in a row of its own. The whole is replayed as training replays its passes;
// a further row has the time with every operator asked for anew.
using Fathom.Compute;
using Fathom.Compute.Cuda;
using Fathom.Model;
using Fathom.Numerics;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Benchmarks;

/// <summary>Layers of a model on one GPU.</summary>
/// <param name="device">The GPU.</param>
/// <param name="timing">Its clock.</param>
/// <param name="ceilings">What the card reaches in this run.</param>
/// <param name="config">The model; DeepSeek-V3 where yardsticks are to be printed.</param>
/// <param name="tokens">Of the one sequence.</param>
/// <param name="samples">Of each time.</param>
internal sealed class LayerBenchmark(CudaDevice device, CudaTiming timing, GpuCeilings ceilings, ModelConfig config, int tokens, int samples)
{
    /// <summary>Tokens below which a run is there to try the benchmark, not to measure.</summary>
    public const int LeastTokens = 1024;

    private const int LeastSamples = 10, Hindrances = 6;

    // Two milliseconds: a graph is submitted as a whole, and in training while the pass before it runs.
    private const int Flushes = 32;
    private readonly int passesWithMarks = tokens < LeastTokens ? 1 : 5;

    // Milliseconds on the same card: transformers in BF16 with its grouped products, and what Fathom is to reach in fp8.
    private static readonly (string Layer, string Pass, double Transformers, double? Goal)[] Yardsticks =
    [
        ("expert", "forward", 21.1, 15), ("expert", "forward + backward", 63.6, 45), ("dense", "forward + backward", 35.0, 20),
    ];

    // With queries, keys, values and norms kept, as frameworks do that have memory to spare, and computed again, as the report does.
    private static readonly (string Name, Recipe Recipe)[] Recipes =
    [
        ("fp8", Recipe.Fp8), ("fp8, attention kept", Recipe.Fp8 with { RecomputeNorms = false, RecomputeUpProjections = false }), ("bf16", Recipe.Bf16),
    ];

    /// <summary>All layers and recipes.</summary>
    /// <param name="output">Where breakdowns go.</param>
    public IEnumerable<GpuTiming> Run(TextWriter output)
    {
        foreach ((string kind, int layer) in Layers())
        {
            foreach ((string name, Recipe recipe) in Recipes)
            {
                foreach (GpuTiming row in Measure(kind, layer, name, recipe, output)) yield return row;
                GC.Collect(); // The next layer needs the memory of this one.
                GC.WaitForPendingFinalizers();
            }
        }
    }

    private IEnumerable<(string Kind, int Layer)> Layers()
    {
        int dense = Enumerable.Range(0, config.NumHiddenLayers).FirstOrDefault(l => !config.IsMoeLayer(l), -1);
        int expert = Enumerable.Range(0, config.NumHiddenLayers).FirstOrDefault(config.IsMoeLayer, -1);
        if (dense >= 0) yield return ("dense", dense);
        if (expert >= 0) yield return ("expert", expert);
    }

    private List<GpuTiming> Measure(string kind, int number, string recipeName, Recipe recipe, TextWriter output)
    {
        var layer = new SingleLayer(device, config, number, recipe);
        string name = Invariant($"layer.{kind} D={config.HiddenSize} M={tokens} {recipeName}");
        int count = tokens < LeastTokens ? 1 : Math.Max(samples, LeastSamples);
        LayerPass pass = layer.Pass(device, 1, tokens);
        bool transposes = recipe.Weight.Elements.SizeInBytes() == 1;
        timing.Seconds(Both, 1); // So that what is recorded has nothing left to prepare.
        using IRecordedWork? recorded = device.CanRecord ? device.Record(Both) : null;
        Action changing = () =>
        {
            layer.MarkWeightsChanged();
            Both();
        };
        double forward = timing.Seconds(pass.Forward, count, flushes: Flushes);
        double[] both = timing.Seconds([Both, recorded is null ? Both : recorded.Replay, transposes ? changing : Both], count, flushes: Flushes);
        (double launched, double whole, double changed) = (both[0], both[1], both[2]);

        using var marks = new CudaMarks(device);
        var recorder = new RecordingDevice(device, marks.Set);
        pass = layer.Pass(recorder, 1, tokens);
        OperatorShare[] ofForward = Breakdown(pass.Forward, recorder, marks), ofWhole = Breakdown(Both, recorder, marks);
        List<GpuTiming> rows = [Row(name, "forward", forward, ofForward), Row(name, "forward + backward", whole, ofWhole), Row(name, "forward + backward, operators launched one by one", launched, ofWhole)];
        if (transposes) rows.Add(Row(name, "forward + backward after a change of the weights", changed, ofWhole));
        Print(output, kind, name, "forward", forward, ofForward);
        Print(output, kind, name, "forward + backward", whole, ofWhole);
        return rows;

        void Both()
        {
            pass.Forward();
            pass.Backward();
        }
    }

    /// <summary>Median time of each operator over some passes, calls of the same operator and shape added up.</summary>
    private OperatorShare[] Breakdown(Action work, RecordingDevice recorder, CudaMarks marks)
    {
        work();
        device.Synchronize();
        var samples = new List<double>[0];
        OperatorCall[] calls = [];
        for (int i = 0; i < passesWithMarks; i++)
        {
            recorder.Clear();
            marks.Clear();
            work();
            device.Synchronize();
            calls = [.. recorder.Calls];
            if (i == 0) samples = [.. calls.Select(_ => new List<double>())];
            for (int c = 0; c < calls.Length; c++) samples[c].Add(marks.Seconds(calls[c].From, calls[c].To));
        }

        return
        [
            .. calls.Select((call, c) => (Call: call, Seconds: samples[c].Order().ElementAt(passesWithMarks / 2)))
                .GroupBy(c => $"{c.Call.Family}.{c.Call.Operator} {c.Call.Cost.Label}")
                .Select(g => new OperatorShare(
                    g.Key, g.Count(), g.Sum(c => c.Seconds), g.Sum(c => c.Call.Cost.Floor(ceilings)), g.Sum(c => c.Call.Cost.Flops), g.Sum(c => c.Call.Cost.Bytes)))
                .OrderByDescending(s => s.Seconds),
        ];
    }

    private GpuTiming Row(string name, string pass, double seconds, OperatorShare[] parts) => new(
        $"{name} {pass}", seconds, parts.Sum(p => p.Flops), parts.Sum(p => p.Bytes), parts.Sum(p => p.Floor) / seconds, null);

    private void Print(TextWriter output, string kind, string name, string pass, double whole, OperatorShare[] parts)
    {
        double sum = parts.Sum(p => p.Seconds), floor = parts.Sum(p => p.Floor);
        output.WriteLine();
        output.WriteLine(Invariant($"{name}, {pass}: {whole * 1e3:F2} ms; the operators one by one {sum * 1e3:F2} ms, their floors {floor * 1e3:F2} ms{Yardstick(kind, pass, whole)}"));
        output.WriteLine($"  {"operator",-86} {"calls",5} {"ms",8} {"whole",6} {"floor ms",9} {"of floor",9}");
        foreach (OperatorShare part in parts)
        {
            output.WriteLine(Invariant(
                $"  {part.Name,-86} {part.Calls,5} {part.Seconds * 1e3,8:F3} {Percent(part.Seconds / sum),6} {part.Floor * 1e3,9:F3} {Percent(part.Floor / part.Seconds),9}"));
        }

        output.WriteLine("  What holds it back, by the time above the floor:");
        foreach (OperatorShare part in parts.OrderByDescending(p => p.Seconds - p.Floor).Take(Hindrances))
            output.WriteLine(Invariant($"    {(part.Seconds - part.Floor) * 1e3,7:F3} ms, {Percent((part.Seconds - part.Floor) / sum),5} of the whole: {part.Name}"));
        output.WriteLine();
    }

    private string Yardstick(string kind, string pass, double whole)
    {
        if (config.HiddenSize != ModelPresets.Get("deepseek-v3").HiddenSize || tokens != 4096) return "";
        foreach ((string layer, string of, double transformers, double? goal) in Yardsticks)
        {
            if (layer == kind && of == pass) return Invariant($"; transformers in bf16 {transformers:F1} ms ({transformers / 1e3 / whole:F2} times this), goal {goal:F0} ms");
        }

        return "";
    }

    /// <summary>All calls of an operator at one shape.</summary>
    /// <param name="Name">Operator and shape.</param>
    /// <param name="Calls">How many.</param>
    /// <param name="Seconds">Of all.</param>
    /// <param name="Floor">Seconds that they take at least.</param>
    /// <param name="Flops">Of all.</param>
    /// <param name="Bytes">Of all.</param>
    private sealed record OperatorShare(string Name, int Calls, double Seconds, double Floor, double Flops, double Bytes);
}
