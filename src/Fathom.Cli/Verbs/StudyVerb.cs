// Claims of the papers as experiments that anybody can run: what comes out is a table, a JSON file and a page with plots.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Compute.Cpu;
using Fathom.Studies;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom study</c>.</summary>
internal static class StudyVerb
{
    public static Command Create() => new("study", "Run a claim of the paper as an experiment: numbers, JSON and a page with plots.") { Accumulation() };

    private static Command Accumulation()
    {
        var output = new Option<string>("--out") { Description = "Folder for accumulation.json and accumulation.html.", HelpName = "DIR", DefaultValueFactory = _ => Path.Combine("runs", "study-accumulation") };
        var depths = new Option<int[]>("--k") { Description = "Lengths of the sums; 32 to 16384 by doublings if not given.", HelpName = "K", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [] };
        var size = new Option<int>("--size") { Description = "Rows and columns of the products.", HelpName = "N", DefaultValueFactory = _ => AccumulationStudy.DefaultSize };
        var seed = new Option<ulong>("--seed") { Description = "Seed of the operands.", HelpName = "N", DefaultValueFactory = _ => 1UL };
        var threads = CommonOptions.Threads();
        var command = new Command("accumulation", "Error of FP8 products against their depth: FP32, Hopper's accumulator, and promotion every 32, 128, 512.") { output, depths, size, seed, threads };
        command.SetAction(arguments =>
        {
            using CpuDevice device = CommonOptions.Device(arguments.GetValue(threads));
            using var interruption = new Interruption();
            int[] wanted = arguments.GetValue(depths) is { Length: > 0 } given ? [.. given.Distinct().Order()] : [.. AccumulationStudy.DefaultDepths];
            int n = arguments.GetValue(size);
            var report = new AccumulationReport([.. AccumulationStudy.Run(device, wanted, n, arguments.GetValue(seed), interruption.Token)], n, arguments.GetValue(seed));
            foreach (string line in report.Lines()) Console.WriteLine(line);
            string page = report.Write(arguments.GetRequiredValue(output), "fathom " + string.Join(' ', arguments.Tokens.Select(token => CommandName.Quote(token.Value))));
            Console.WriteLine($"\nreport     {CommandName.Argument(page)}");
            return ExitCode.Success;
        });
        return command;
    }
}
