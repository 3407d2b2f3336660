// The cache of compiled kernels: what decides a key, what a damaged file does, and folders that cannot be written.
using Fathom.Compute.Cuda.Runtime;
using Fathom.Testing;
using Xunit;

namespace Fathom.Compute.Tests.Cuda;

public sealed class CubinCacheTests
{
    private static readonly CompiledKernels Kernels = new([1, 2, 3, 250], new Dictionary<string, string> { ["k<float>"] = "_Zk" }, "13.0");

    [Fact]
    public void What_was_written_is_read_back()
    {
        using var folder = new TemporaryFolder();
        var cache = new CubinCache(Path.Combine(folder.Path, "kernels"));
        Assert.Null(cache.Read("norm.cu", "key"));
        cache.Write("norm.cu", "key", Kernels);
        CompiledKernels read = cache.Read("norm.cu", "key")!;
        Assert.Equal(Kernels.Image, read.Image);
        Assert.Equal(Kernels.Names, read.Names);
        Assert.Equal(Kernels.Compiler, read.Compiler);
        Assert.Null(cache.Read("norm.cu", "other"));
        Assert.Single(Directory.GetFiles(cache.Folder));
    }

    [Fact]
    public void A_damaged_file_counts_as_absent_and_is_replaced()
    {
        using var folder = new TemporaryFolder();
        var cache = new CubinCache(folder.Path);
        cache.Write("norm.cu", "key", Kernels);
        string file = Directory.GetFiles(folder.Path).Single();
        byte[] whole = File.ReadAllBytes(file);
        for (int length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(file, whole[..length]);
            Assert.Null(cache.Read("norm.cu", "key"));
        }

        for (int at = 0; at < whole.Length; at++)
        {
            byte[] flipped = [.. whole];
            flipped[at] ^= 0x10;
            File.WriteAllBytes(file, flipped);
            Assert.Null(cache.Read("norm.cu", "key"));
        }

        cache.Write("norm.cu", "key", Kernels);
        Assert.NotNull(cache.Read("norm.cu", "key"));
    }

    [Fact]
    public void A_folder_that_cannot_be_written_costs_only_the_cache()
    {
        using var folder = new TemporaryFolder();
        string file = Path.Combine(folder.Path, "file");
        File.WriteAllText(file, "in the way");
        var cache = new CubinCache(Path.Combine(file, "kernels"));
        cache.Write("norm.cu", "key", Kernels);
        Assert.Null(cache.Read("norm.cu", "key"));
    }

    [Fact]
    public void Everything_that_decides_the_code_decides_the_key()
    {
        string[] keys =
        [
            Key(), Key(file: "b.cu"), Key(source: "y"), Key(headerName: "i.cuh"), Key(header: "z"), Key(option: "-O0"), Key(instance: "l<float>"), Key(compiler: "12.9"),
        ];
        Assert.Equal(keys.Length, keys.Distinct().Count());
        Assert.Equal(Key(), Key());

        static string Key(
            string file = "a.cu", string source = "x", string headerName = "h.cuh", string header = "h", string option = "-O3", string instance = "k<float>", string compiler = "13.0") =>
            CubinCache.Key(file, source, [headerName], [header], [option], [instance], compiler);
    }

    [Fact]
    public void Blocks_of_memory_are_rounded_and_reused_with_little_waste()
    {
        Assert.Equal(512, DeviceMemoryPool.BlockSize(1));
        Assert.Equal(1024, DeviceMemoryPool.BlockSize(513));
        Assert.Equal(2 << 20, DeviceMemoryPool.BlockSize(1 << 20));
        Assert.Equal(4L << 30, DeviceMemoryPool.BlockSize((4L << 30) - 1));
        Assert.True(DeviceMemoryPool.Fits(9 << 20, 8 << 20));
        Assert.False(DeviceMemoryPool.Fits(10 << 20, 8 << 20));
        Assert.False(DeviceMemoryPool.Fits(8 << 20, 9 << 20));
    }

    [Theory]
    [InlineData(80, "sm_80")]
    [InlineData(89, "sm_89")]
    [InlineData(90, "sm_90a")]
    [InlineData(100, "sm_100a")]
    public void A_chip_is_compiled_for_itself(int capability, string architecture) =>
        Assert.Equal(architecture, KernelCompiler.Architecture(capability));

    [Fact]
    public void Every_kernel_file_is_in_the_assembly() =>
        Assert.Contains("common.cuh", KernelSource.HeaderNames);
}
