// Speeds of this machine with the yardsticks they are shares of, all in one run, so that a number never stands beside a peak of
// another day.
using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using Fathom.Cli.Benchmarks;
using Fathom.Cli.Terminal;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom bench cpu</c>, <c>fathom bench gpu</c> and <c>fathom bench operators</c>.</summary>
internal static class BenchVerb
{
    private static readonly (string Name, Func<Sampling, IEnumerable<BenchmarkRow>> Run)[] Benchmarks =
    [
        ("gemm", GemmBenchmark.Run),
        ("train", TrainingBenchmark.Run),
        ("inference", InferenceBenchmark.Run),
        ("engine", EngineBenchmark.Run),
        ("step", StepBenchmark.Run),
        ("text", TextBenchmark.Run),
        ("formats", FormatsBenchmark.Run),
    ];

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create()
    {
        var command = new Command("bench", "Measure speeds, each beside what the machine can do.") { Cpu(), Gpu(), Operators(), BenchMtpVerb.Create(), BenchServeVerb.Create(), BenchSoakVerb.Create() };
        return command;
    }

    private static Command Cpu()
    {
        string names = string.Join(", ", Benchmarks.Select(b => b.Name));
        var only = new Option<string[]>("--only") { Description = $"Run some: {names}.", HelpName = "NAME", DefaultValueFactory = _ => [] };
        only.AcceptOnlyFromAmong([.. Benchmarks.Select(b => b.Name)]);
        var json = new Option<string?>("--json") { Description = "Write the rows to a file as well.", HelpName = "FILE" };
        var quick = new Option<bool>("--quick") { Description = "Fewer shapes and samples; the numbers are rougher." };
        var threads = CommonOptions.Threads();
        var command = new Command("cpu", "GEMM, training, decode, prefill, serving, a step of it by operator, text and number formats on the processor.") { only, json, quick, threads };
        command.SetAction(arguments =>
        {
            string[] wanted = arguments.GetValue(only) ?? [];
            using CpuDevice device = CommonOptions.Device(arguments.GetValue(threads));
            var sampling = new Sampling(device, arguments.GetValue(quick));
            Console.WriteLine($"{device.Name}: {sampling.MeasurePeaks()}");
            Console.WriteLine("Work and yardsticks are sampled in turn. Of arithmetic the best counts, since a disturbed sample can only be slower; of reading memory the median share.");
            Console.WriteLine();
            Console.WriteLine(BenchmarkRow.Header);
            var rows = new List<BenchmarkRow>();
            foreach ((string name, Func<Sampling, IEnumerable<BenchmarkRow>> run) in Benchmarks)
            {
                if (wanted.Length > 0 && !wanted.Contains(name)) continue;
                foreach (BenchmarkRow row in run(sampling))
                {
                    rows.Add(row);
                    Console.WriteLine(row);
                }
            }

            if (arguments.GetValue(json) is { } file) Write(file, sampling, rows);
            return ExitCode.Success;
        });
        return command;
    }

