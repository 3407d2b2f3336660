// Is this device right? Every operator of the shared table with fresh random inputs, outputs poisoned before, against the slow
// reference (or, for the rows of real sizes, against the processor). For whoever runs on a GPU, a driver or a processor that nobody
// has tried before.
using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda;
using Fathom.Compute.Reference;
using Fathom.Compute.Table;
using Fathom.Numerics;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom check</c>.</summary>
internal static class CheckVerb
{
    public static Command Create()
    {
        var only = new Option<string?>("--only") { Description = "Part of the rows' names, as norm or \"linear.forward M=64\".", HelpName = "NAME" };
        var large = new Option<bool>("--large") { Description = "The rows of real sizes, against the processor, instead of the small ones against the reference." };
        var seed = new Option<int>("--seed") { Description = "Seed of the inputs; another one for each run without it.", HelpName = "N" };
        var verbose = new Option<bool>("--verbose") { Description = "A line for every result, not only for those that are wrong." };
        var cuda = new Option<int?>("--gpu") { Description = "Check a GPU, counted from 0, instead of the processor.", HelpName = "N" };
        var command = new Command("check", "Compare every operator of a device with the reference.") { only, large, seed, verbose, cuda };
        command.SetAction(arguments =>
        {
            using Device device = arguments.GetValue(cuda) is { } ordinal ? new CudaDevice(ordinal) : new CpuDevice();
            using Device reference = arguments.GetValue(large) ? new CpuDevice() : new ReferenceDevice();
            int used = arguments.GetResult(seed) is null ? Environment.TickCount & 0xFFFF : arguments.GetValue(seed);
            Console.WriteLine($"{device.Name} against {reference.Name}, seed {used}");
            return Run(device, reference, arguments.GetValue(only), arguments.GetValue(large), used, arguments.GetValue(verbose));
        });
        return command;
    }

    private static int Run(Device device, Device reference, string? only, bool large, int seed, bool verbose)
    {
        var families = new Dictionary<string, (int Rows, int Wrong, int Unsupported, double Excess)>();
        long started = Stopwatch.GetTimestamp();
        foreach (OperatorCase row in OperatorTable.All())
        {
            if (row.Small == large || only is not null && !row.ToString().Contains(only, StringComparison.OrdinalIgnoreCase)) continue;
            foreach (BFloat16Activations rounded in row.Variants(device))
            {
                (int rows, int wrong, int unsupported, double excess) = families.GetValueOrDefault(row.Name);
                try
                {
                    foreach (OperatorDifference difference in OperatorCheck.Run(row, device, reference, seed, rounded))
                    {
                        if (!difference.Holds) wrong++;
                        if (verbose || !difference.Holds) Console.WriteLine($"{(difference.Holds ? "ok   " : "WRONG")} {difference}");
                        excess = Math.Max(excess, difference.Excess);
                    }
                }
                catch (NotSupportedException e)
                {
                    unsupported++;
                    if (verbose || unsupported == 1) Console.WriteLine($"n/a   {row} ({rounded}): {e.Message}");
                }
                catch (Exception e) when (e is ArgumentException or FathomException and not CudaException)
                {
                    wrong++;
                    Console.WriteLine($"WRONG {row} ({rounded}): {e.Message}");
                }

                families[row.Name] = (rows + 1, wrong, unsupported, excess);
            }
        }

        if (families.Count == 0) throw new FathomException($"no row of the operator table has \"{only}\" in its name");
        Console.WriteLine();
        Console.WriteLine($"{"operator",-40} {"rows",6} {"wrong",6} {"n/a",6}  largest difference, of what is allowed");
        foreach ((string name, var f) in families)
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name,-40} {f.Rows,6} {f.Wrong,6} {f.Unsupported,6}  {f.Excess:P1}"));
        int bad = families.Values.Sum(f => f.Wrong);
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{families.Values.Sum(f => f.Rows)} rows, {bad} wrong, {Stopwatch.GetElapsedTime(started).TotalSeconds:F1} s"));
        return bad == 0 ? ExitCode.Success : ExitCode.Failed;
    }
}
