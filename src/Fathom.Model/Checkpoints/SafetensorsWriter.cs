// Writes a safetensors file of any size without holding it: all tensors are declared first, which fixes the header, and then
// their data may come in any order and in pieces. Tensors lie by falling element size, then by name, so that each is aligned
// to its elements, and the same tensors always give the same bytes.
using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.Encodings.Web;
using System.Text.Json;
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>A safetensors file in the making. It appears under its name, whole, on <see cref="Finish"/>; else not at all.</summary>
public sealed class SafetensorsWriter : IDisposable
{
    private const int Piece = 1 << 18; // elements converted at a time
    private readonly AtomicFile file;
    private readonly Dictionary<string, Pending> tensors = new(StringComparer.Ordinal);

    /// <summary>Starts a file, writes its header and reserves its space.</summary>
    /// <param name="path">Where it will be.</param>
    /// <param name="declarations">All tensors, in any order.</param>
    /// <param name="metadata">Texts for __metadata__; transformers expects "format": "pt", which is added.</param>
    /// <exception cref="FathomException">A name occurs twice, the folder is not writable, or the disk is too small.</exception>
    public SafetensorsWriter(string path, IEnumerable<TensorDeclaration> declarations, IReadOnlyDictionary<string, string>? metadata = null)
    {
        TensorDeclaration[] ordered =
            [.. declarations.OrderByDescending(t => t.DType.SizeInBytes()).ThenBy(t => t.Name, StringComparer.Ordinal)];
        byte[] header = BuildHeader(path, ordered, metadata);
        long offset = header.Length;
        foreach (TensorDeclaration tensor in ordered)
        {
            if (!tensors.TryAdd(tensor.Name, new Pending(tensor, offset))) throw new FathomException($"writing {path}: tensor '{tensor.Name}' is declared twice");
            offset += tensor.Bytes;
        }

        file = new AtomicFile(path, offset);
        file.Write(header, 0);
    }

    /// <summary>Appends bytes to a tensor. Different tensors may be written from different threads.</summary>
    /// <exception cref="FathomException">No such tensor, more bytes than it has, or the disk failed.</exception>
    public void Write(string name, ReadOnlySpan<byte> bytes)
    {
        Pending tensor = Find(name);
        if (bytes.Length > tensor.Declaration.Bytes - tensor.Written)
            throw new FathomException($"writing {file.Path}: tensor '{name}' has {tensor.Declaration.Bytes} bytes, more were given");
        file.Write(bytes, tensor.Offset + tensor.Written);
        tensor.Written += bytes.Length;
    }

    /// <summary>Writes bytes of a tensor at a place of it; every byte exactly once, from any thread, in any order.</summary>
    /// <exception cref="FathomException">No such tensor, bytes beyond its end, or the disk failed.</exception>
    internal void WriteAt(string name, long start, ReadOnlySpan<byte> bytes)
    {
        Pending tensor = Find(name);
        if (start < 0 || bytes.Length > tensor.Declaration.Bytes - start)
            throw new FathomException($"writing {file.Path}: tensor '{name}' has {tensor.Declaration.Bytes} bytes, {bytes.Length} were given for byte {start}");
        file.Write(bytes, tensor.Offset + start);
        tensor.AddWritten(bytes.Length);
    }

    /// <summary>Appends elements to a tensor.</summary>
    /// <exception cref="FathomException">No such tensor, an element of another size, more than it has, or the disk failed.</exception>
    public void Write<T>(string name, ReadOnlySpan<T> elements) where T : unmanaged
    {
        if (Unsafe.SizeOf<T>() != Find(name).Declaration.DType.SizeInBytes())
            throw new FathomException($"writing {file.Path}: tensor '{name}' is {Find(name).Declaration.DType}, elements of {typeof(T).Name} were given");
        Write(name, MemoryMarshal.AsBytes(elements));
    }