    private static Command Gpu()
    {
        var only = new Option<string?>("--only") { Description = "One family of operators.", HelpName = "NAME" };
        only.AcceptOnlyFromAmong("linear", "grouped", "attention", "decode", "few", "quantization", "routing", "elementwise", "layer", "model");
        var json = new Option<string?>("--json") { Description = "Write the rows to a file as well.", HelpName = "FILE" };
        var ordinal = new Option<int>("--gpu") { Description = "Which GPU, counted from 0.", HelpName = "N" };
        var quick = new Option<bool>("--quick") { Description = "Fewer samples." };
        var preset = new Option<string>("--preset") { Description = "The model whose layers are measured.", HelpName = "NAME", DefaultValueFactory = _ => "deepseek-v3" };
        var tokens = new Option<int>("--tokens") { Description = "Tokens that layers are given; below 1024 the ceilings are those of small products and everything is timed once.", HelpName = "N", DefaultValueFactory = _ => 4096 };
        var command = new Command("gpu", "Every operator at DeepSeek-V3's shapes on a GPU and whole layers, beside what the card reaches.") { only, json, ordinal, quick, preset, tokens };
        command.SetAction(arguments =>
        {
            ModelConfig layers = ModelPresets.Get(arguments.GetValue(preset)!);
            int layerTokens = arguments.GetValue(tokens);
            if (layerTokens < 1) throw new FathomException($"--tokens is {layerTokens}, expected at least 1");
            using var device = new CudaDevice(arguments.GetValue(ordinal));
            using var timing = new CudaTiming(device);
            var benchmark = new GpuBenchmark(device, timing, arguments.GetValue(quick) ? 5 : 20, layers, layerTokens);
            Console.WriteLine($"{device.Name}: {benchmark.Ceilings}");
            Console.WriteLine("Medians; the second-level cache is overwritten before each sample.");
            Console.WriteLine();
            Console.WriteLine(GpuTiming.Header);
            var rows = new JsonArray();
            foreach ((string name, Func<IEnumerable<GpuTiming>> run) in benchmark.Families)
            {
                if (arguments.GetValue(only) is { } wanted && wanted != name) continue;
                foreach (GpuTiming row in run())
                {
                    Console.WriteLine(row);
                    rows.Add((JsonNode)row.ToJson());
                }
            }

            if (arguments.GetValue(json) is { } file)
            {
                var report = new JsonObject
                {
                    ["device"] = device.Name,
                    ["copy_tbytes_per_second"] = benchmark.Ceilings.CopyTerabytes,
                    ["bf16_tflops"] = benchmark.Ceilings.BFloat16Teraflops,
                    ["fp8_tflops"] = benchmark.Ceilings.Fp8Teraflops,
                    ["rows"] = rows,
                };
                AtomicFile.WriteAllText(file, report.ToJsonString(Indented) + "\n");
            }

            return ExitCode.Success;
        });
        return command;
    }

    private static Command Operators()
    {
        var only = new Option<string?>("--only") { Description = "Part of the operators' names.", HelpName = "NAME" };
        var all = new Option<bool>("--all") { Description = "Time the small rows too, which are there for tests." };
        var quick = new Option<bool>("--quick") { Description = "Fewer samples." };
        var threads = CommonOptions.Threads();
        var command = new Command("operators", "Every operator of the shared table: time, GFLOP/s, GB/s, share of the ceiling that binds.") { only, all, quick, threads };
        command.SetAction(arguments =>
        {
            using CpuDevice device = CommonOptions.Device(arguments.GetValue(threads));
            var sampling = new Sampling(device, arguments.GetValue(quick));
            Console.WriteLine($"{device.Name}: {sampling.MeasurePeaks()}");
            Console.WriteLine();
            Console.WriteLine(OperatorTiming.Header);
            int rows = 0;
            foreach (OperatorTiming timing in OperatorBenchmark.Run(sampling, arguments.GetValue(only), arguments.GetValue(all)))
            {
                rows++;
                Console.WriteLine(timing);
            }

            if (rows == 0) throw new FathomException($"no row of the operator table has \"{arguments.GetValue(only)}\" in its name; without --only all are shown, with --all the small ones too");
            return ExitCode.Success;
        });
        return command;
    }

    private static void Write(string file, Sampling sampling, List<BenchmarkRow> rows)
    {
        MachinePeaks peaks = sampling.MeasurePeaks();
        var json = new JsonObject
        {
            ["device"] = sampling.Device.Name,
            ["fma_peak_gflops"] = peaks.TeamGigaflops,
            ["read_bandwidth_gbytes"] = peaks.ReadGigabytes,
            ["rows"] = new JsonArray([.. rows.Select(row => row.ToJson())]),
        };
        AtomicFile.WriteAllText(file, json.ToJsonString(Indented) + "\n");
    }
}
