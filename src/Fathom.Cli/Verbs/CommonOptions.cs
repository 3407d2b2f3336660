// Options that several verbs have, so that they are spelt and explained the same everywhere.
using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.Json;
using Fathom.Compute;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda;
using Fathom.Model;
using Fathom.Numerics;

namespace Fathom.Cli.Verbs;

/// <summary>Makes the options that verbs share.</summary>
internal static class CommonOptions
{
    /// <summary>--threads.</summary>
    public static Option<int> Threads() => new("--threads")
    {
        Description = "Threads of the processor to compute on; 0 for one a processor. Results do not depend on it.",
        HelpName = "N",
    };

    /// <summary>--device.</summary>
    public static Option<DeviceChoice> Device() => new("--device")
    {
        Description = "Where to compute: the processor, or a GPU, counted from 0. 'fathom doctor' lists them.",
        HelpName = "cpu|cuda[:N]",
        DefaultValueFactory = _ => DeviceChoice.Processor,
        CustomParser = result => DeviceChoice.TryParse(result.Tokens[0].Value, out DeviceChoice choice) ? choice : Fail(result),
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

    /// <summary>--kv-cache.</summary>
    public static Option<DType> Cache() => new("--kv-cache")
    {
        Description = "What the cache of earlier tokens holds: bf16, or fp8 for 57 % of the memory and slightly rounder numbers.",
        HelpName = "bf16|fp8",
        DefaultValueFactory = _ => DType.BF16,
        CustomParser = result => result.Tokens[0].Value switch { "bf16" => DType.BF16, "fp8" => DType.F8E4M3, _ => FailCache(result) },
    };

    /// <summary>--recipe.</summary>
    public static Option<string?> Recipe() => new("--recipe")
    {
        Description = $"Precision: {string.Join(", ", Fathom.Model.Recipe.All.Select(r => r.Name))}, or a JSON file with an object as the field recipe of a configuration has it.",
        HelpName = "NAME|FILE",
    };

    /// <summary>The recipe of that name, or of a JSON file.</summary>
    /// <exception cref="FathomException">There is no such name and no such file, or the file holds no recipe.</exception>
    public static Recipe ReadRecipe(string nameOrFile)
    {
        if (!File.Exists(nameOrFile)) return Fathom.Model.Recipe.Named(nameOrFile);
        try
        {
            using JsonDocument json = JsonDocument.Parse(File.ReadAllText(nameOrFile));
            return Fathom.Model.Recipe.Read(json.RootElement);
        }
        catch (JsonException error)
        {
            throw new FathomException($"{nameOrFile} is not valid JSON: {error.Message}", error);
        }
        catch (FathomException error)
        {
            throw new FathomException($"{nameOrFile}: {error.Message}", error);
        }
    }

    /// <summary>The processor as a device.</summary>
    /// <exception cref="FathomException">The number of threads is negative or absurd.</exception>
    public static CpuDevice Device(int threads) => new(CheckThreads(threads));

    /// <summary>The device that was asked for.</summary>
    /// <param name="choice">Which.</param>
    /// <param name="threads">Of the processor.</param>
    /// <exception cref="FathomException">The number of threads is negative or absurd, or there is no such GPU; the message says why.</exception>
    public static Device Device(DeviceChoice choice, int threads)
    {
        int team = CheckThreads(threads);
        return choice.Gpu is { } ordinal ? new CudaDevice(ordinal) : new CpuDevice(team);
    }

    /// <summary>A number of threads that is one.</summary>
    /// <exception cref="FathomException">It is negative or absurd.</exception>
    public static int CheckThreads(int threads) => threads is >= 0 and <= 1024
        ? threads
        : throw new FathomException($"--threads is {threads}; give 1 to 1024, or 0 for one a processor");

    private static DeviceChoice Fail(ArgumentResult result)
    {
        result.AddError($"--device is '{result.Tokens[0].Value}'; give cpu, cuda, or cuda:N for GPU N, counted from 0");
        return default;
    }

    private static DType FailCache(ArgumentResult result)
    {
        result.AddError($"--kv-cache is '{result.Tokens[0].Value}'; give bf16 or fp8");
        return default;
    }
}
