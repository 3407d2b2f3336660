// Every kind of damage is one clear line that names the file; whatever else is done to a file, nothing but that exception
// comes out, and what is accepted can be read to its last byte.
using System.Buffers.Binary;
using System.Text;
using Fathom.Numerics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Model.Tests;

public sealed class SafetensorsDamageTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("", 0, "does not begin")]
    [InlineData("[]", 0, "does not begin")]
    [InlineData(" {}", 0, "does not begin")]
    [InlineData("{", 0, "not valid JSON")]
    [InlineData("{} x", 0, "not valid JSON")]
    [InlineData("{}{}", 0, "not valid JSON")]
    [InlineData("""{"a":1}""", 0, "'a' is described by no object")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1]}}""", 4, "'a': data_offsets are missing")]
    [InlineData("""{"a":{"dtype":"F32","data_offsets":[0,4]}}""", 4, "'a': shape is missing")]
    [InlineData("""{"a":{"shape":[1],"data_offsets":[0,4]}}""", 4, "'a': dtype is missing")]
    [InlineData("""{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}""", 4, "'F31' is unknown")]
    [InlineData("""{"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}}""", 4, "dtype is no text")]
    [InlineData("""{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4, "dtype occurs twice")]
    [InlineData("""{"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}""", 4, "shape is no list")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}""", 4, "no whole number")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}""", 4, "no whole number")]
    [InlineData("""{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}""", 4, "no whole number")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}""", 4, "too many bytes")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}""", 0, "too many bytes")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}""", 4, "takes 8 bytes, data_offsets give 4")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}""", 4, "no range")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}""", 4, "no range")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 3, "ends at byte 4 of the data, but the file holds 3")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 5, "1 bytes at the end")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8, "4 bytes before tensor 'a'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4, "'b' overlaps")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}""", 6, "'b' overlaps")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8, "'a' occurs twice")]
    [InlineData("""{"__metadata__":{"x":1}}""", 0, "'x' is no text")]
    [InlineData("""{"__metadata__":{"x":"1","x":"2"}}""", 0, "'x' occurs twice")]
    [InlineData("""{"__metadata__":{},"__metadata__":{}}""", 0, "occurs twice")]
    [InlineData("""{"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""", 4, "not valid UTF-8")]
    [InlineData("""{"a\nb":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}""", 4, "'a b'")]
    public void Damaged_headers_are_one_clear_line(string json, int dataBytes, string expected)
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("x.safetensors");
        byte[] header = Encoding.UTF8.GetBytes(json);
        File.WriteAllBytes(path, [.. BitConverter.GetBytes((long)header.Length), .. header, .. new byte[dataBytes]]);
        AssertFails(path, expected);
    }

    [Fact]
    public void Damaged_files_are_one_clear_line()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("x.safetensors");
        AssertFails(path, "no such file");
        AssertFails(folder.File("absent", "x"), "no such file");
        AssertFails(folder.Path, "this is a folder");
        Write();
        AssertFails(path, "empty or cut off");
        Write(1, 2, 3);
        AssertFails(path, "3 bytes are too few");
        Write([.. BitConverter.GetBytes(100L), (byte)'{']);
        AssertFails(path, "only 1 follow");
        Write([.. BitConverter.GetBytes(ulong.MaxValue), (byte)'{']);
        AssertFails(path, "at most 100000000");
        Write([.. BitConverter.GetBytes(100_000_001L), .. new byte[100]]);
        AssertFails(path, "at most 100000000");
        Write([.. BitConverter.GetBytes(4L), (byte)'{', 0xFF, 0xFE, (byte)'}']);
        AssertFails(path, "not valid");
        Write([.. BitConverter.GetBytes(200L), .. Enumerable.Repeat((byte)'{', 200)]);
        AssertFails(path, "not valid JSON");
        string deep = "{\"a\":{\"x\":" + new string('[', 5000) + new string(']', 5000) + "}}";
        Write([.. BitConverter.GetBytes((long)deep.Length), .. Encoding.UTF8.GetBytes(deep)]);
        AssertFails(path, "not valid JSON");

        void Write(params byte[] bytes) => File.WriteAllBytes(path, bytes);
    }

    [Fact]
    public void A_file_without_permission_is_one_clear_line()
    {
        Assert.SkipWhen(Environment.IsPrivilegedProcess, "the superuser may read everything");
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Unix file modes");
        using var folder = new TemporaryFolder();
        string path = folder.File("x.safetensors");
        SafetensorsTests.WriteFloats(path, [1]);
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(path, UnixFileMode.None);
        AssertFails(path, "not permitted");
    }

    [Fact]
    public void A_truncated_file_is_refused_at_every_length()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("x");
        SafetensorsTests.WriteFloats(path, [1, 2, 3]);
        byte[] whole = File.ReadAllBytes(path);
        for (int length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(path, whole[..length]);
            Assert.StartsWith(path, Assert.Throws<FathomException>(() => SafetensorsFile.Open(path)).Message);
        }
    }

    [Fact]
    public void Mutated_files_never_crash()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("x.safetensors");
        byte[] seed = Seed(folder);
        int header = (int)BinaryPrimitives.ReadInt64LittleEndian(seed);
        var random = new Random(4321);
        int accepted = 0;
        for (int i = 0; i < 3000; i++)
        {
            byte[] bytes = [.. seed];
            for (int n = random.Next(1, 4); n > 0; n--)
            {
                int at = random.Next(10) == 0 ? random.Next(8) : 8 + random.Next(header);
                switch (random.Next(5))
                {
                    case 0: bytes[at] = (byte)random.Next(256); break;
                    case 1 or 2: bytes[at] = (byte)"{}[]\",:-+.eE0123456789\\u F"[random.Next(25)]; break;
                    case 3: bytes[at] ^= (byte)(1 << random.Next(8)); break;
                    default:
                        // Another length of the header, so that its end is cut or data joins it.
                        BinaryPrimitives.WriteInt64LittleEndian(bytes, header + random.Next(-8, 9) * (random.Next(4) == 0 ? 1L << random.Next(60) : 1));
                        break;
                }
            }

            File.WriteAllBytes(path, bytes);
            if (Survives(path)) accepted++;
        }

        output.WriteLine($"3000 mutations, {accepted} still a file");
        Assert.InRange(accepted, 1, 2999);
    }

    private static byte[] Seed(TemporaryFolder folder)
    {
        string path = folder.File("seed");
        TensorDeclaration[] tensors =
            [new("w.weight", DType.F8E4M3, [4, 3]), new("w.weight_scale_inv", DType.F32, [1, 1]), new("n", DType.BF16, [5]), new("e", DType.I64, [0, 2]), new("s", DType.F64, [])];
        using var writer = new SafetensorsWriter(path, tensors, new Dictionary<string, string> { ["note"] = "ü" });
        foreach (TensorDeclaration tensor in tensors) writer.Write(tensor.Name, new byte[tensor.Bytes]);
        writer.Finish();
        return File.ReadAllBytes(path);
    }

    private static bool Survives(string path)
    {
        try
        {
            using SafetensorsFile file = SafetensorsFile.Open(path);
            foreach (SafetensorsEntry entry in file.Entries)
            {
                byte[] bytes = new byte[entry.Bytes];
                file.CopyBytes(entry.Name, 0, bytes);
                if (entry.Shape.Length <= 4) file.Get(entry.Name);
            }

            return true;
        }
        catch (FathomException e)
        {
            Assert.StartsWith(path, e.Message);
            Assert.DoesNotContain('\n', e.Message);
            return false;
        }
    }

    private void AssertFails(string path, string expected)
    {
        FathomException error = Assert.Throws<FathomException>(() => SafetensorsFile.Open(path));
        output.WriteLine(error.Message.Replace(path, "x.safetensors"));
        Assert.StartsWith(path, error.Message);
        Assert.Contains(expected, error.Message);
        Assert.DoesNotContain('\n', error.Message);
    }
}
