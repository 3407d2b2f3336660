// A write that fails leaves what was there and nothing beside it: on a full disk, where nothing may be written, and when the
// writer gives up half-way.
using Fathom.Compute;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class AtomicFileTests(ITestOutputHelper output)
{
    [Fact]
    public void Replacing_a_file_keeps_its_open_readers_on_the_old_one()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("x");
        SafetensorsTests.WriteFloats(path, [1, 2]);
        using SafetensorsFile old = SafetensorsFile.Open(path);
        Tensor view = old.Get("x");
        SafetensorsTests.WriteFloats(path, [3, 4, 5]);
        Assert.Equal([1f, 2f], view.AsSpan<float>().ToArray());
        using SafetensorsFile current = SafetensorsFile.Open(path);
        Assert.Equal([3f, 4f, 5f], current.ReadF32("x"));
        Assert.Single(Directory.GetFiles(folder.Path));
    }

    [Fact]
    public void Giving_up_leaves_the_old_file()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("x");
        SafetensorsTests.WriteFloats(path, [1, 2]);
        byte[] before = File.ReadAllBytes(path);
        using (var writer = new SafetensorsWriter(path, [new TensorDeclaration("x", DType.F32, [1000])])) writer.Write("x", new byte[400]);
        Assert.Equal(before, File.ReadAllBytes(path));
        Assert.Single(Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public void A_file_larger_than_the_disk_is_refused_before_any_data()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("x");
        SafetensorsTests.WriteFloats(path, [1, 2]);
        byte[] before = File.ReadAllBytes(path);
        AssertFails(path, () => new SafetensorsWriter(path, [new TensorDeclaration("x", DType.U8, [1L << 60])]).Dispose());
        Assert.Equal(before, File.ReadAllBytes(path));
        Assert.Single(Directory.GetFileSystemEntries(folder.Path));
    }

    [Fact]
    public void A_folder_where_nothing_may_be_written_is_clear()
    {
        // /proc takes no new files from anyone, the superuser included.
        Assert.SkipUnless(OperatingSystem.IsLinux(), "needs /proc");
        AssertFails("/proc/model.safetensors", () => SafetensorsTests.WriteFloats("/proc/model.safetensors", [1]));
        if (OperatingSystem.IsWindows() || Environment.IsPrivilegedProcess) return;
        using var folder = new TemporaryFolder();
        string locked = Directory.CreateDirectory(folder.File("locked")).FullName, path = Path.Combine(locked, "x");
        File.SetUnixFileMode(locked, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        AssertFails(path, () => SafetensorsTests.WriteFloats(path, [1]));
        File.SetUnixFileMode(locked, UnixFileMode.UserRead | UnixFileMode.UserExecute | UnixFileMode.UserWrite);
    }

    [Fact]
    public void A_full_disk_leaves_the_old_weights()
    {
        using var disk = new SmallDisk(1024);
        string path = disk.File("model.safetensors");
        SafetensorsTests.WriteFloats(path, [1, 2]);
        byte[] before = File.ReadAllBytes(path);

        // Refused when the space is reserved ...
        AssertFails(path, () => SafetensorsTests.WriteFloats(path, new float[1 << 19]));

        // ... when the disk fills up during the writing of a file of unknown length ...
        AssertFails(path, () =>
        {
            using var file = new AtomicFile(path);
            for (int i = 0; i < 64; i++) file.Write(new byte[1 << 16], (long)i << 16);
            file.Commit();
        });

        // ... and when the third of four shards no longer fits.
        Tensor tensor = HostMemory.Allocate(new Shape(90_000), DType.F32);
        TensorDeclaration[] tensors = [.. "abcd".Select(c => new TensorDeclaration($"{c}", DType.F32, [90_000]))];
        AssertFails(disk.Path, () => CheckpointWriter.Write(disk.Path, tensors, _ => tensor, shardBytes: 400_000));
        Assert.Equal(before, File.ReadAllBytes(path));
        Assert.Equal([path], Directory.GetFileSystemEntries(disk.Path));
    }

    private void AssertFails(string path, Action action)
    {
        FathomException error = Assert.Throws<FathomException>(action);
        output.WriteLine(error.Message);
        Assert.Contains(path, error.Message);
        Assert.DoesNotContain('\n', error.Message);
    }
}
