// Options that several verbs have, so that they are spelt and explained the same everywhere.
using System.CommandLine;
using Fathom.Compute.Cpu;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Verbs;

/// <summary>Makes the options that verbs share.</summary>
internal static class CommonOptions
{
    /// <summary>--threads.</summary>
    public static Option<int> Threads() => new("--threads")
    {
        Description = "Threads to compute on; 0 for one a processor. Results do not depend on it.",
        HelpName = "N",
    };

    /// <summary>--model.</summary>
    public static Option<string> Model() => new("--model", "-m")
    {
        Description = "Model folder in Hugging Face layout, or a run directory.",
        HelpName = "DIR",
        Required = true,
    };

    /// <summary>--weights.</summary>
    public static Option<WeightSet> Weights()
    {
        var option = new Option<WeightSet>("--weights") { Description = "Weights of the last step, or the moving average in a run's newest checkpoint.", HelpName = "last|ema" };
        option.AcceptOnlyFromAmong("last", "ema");
        return option;
    }

    /// <summary>The processor as a device.</summary>
    /// <exception cref="FathomException">The number of threads is negative or absurd.</exception>
    public static CpuDevice Device(int threads) => new(CheckThreads(threads));

    /// <summary>A number of threads that is one.</summary>
    /// <exception cref="FathomException">It is negative or absurd.</exception>
    public static int CheckThreads(int threads) => threads is >= 0 and <= 1024
        ? threads
        : throw new FathomException($"--threads is {threads}; give 1 to 1024, or 0 for one a processor");
}