    /// <summary>Writes a whole tensor from host memory; singles are converted to the declared float type.</summary>
    /// <exception cref="FathomException">No such tensor, another shape, a type that is not converted, or the disk failed.</exception>
    public unsafe void Write(string name, in Tensor tensor)
    {
        TensorDeclaration declaration = Find(name).Declaration;
        if (tensor.Owner is IDeviceMemory) throw new InvalidOperationException($"writing {file.Path}: tensor '{name}' lies in a device's memory; download it first");
        bool convert = tensor.DType == DType.F32 && declaration.DType is DType.BF16 or DType.F16 or DType.F64;
        if (tensor.IsEmpty || !SameShape(tensor.Shape, declaration.Shape) || (tensor.DType != declaration.DType && !convert))
            throw new FathomException($"writing {file.Path}: tensor '{name}' is declared {declaration.DType} {SafetensorsEntry.FormatShape(declaration.Shape)}, {tensor} was given");
        long rows = tensor.IsContiguous ? 1 : tensor.Rows;
        long columns = tensor.IsContiguous ? tensor.Elements : tensor.Columns;
        int size = tensor.DType.SizeInBytes();
        byte[] buffer = ArrayPool<byte>.Shared.Rent(convert ? Piece * 8 : 1);
        for (long row = 0; row < rows; row++)
        {
            byte* source = (byte*)tensor.Address + row * tensor.RowStride * size;
            for (long column = 0; column < columns; column += Piece)
            {
                int count = (int)Math.Min(Piece, columns - column);
                byte* piece = source + column * size;
                ReadOnlySpan<byte> bytes = new(piece, count * size);
                if (convert)
                {
                    Span<byte> converted = buffer.AsSpan(0, count * declaration.DType.SizeInBytes());
                    NumberFormats.ConvertFromSingle(declaration.DType, new ReadOnlySpan<float>(piece, count), converted);
                    bytes = converted;
                }

                Write(name, bytes);
            }
        }

        ArrayPool<byte>.Shared.Return(buffer);
        GC.KeepAlive(tensor.Owner);
    }

    /// <summary>Brings everything to the device under a temporary name, so that <see cref="Finish"/> only renames.</summary>
    /// <exception cref="FathomException">A tensor is incomplete, or the disk failed; nothing was changed.</exception>
    public void Flush()
    {
        foreach (Pending tensor in tensors.Values)
        {
            if (tensor.Written != tensor.Declaration.Bytes)
                throw new FathomException($"writing {file.Path}: tensor '{tensor.Declaration.Name}' has {tensor.Declaration.Bytes} bytes, only {tensor.Written} were given");
        }

        file.Flush();
    }

    /// <summary>Makes the file appear under its name, in place of any that was there.</summary>
    /// <exception cref="FathomException">A tensor is incomplete, or the disk failed; what was there is untouched.</exception>
    public void Finish()
    {
        Flush();
        file.Commit();
    }

    /// <summary>Gives up an unfinished file without a trace.</summary>
    public void Dispose() => file.Dispose();

    private static bool SameShape(Shape shape, long[] declared)
    {
        if (declared.Length > 4 || shape.Rank != Math.Max(1, declared.Length)) return false;
        return shape == new Shape(declared);
    }

    private static byte[] BuildHeader(string path, TensorDeclaration[] ordered, IReadOnlyDictionary<string, string>? metadata)
    {
        var buffer = new ArrayBufferWriter<byte>();
        var options = new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = false };
        using (var writer = new Utf8JsonWriter(buffer, options))
        {
            writer.WriteStartObject();
            writer.WriteStartObject("__metadata__");
            writer.WriteString("format", "pt");
            foreach (var (key, value) in (metadata ?? new Dictionary<string, string>()).OrderBy(p => p.Key, StringComparer.Ordinal))
            {
                if (key != "format") writer.WriteString(key, value);
            }

            writer.WriteEndObject();
            long offset = 0;
            foreach (TensorDeclaration tensor in ordered)
            {
                if (tensor.Name == "__metadata__") throw new FathomException($"writing {path}: no tensor may be called __metadata__");
                writer.WriteStartObject(tensor.Name);
                writer.WriteString("dtype", tensor.DType.SafetensorsName());
                writer.WriteStartArray("shape");
                foreach (long size in tensor.Shape) writer.WriteNumberValue(size);
                writer.WriteEndArray();
                writer.WriteStartArray("data_offsets");
                writer.WriteNumberValue(offset);
                writer.WriteNumberValue(offset = AddSizes(path, offset, tensor.Bytes));
                writer.WriteEndArray();
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        int length = (buffer.WrittenCount + 7) / 8 * 8;
        if (length > SafetensorsHeader.LargestHeader) throw new FathomException($"writing {path}: a header of {length} bytes is too large; write several files");
        var header = new byte[8 + length];
        header.AsSpan().Fill((byte)' ');
        BinaryPrimitives.WriteInt64LittleEndian(header, length);
        buffer.WrittenSpan.CopyTo(header.AsSpan(8));
        return header;
    }

    private static long AddSizes(string path, long offset, long bytes) => offset <= long.MaxValue - SafetensorsHeader.LargestHeader - 8 - bytes
        ? offset + bytes
        : throw new FathomException($"writing {path}: the tensors together are too large for a file");

    private Pending Find(string name) => tensors.TryGetValue(name, out Pending? tensor)
        ? tensor
        : throw new FathomException($"writing {file.Path}: tensor '{name}' was not declared");

    private sealed class Pending(TensorDeclaration declaration, long offset)
    {
        private long written;

        public TensorDeclaration Declaration { get; } = declaration;

        public long Offset { get; } = offset;

        public long Written { get => written; set => written = value; }

        public void AddWritten(long bytes) => Interlocked.Add(ref written, bytes);
    }
}
