// A safetensors file as tensors. Opening reads the header only and maps the rest, so it takes the same few milliseconds for a
// kilobyte and for hundreds of gigabytes; pages come from disk when they are first read.
using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using Fathom.Compute;
using Fathom.Numerics;
using Microsoft.Win32.SafeHandles;

namespace Fathom.Model;

/// <summary>
/// An open safetensors file. Safe on any thread. Tensors stay valid after <see cref="Dispose"/>: the mapping ends with the
/// last of them. The file must not be shortened while it is mapped; replacing it by rename, as
/// <see cref="SafetensorsWriter"/> does, is harmless.
/// </summary>
public sealed class SafetensorsFile : IDisposable
{
    private readonly Dictionary<string, SafetensorsEntry> entries = new(StringComparer.Ordinal);
    private MappedFile? mapping;

    private SafetensorsFile(string path, MappedFile mapping, List<SafetensorsEntry> entries, Dictionary<string, string> metadata)
    {
        Path = path;
        this.mapping = mapping;
        Entries = entries;
        Metadata = metadata;
        foreach (SafetensorsEntry entry in entries) this.entries.Add(entry.Name, entry);
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>All tensors in the order of their data.</summary>
    public IReadOnlyList<SafetensorsEntry> Entries { get; }

    /// <summary>All names in the order of their data.</summary>
    public IEnumerable<string> Names => Entries.Select(entry => entry.Name);

    /// <summary>The texts of __metadata__.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Opens a file: reads and checks its header and maps it.</summary>
    /// <exception cref="FathomException">There is no such file, it cannot be read, or its header is damaged.</exception>
    public static SafetensorsFile Open(string path)
    {
        if (Directory.Exists(path)) throw new FathomException($"{path}: this is a folder, a .safetensors file is expected");
        try
        {
            using SafeFileHandle handle = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, FileOptions.RandomAccess);
            long length = RandomAccess.GetLength(handle);
            byte[] header = ReadHeader(handle, path, length);
            var (entries, metadata) = SafetensorsHeader.Parse(header, path, length);
            return new SafetensorsFile(path, new MappedFile(handle), entries, metadata);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new FathomException($"{path}: there is no such file", e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new FathomException($"{path}: reading it is not permitted; check its access rights", e);
        }
        catch (Exception e) when (e is IOException or ArgumentException or NotSupportedException)
        {
            throw new FathomException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Whether a tensor of that name is there, and where.</summary>
    public bool TryGet(string name, [NotNullWhen(true)] out SafetensorsEntry? entry) => entries.TryGetValue(name, out entry);

    /// <summary>A read-only view of a tensor; nothing is copied. A scalar is [1].</summary>
    /// <exception cref="FathomException">No such tensor, or one of more than four dimensions.</exception>
    /// <exception cref="ObjectDisposedException">The file was disposed of.</exception>
    public Tensor Get(string name)
    {
        SafetensorsEntry entry = Find(name);
        if (entry.Shape.Length > 4) throw new FathomException($"{Path}: tensor '{name}' is {entry}; at most four dimensions are supported");
        MappedFile owner = mapping ?? throw new ObjectDisposedException(nameof(SafetensorsFile));
        return new Tensor(owner.Address + (nint)entry.Offset, entry.DType, new Shape(entry.Shape), owner, readOnly: true);
    }

    /// <summary>A tensor's bytes as a span, from a first byte on; for copying and hashing without a limit on the tensor's size.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="start">First byte of the tensor to copy.</param>
    /// <param name="destination">Receives the bytes.</param>
    /// <exception cref="FathomException">No such tensor, or the range is not inside it.</exception>
    public unsafe void CopyBytes(string name, long start, Span<byte> destination)
    {
        SafetensorsEntry entry = Find(name);
        if (start < 0 || start > entry.Bytes - destination.Length)
            throw new FathomException($"{Path}: bytes {start} to {start + destination.Length} of tensor '{name}', which has {entry.Bytes}");
        MappedFile owner = mapping ?? throw new ObjectDisposedException(nameof(SafetensorsFile));
        new ReadOnlySpan<byte>((void*)(owner.Address + (nint)(entry.Offset + start)), destination.Length).CopyTo(destination);
        GC.KeepAlive(owner);
    }

    /// <summary>A tensor of any float type as singles; for tests and small tables. FP8 codes are not scaled.</summary>
    /// <exception cref="FathomException">No such tensor, or one of another type.</exception>
    public float[] ReadF32(string name)
    {
        SafetensorsEntry entry = Find(name);
        if (entry.DType is not (DType.F32 or DType.F64 or DType.F16 or DType.BF16 or DType.F8E4M3 or DType.F8E5M2 or DType.F8E8M0))
            throw new FathomException($"{Path}: tensor '{name}' is {entry}, a float type is expected");
        var result = new float[ArrayLength(entry)];
        NumberFormats.ConvertToSingle(entry.DType, ReadBytes(entry), result);
        return result;
    }

    /// <summary>A tensor of doubles or of any other float type.</summary>
    /// <exception cref="FathomException">No such tensor, or one of another type.</exception>
    public double[] ReadF64(string name)
    {
        SafetensorsEntry entry = Find(name);
        return entry.DType == DType.F64
            ? MemoryMarshal.Cast<byte, double>(ReadBytes(entry)).ToArray()
            : [.. ReadF32(name).Select(value => (double)value)];
    }

    /// <summary>A tensor of any integer type but U64.</summary>
    /// <exception cref="FathomException">No such tensor, or one of another type.</exception>
    public long[] ReadI64(string name)
    {
        SafetensorsEntry entry = Find(name);
        byte[] bytes = ReadBytes(entry);
        return entry.DType switch
        {
            DType.I64 => MemoryMarshal.Cast<byte, long>(bytes).ToArray(),
            DType.I32 => Widen<int>(bytes, v => v),
            DType.I16 => Widen<short>(bytes, v => v),
            DType.I8 => Widen<sbyte>(bytes, v => v),
            DType.U32 => Widen<uint>(bytes, v => v),
            DType.U16 => Widen<ushort>(bytes, v => v),
            DType.U8 or DType.Bool => Widen<byte>(bytes, v => v),
            _ => throw new FathomException($"{Path}: tensor '{name}' is {entry}, an integer type is expected"),
        };
    }

    /// <summary>A tensor of I32.</summary>
    /// <exception cref="FathomException">No such tensor, or one of another type.</exception>
    public int[] ReadI32(string name)
    {
        SafetensorsEntry entry = Find(name);
        return entry.DType == DType.I32
            ? MemoryMarshal.Cast<byte, int>(ReadBytes(entry)).ToArray()
            : throw new FathomException($"{Path}: tensor '{name}' is {entry}, I32 is expected");
    }

    /// <summary>Gives up the file. Tensors that were taken from it stay valid.</summary>
    public void Dispose() => mapping = null;

    private static byte[] ReadHeader(SafeFileHandle handle, string path, long length)
    {
        if (length < 8) throw new FathomException($"{path}: {length} bytes are too few for a safetensors file; it is empty or cut off, fetch it again");
        Span<byte> prefix = stackalloc byte[8];
        ReadExactly(handle, prefix, 0, path);
        ulong size = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (size > SafetensorsHeader.LargestHeader)
            throw new FathomException($"{path}: a header of {size} bytes is announced, at most {SafetensorsHeader.LargestHeader} are allowed; the file is damaged or no safetensors file");
        if ((long)size > length - 8)
            throw new FathomException($"{path}: a header of {size} bytes is announced, but only {length - 8} follow; the file is cut off, fetch it again");
        var header = new byte[size];
        ReadExactly(handle, header, 8, path);
        return header;
    }

    private static void ReadExactly(SafeFileHandle handle, Span<byte> destination, long offset, string path)
    {
        while (destination.Length > 0)
        {
            int count = RandomAccess.Read(handle, destination, offset);
            if (count == 0) throw new FathomException($"{path}: the file became shorter while it was read");
            destination = destination[count..];
            offset += count;
        }
    }

    private static long[] Widen<T>(byte[] bytes, Func<T, long> widen) where T : unmanaged
    {
        ReadOnlySpan<T> values = MemoryMarshal.Cast<byte, T>(bytes);
        var result = new long[values.Length];
        for (int i = 0; i < result.Length; i++) result[i] = widen(values[i]);
        return result;
    }

    private byte[] ReadBytes(SafetensorsEntry entry)
    {
        var bytes = new byte[ArrayLength(entry) * entry.DType.SizeInBytes()];
        CopyBytes(entry.Name, 0, bytes);
        return bytes;
    }

    private int ArrayLength(SafetensorsEntry entry) => entry.Bytes <= Array.MaxLength
        ? (int)entry.Elements
        : throw new FathomException($"{Path}: tensor '{entry.Name}' of {entry.Bytes} bytes does not fit an array; view it with Get");

    private SafetensorsEntry Find(string name) =>
        entries.TryGetValue(name, out SafetensorsEntry? entry) ? entry : throw new FathomException($"{Path}: there is no tensor '{name}'");
}
