// The machine's report: everything is there with and without a GPU, and what is missing says what to do.
using System.Text.Json.Nodes;
using Fathom.Compute.Cpu;
using Fathom.Compute.Cuda;
using Fathom.Testing;
using Xunit;

namespace Fathom.Cli.Tests;

public sealed class DoctorTests(ITestOutputHelper output)
{
    [Fact]
    public void It_shows_every_part_in_aligned_lines_and_succeeds()
    {
        Outcome outcome = FathomProcess.Run("doctor").Expect(0);
        output.WriteLine(outcome.Output);
        string[] lines = outcome.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        string[] names = ["fathom", ".NET", "processor", "memory", "disk", "driver", "NVRTC", "cuBLASLt", "NCCL", "kernel cache"];
        foreach (string name in names) Assert.Single(lines, line => line[2..15].TrimEnd() == name);
        Assert.Contains(lines, line => line[2..].StartsWith("GPU ", StringComparison.Ordinal) || line[2..].StartsWith("cuda:0 ", StringComparison.Ordinal));
        Assert.All(lines, line => Assert.True(line[15] == ' ' && line[16] != ' ', line));
        foreach (string line in lines.Where(line => line.Contains("not found", StringComparison.Ordinal)))
        {
            Assert.StartsWith("- ", line, StringComparison.Ordinal);
            Assert.Contains("install", line, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Vector_instructions_that_there_are_not_are_named()
    {
        Outcome outcome = FathomProcess.RunIn([("FATHOM_CPU", "sse9")], "doctor").Expect(2);
        Assert.Contains("FATHOM_CPU is \"sse9\", expected avx512bf16, avx512, avx2 or portable", outcome.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("defect", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void The_same_as_json()
    {
        JsonObject report = JsonNode.Parse(FathomProcess.Run("doctor", "--json").Expect(0).Output)!.AsObject();
        Assert.True((int)report["processor"]!["processors"]! >= 1);
        Assert.StartsWith(CpuDevice.Vectors, (string)report["processor"]!["vectors"]!, StringComparison.Ordinal);
        Assert.Matches("^(AVX-512|AVX2|128-bit vectors)", CpuDevice.Vectors);
        Assert.True((long)report["memory"]!["bytes"]! > 1 << 28);
        Assert.True((long)report["disk"]!["bytes"]! >= (long)report["disk"]!["available_bytes"]!);
        Assert.Equal(["driver", "NVRTC", "cuBLASLt", "NCCL"], report["libraries"]!.AsArray().Select(l => (string)l!["name"]!));
        Assert.All(report["libraries"]!.AsArray(), l => Assert.True(l!["path"] is null ^ l["problem"] is null));
        Assert.Equal(report["gpu_problem"] is null, report["gpus"]!.AsArray().Count > 0);
    }

    [Fact]
    public void A_kernel_cache_that_cannot_be_written_is_said()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("taken"), "");
        Outcome outcome = FathomProcess.RunIn([("FATHOM_KERNEL_CACHE", folder.File("taken", "kernels"))], "doctor").Expect(0);
        string line = Assert.Single(outcome.Output.Split('\n'), l => l.Contains("kernel cache", StringComparison.Ordinal));
        output.WriteLine(line);
        Assert.Contains("cannot be written", line, StringComparison.Ordinal);
        Assert.Contains("FATHOM_KERNEL_CACHE", line, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFiles(folder.Path, ".fathom*"));
    }

    [Fact]
    public void A_driver_that_cannot_be_loaded_is_named()
    {
        if (CudaSystem.Probe(out _) is null) Assert.Skip("there is a driver that loads, and would be taken in its place");
        using var folder = new TemporaryFolder();
        string file = folder.File("libcuda.so.1");
        File.WriteAllText(file, "not a library");
        Outcome outcome = FathomProcess.RunIn([("FATHOM_CUDA_PATH", folder.Path)], "check", "--gpu", "0").Expect(2);
        output.WriteLine(outcome.Error);
        Assert.Contains($"{file} is damaged", outcome.Error, StringComparison.Ordinal);
        outcome = FathomProcess.RunIn([("FATHOM_CUDA_PATH", folder.Path)], "doctor").Expect(0);
        Assert.Contains(outcome.Output.Split('\n'), line => line.Contains("driver ", StringComparison.Ordinal) && line.Contains($"{file} is damaged", StringComparison.Ordinal));
    }

    [Fact]
    public void A_device_that_is_not_there_is_one_line()
    {
        using var folder = new TemporaryFolder();
        Outcome outcome = FathomProcess.RunIn([("CUDA_VISIBLE_DEVICES", "")], "generate", "--model", folder.Path, "--ids", "1", "--device", "cuda:7").Expect(2);
        output.WriteLine(outcome.Error);
        Assert.Contains("GPU", outcome.Error, StringComparison.Ordinal);
        Assert.Single(outcome.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
    }

    [Theory]
    [InlineData("study fp8 --help", "study", "fp8", "--no-such-option")]
    [InlineData("bench gpu --help", "bench", "gpu", "--only", "nothing")]
    [InlineData("train --help", "train")]
    public void A_hint_names_all_verbs(string hint, params string[] arguments)
    {
        Outcome outcome = FathomProcess.Run(arguments).Expect(2);
        Assert.Contains($" {hint}\n", outcome.Error, StringComparison.Ordinal);
    }
}
